r"""Compiles the real training or prediction step for a TPU slice, without a TPU: does it fit, at what cost?

python -m launch.precompile --gin_file=gin/models/base_augmented_prompt.gin --gin_file=gin/runs/finetune.gin \
    --topology=v5e:4x4

--topology=v4:2x2x4, v5e:4x4, v5p:..., v6e:... (needs `pip install -e '.[tpu]'`) or cpu:8, virtual devices.
--step=train (default) or predict. Files and --gin.NAME=VALUE as for launch.train; no data is read; without a
data file, lengths are those of gin/data/richhf18k.gin.

Prints how parameters are split, memory of a chip by use, "fits" or what to change, FLOPs, an estimated time.
Exit status 0: it fits. 1: it does not. 2: a configuration or a topology that cannot work.
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence

from launch.start import start

DATA_FILE = pathlib.Path(__file__).parents[1] / "gin/data/richhf18k.gin"
UNREAD = ("MODEL_DIR", "DATA_DIR", "REGISTER_TASKS")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `precompile` as gin configures it; returns the exit status."""
    from launch.chips import Topology, parse_topology
    from launch.command import run

    chosen: dict[str, Topology | str] = {}

    def prepare(options: Mapping[str, str]) -> None:
        topology = parse_topology(options["--topology"])
        topology.prepare()
        chosen.update(topology=topology, step=options["--step"])

    def job() -> int:
        from launch import configurables

        return configurables.call_job("launch.precompile", chosen, UNREAD)

    options = {"--topology": "v5e:4x4", "--step": "train"}
    argv = [f"--gin_file={DATA_FILE}", *(sys.argv[1:] if argv is None else argv)]
    return run("launch.precompile", __doc__, job, argv, options=options, prepare=prepare, unread=UNREAD)


if __name__ == "__main__":
    start("launch.precompile", main)
