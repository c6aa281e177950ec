"""What training survives: `launch.train`, killed again and again, and harmed in other ways.

    python -m tests.benchmarks.soak --cycles 100 --faults

Trains the tiny model, shrunk, on a small synthetic set, each time with the same command, and kills it
(SIGKILL) at a random moment of its start, of compiling, between steps, or while a checkpoint is written. A
run that reaches its last step despite it is compared with one that nobody disturbed: the ids of the examples
of every step, and the parameters bit by bit; then the next run begins. --faults adds what else happens to a
job: SIGTERM, a damaged checkpoint, a full disk, a batch with a NaN, a training that diverges. Ends with 1 if
anything differs. Moments are drawn from --seed, but when a process is there depends on the machine.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from richhf.data.synthetic import synthesize
from richhf.training.digests import DIGESTS_FILE
from richhf.training.example_log import read_examples
from richhf.training.saved_params import find_checkpoint, restore_params, steps_in
from tests.launch.conftest import ROOT, SHRUNK

STARTING, COMPILING, STEPPING, SAVING = PHASES = ("starting", "compiling", "stepping", "saving")
TRACES = r"Traceback|Event loop is closed|Exception ignored"
WRITTEN = "*.orbax-checkpoint-tmp*"
# Runs the command with a stream in which the scores of one image are NaN.
POISONED = """
import sys
import numpy as np
from launch import train, train_job
from richhf.data.training_stream import TrainingStream

class Poisoned(TrainingStream):
    def __next__(self):
        batch = super().__next__()
        if {image!r} in self.filenames:
            batch["scores"] = np.full_like(batch["scores"], np.nan)
        return batch

train_job.train_iterator = Poisoned
sys.exit(train.main(sys.argv[1:]))
"""


def data_file(newest: pathlib.Path) -> pathlib.Path:
    """The largest file of arrays in a checkpoint."""
    return max(newest.rglob("d/*"), key=lambda file: file.stat().st_size)


def flip(file: pathlib.Path) -> None:
    """Changes the byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_without_digests(newest: pathlib.Path) -> None:
    """Damages a checkpoint as older versions wrote it."""
    (newest / DIGESTS_FILE).unlink()
    os.truncate(data_file(newest), 100)


HARMS = {
    "newest checkpoint: file cut short": lambda newest: os.truncate(data_file(newest), 100),
    "newest checkpoint: file cut short, written by an older version": cut_without_digests,
    "newest checkpoint: a flipped bit in an array": lambda newest: flip(data_file(newest)),
    "newest checkpoint: a flipped bit in the input's position": lambda newest: flip(
        newest / "iterator/position.json"
    ),
    "newest checkpoint: an empty manifest": lambda newest: os.truncate(
        newest / "ema_params/manifest.ocdbt", 0
    ),
    "newest checkpoint: a missing _METADATA": lambda newest: (newest / "opt_state/_METADATA").unlink(),
    "newest checkpoint: missing counters": lambda newest: (newest / "run/counters.json").unlink(),
    "newest checkpoint: digests cut short": lambda newest: os.truncate(newest / DIGESTS_FILE, 100),
    "newest checkpoint: a folder is missing": lambda newest: shutil.rmtree(newest / "opt_state"),
    "newest checkpoint: all data is missing": lambda newest: [
        shutil.rmtree(folder) for folder in list(newest.rglob("d"))
    ],
}


class Bench:
    """Runs of one command in a folder.

    Args:
      folder: for data, runs and the cache of compiled programs.
      steps: the last step of a run.
    """

    def __init__(self, folder: pathlib.Path, steps: int):
        self.folder, self.steps = folder, steps
        synthesize(folder / "data", train=40, dev=8, test=8, size=32, seed=0, workers=1)
        (folder / "shrunk.gin").write_text(SHRUNK)
        self._environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, name: str, *arguments: str, script: str | None = None) -> "Run":
        """Starts the command for the run called name, or goes on with it."""
        settings = {
            "MODEL_DIR": self.folder / name,
            "DATA_DIR": self.folder / "data",
            "TRAIN_STEPS": self.steps,
            "EVAL_PERIOD": 0,
            "CHECKPOINT_PERIOD": 4,
            "KEEP_CHECKPOINTS": 2,
            "LOG_EXAMPLES": True,
            "LR_FACTORS": "constant",
            "training.train.log_period": 1,
        }
        files = ("gin/models/tiny_multi_head.gin", "gin/data/synthetic.gin", "gin/runs/train.gin")
        command = [sys.executable, *(("-c", script) if script else ("-m", "launch.train"))]
        command += [f"--gin_file={file}" for file in (*files, self.folder / "shrunk.gin")]
        command += [f"--gin.{key}={value}" for key, value in settings.items()]
        return Run([*command, *arguments], self.folder / name, self._environment)

    def finish(self, name: str, *arguments: str, script: str | None = None) -> "Run":
        """As `start`, to the end."""
        run = self.start(name, *arguments, script=script)
        run.process.wait()
        return run

    def differs(self, name: str, reference: str = "reference") -> tuple[int, list[str]]:
        """How many examples of a run were compared with the undisturbed one's, and what is not the same."""
        taken, expected = (read_examples(self.folder / one) for one in (name, reference))
        problems = ["examples"] * (taken != expected)
        for ema in (True, False):
            found, wanted = (
                jax.tree.leaves_with_path(restore_params(self.folder / one, self.steps, ema=ema))
                for one in (name, reference)
            )
            same = len(found) == len(wanted) and all(
                a == b and x.dtype == y.dtype and np.array_equal(x, y)
                for (a, x), (b, y) in zip(found, wanted, strict=True)
            )
            problems += [] if same else ["moving average" if ema else "parameters"]
        return sum(map(len, expected.values())), problems


class Run:
    """One start of the command."""

    def __init__(self, command: list[str], folder: pathlib.Path, environment: dict[str, str]):
        self.folder, self.begin = folder, time.monotonic()
        self._log = folder.parent / f"{folder.name}.log"
        self._old = set(folder.glob(f"checkpoints/{WRITTEN}"))
        # By way of another process, which no limit on this one's files concerns.
        with self._log.open("w") as log:
            self._scribe = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        with self._scribe.stdin as pipe:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=pipe)

    @property
    def errors(self) -> str:
        """What it said."""
        if self.process.poll() is not None:
            self._scribe.wait()
        return self._log.read_text()

    def steps(self) -> int:
        """The last step that took its examples."""
        return max(read_examples(self.folder), default=0)

    def phase(self) -> str:
        """What it does."""
        if set(self.folder.glob(f"checkpoints/{WRITTEN}")) - self._old:
            return SAVING
        if "compiling" not in self.errors:
            return STARTING
        # Said when the first step is done.
        return STEPPING if re.search(r"\bstep +\d+/", self.errors) else COMPILING

    def wait(self, phase: str) -> bool:
        """Waits for a phase; False where the run ends before."""
        while self.process.poll() is None:
            if self.phase() == phase:
                return True
            time.sleep(0.001)
        return False

    def wait_for_step(self, step: int) -> bool:
        """Waits until a step is begun, and a checkpoint is there; False where the run ends before."""
        while self.process.poll() is None:
            if self.steps() >= step and len(steps_in(self.folder / "checkpoints")) > 1:
                return True
            time.sleep(0.005)
        return False

    def kill(self) -> str:
        """Kills it; returns what it did then."""
        self.process.send_signal(signal.SIGSTOP)
        phase = self.phase()
        self.process.kill()
        self.process.wait()
        return phase


def soak(bench: Bench, cycles: int, chance: random.Random) -> tuple[dict[str, int], bool]:
    """Kills, restarts and compares; returns counts, and whether all runs were as the undisturbed one."""
    reference = bench.start("reference")
    spent = {}
    for phase in PHASES[1:3]:
        reference.wait(phase)
        spent[phase] = time.monotonic() - reference.begin
    reference.process.wait()
    if reference.process.returncode:
        raise SystemExit(reference.errors)
    windows = {
        STARTING: spent[COMPILING],
        COMPILING: spent[STEPPING] - spent[COMPILING],
        STEPPING: 1.5,
        SAVING: 0.2,
    }
    counts, good, number = collections.Counter(), True, 1
    while sum(counts[f"killed while {phase}"] for phase in PHASES) < cycles:
        name = f"run{number}"
        run = bench.start(name)
        counts["starts"] += 1
        phase = chance.choice(PHASES)
        if run.wait(phase):
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(chance.uniform(0, windows[phase]))
        if run.process.poll() is None:
            done = run.kill()
            counts[f"killed while {done}"] += 1
            print(f"killed while {done} at step {run.steps()}", flush=True)
            continue
        if run.process.returncode:
            raise SystemExit(run.errors)
        good &= finished(bench, name, counts)
        number += 1
    counts["starts"] += 1
    if bench.finish(f"run{number}").process.returncode:
        raise SystemExit(bench.folder / f"run{number}.log")
    return counts, finished(bench, f"run{number}", counts) and good


def finished(bench: Bench, name: str, counts: collections.Counter) -> bool:
    """Counts a run that has reached its last step and is removed; whether it is as the undisturbed one."""
    examples, problems = bench.differs(name)
    counts["runs finished"] += 1
    counts["examples compared"] += examples
    print(f"{name} finished: {', '.join(problems) or 'nothing'} differs", flush=True)
    if not problems:
        shutil.rmtree(bench.folder / name)
    return not problems


def faults(bench: Bench) -> list[tuple[str, str, bool]]:
    """What else may happen; rows of fault, what happened, and whether that is as it should be."""
    rows = []

    def row(fault: str, name: str, run: Run, code: int, said: str) -> None:
        message = next((line for line in run.errors.splitlines() if re.search(said, line)), None)
        again = bench.finish(name)
        problems = ["end"] if again.process.returncode else bench.differs(name)[1]
        problems += ["traces"] if re.search(TRACES, run.errors) else []
        well = run.process.returncode == code and message is not None and not problems
        shown = (message or run.errors[-300:]).replace(str(bench.folder) + os.sep, "")
        outcome = f"exit {run.process.returncode}, `{shown[:200]}`; same command again: "
        rows.append((fault, outcome + (f"{', '.join(problems)} differ" if problems else "same result"), well))
        print(rows[-1], flush=True)

    run = bench.start("sigterm")
    run.wait_for_step(10)
    run.process.terminate()
    run.process.wait()
    row("SIGTERM", "sigterm", run, 143, "SIGTERM: saved step")

    victim = bench.start("victim")
    victim.wait_for_step(14)
    victim.kill()
    for number, (fault, harm) in enumerate(HARMS.items()):
        name = f"harm{number}"
        shutil.copytree(victim.folder, bench.folder / name)
        harm(find_checkpoint(bench.folder / name))
        row(fault, name, bench.finish(name), 0, "is damaged, set aside as")

    run = bench.start("full")
    run.wait_for_step(10)
    largest = max(file.stat().st_size for file in run.folder.glob("checkpoints/*/*/d/*"))
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (largest // 2, resource.RLIM_INFINITY))
    run.process.wait()
    row("disk full", "full", run, 1, "could not be written")

    image = read_examples(bench.folder / "reference")[7][0]
    run = bench.finish("poisoned", script=POISONED.format(image=image))
    skipped = run.errors.count("is skipped, not finite: ")
    expected = sum(image in taken for taken in read_examples(run.folder).values())
    counters = json.loads((find_checkpoint(run.folder) / "run/counters.json").read_text())
    well = run.process.returncode == 0 and skipped == expected == counters["skipped_steps"]
    rows.append(
        ("batch with a NaN", f"{skipped} of {bench.steps} steps skipped, with its image in {expected}", well)
    )

    run = bench.finish("diverged", "--gin.LEARNING_RATE=1e30")
    said = run.errors.splitlines()[-1]
    well = run.process.returncode == 1 and "not finite at step" in said and "Its examples: " in said
    rows.append(("LEARNING_RATE of 1e30", f"exit {run.process.returncode}, `{said[:300]}`", well))
    return rows


def main() -> int:
    """Prints tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100, help="kills (default 100)")
    parser.add_argument("--faults", action="store_true", help="and other faults")
    parser.add_argument("--steps", type=int, default=60, help="of a run (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments (default: drawn, and printed)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"--seed {seed}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="richhf-soak-"))
    bench = Bench(folder, arguments.steps)
    counts, good = soak(bench, arguments.cycles, random.Random(seed))
    rows = faults(bench) if arguments.faults else []
    print("\n| | |\n|---|---|")
    for name in (
        *(f"killed while {phase}" for phase in PHASES),
        "starts",
        "runs finished",
        "examples compared",
    ):
        print(f"| {name} | {counts[name]} |")
    print(f"| no example repeated or dropped, parameters bitwise equal | {'yes' if good else 'NO'} |")
    if rows:
        print("\n| fault | what happened | as it should |\n|---|---|---|")
        for fault, outcome, well in rows:
            print(f"| {fault} | {outcome} | {'yes' if well else 'NO'} |")
    if not good or not all(well for *_, well in rows):
        print(f"\nThe runs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
