"""The same numbers on any mesh, in any number of processes and microbatches.

    python -m tests.benchmarks.equality --folder /tmp/equality

Trains the tiny multi-head model, shrunk, for five steps of 16 images by `launch.train`, on one CPU device,
then on eight virtual ones as data, fsdp and model axes in every way, in one, two and four processes that
talk over loopback, with one, two and four microbatches. Prints for each the largest difference of a step's
loss from that on one device, relative, and the distance of the last parameters, relative to their norm;
ends with status 1 if a loss is further than 1e-4 away. About ten minutes on two cores.
"""

import argparse
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import numpy as np

from richhf.data.synthetic import synthesize
from richhf.training.run_log import read_log
from richhf.training.saved_params import restore_params
from tests.launch.conftest import ROOT, SHRUNK

STEPS, BATCH, DEVICES, TOLERANCE = 5, 16, 8, 1e-4


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to train: mesh, processes, microbatches."""

    data: int = 1
    fsdp: int = 1
    model: int = 1
    processes: int = 1
    microbatches: int = 1

    @property
    def devices(self) -> int:
        """Devices of all processes."""
        return self.data * self.fsdp * self.model


CASES = [
    Case(),
    Case(data=8),
    Case(fsdp=8),
    Case(data=2, model=4),
    Case(data=2, fsdp=2, model=2),
    Case(microbatches=2),
    Case(microbatches=4),
    Case(data=2, fsdp=2, model=2, microbatches=2),
    Case(data=2, fsdp=2, model=2, microbatches=4),
    Case(data=8, processes=2),
    Case(fsdp=8, processes=2),
    Case(data=2, model=4, processes=2, microbatches=2),
    Case(data=2, fsdp=2, model=2, processes=2),
    Case(data=2, fsdp=2, model=2, processes=4, microbatches=2),
    Case(data=2, model=4, processes=4),
]


def train(case: Case, folder: pathlib.Path, common: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Losses of every step, and all parameters one after another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [
        *common,
        f"--gin.MODEL_DIR={folder}",
        f"--gin.NUM_MICROBATCHES={case.microbatches}",
        *(f"--gin.Partitioner.{axis}={getattr(case, axis)}" for axis in ("data", "fsdp", "model")),
    ]
    devices = f"--xla_force_host_platform_device_count={case.devices // case.processes}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices, "TF_CPP_MIN_LOG_LEVEL": "3"}
    running = []
    for index in range(case.processes):
        joined = [f"--coordinator_address={address}", f"--process_count={case.processes}"]
        several = [*joined, f"--process_index={index}"] if case.processes > 1 else []
        command = [sys.executable, "-m", "launch.train", *flags, *several]
        running.append(
            subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate()[1] for process in running]
    if any(process.returncode for process in running):
        sys.exit(f"{case} failed:\n" + "\n".join(errors))
    losses = [line["loss"] for line in read_log(folder) if "loss" in line]
    params = restore_params(folder, ema=False)
    return np.array(losses), np.concatenate([np.ravel(leaf) for leaf in leaves(params)])


def leaves(tree: dict) -> list[np.ndarray]:
    """Arrays of nested dicts, in the order of their names."""
    return [
        leaf
        for name in sorted(tree)
        for leaf in (leaves(tree[name]) if isinstance(tree[name], dict) else [tree[name]])
    ]


def main() -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, help="a new folder in it is used, and removed after")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="equality-", dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        synthesize(folder / "data", train=64, dev=8, test=8, size=32, seed=0, workers=1)
        shrunk = folder / "shrunk.gin"
        shrunk.write_text(SHRUNK + f"BATCH_SIZE = {BATCH}\nPartitioner.num_devices = None\n")
        common = [
            "--gin_file=gin/models/tiny_multi_head.gin",
            "--gin_file=gin/data/synthetic.gin",
            "--gin_file=gin/runs/train.gin",
            f"--gin_file={shrunk}",
            f"--gin.DATA_DIR={folder / 'data'}",
            f"--gin.TRAIN_STEPS={STEPS}",
            "--gin.training.train.log_period=1",
            "--gin.EVAL_PERIOD=0",
            "--gin.LR_FACTORS=constant",
        ]
        print("processes  data x fsdp x model  microbatches  loss of step 5  loss differs by  parameters by")
        worst = 0.0
        for index, case in enumerate(CASES):
            losses, params = train(case, folder / f"run{index}", common)
            if not index:
                true_losses, true_params = losses, params
            apart = float(np.max(np.abs(losses / true_losses - 1)))
            distance = np.linalg.norm(params - true_params) / np.linalg.norm(true_params)
            worst = max(worst, apart)
            mesh = f"{case.data} x {case.fsdp} x {case.model}"
            print(
                f"{case.processes:>9}  {mesh:>19}  {case.microbatches:>12}  {losses[-1]:>14.5f}  "
                f"{apart:>15.1e}  {distance:>13.1e}",
                flush=True,
            )
    print(f"largest difference of a loss: {worst:.1e}; allowed: {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
