r"""Measures how fast the input pipeline is, stage by stage, and names the bottleneck.

python -m launch.benchmark --gin_file=gin/models/base_augmented_prompt.gin --gin_file=gin/data/richhf18k.gin \
    --gin_file=gin/runs/benchmark.gin

Often set: BENCHMARK (input), DATA_DIR, MIXTURE_OR_TASK_NAME, BATCH_SIZE, NUM_IMAGES, SPLIT. One process,
one device.
"""

import sys
from collections.abc import Sequence

from launch.command import run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `benchmark` as gin configures it; returns the exit status."""

    def job():
        from launch import configurables

        configurables.CONFIGURABLES["launch.benchmark"]()

    return run("launch.benchmark", __doc__, job, argv)


if __name__ == "__main__":
    sys.exit(main())
