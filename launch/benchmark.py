r"""Measures the input pipeline, the step of training and prediction, and prints one table.

python -m launch.benchmark --gin_file=gin/models/base_augmented_prompt.gin --gin_file=gin/data/richhf18k.gin \
    --gin_file=gin/runs/finetune.gin --gin_file=gin/runs/benchmark.gin

Images and FLOPs a second, the share of what the same device reaches in a product of large matrices and of the
peak that its maker states, and memory. The input pipeline is timed stage by stage, and its bottleneck named.
The run's file (finetune.gin above) says batch, optimizer and microbatches. Often set: BENCHMARK (all, input,
train or predict), DATA_DIR, MIXTURE_OR_TASK_NAME, BATCH_SIZE, EVAL_BATCH_SIZE, NUM_IMAGES, NUM_STEPS.
One process.
"""

from collections.abc import Sequence

from launch.start import start

UNREAD = ("MODEL_DIR",)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `benchmark` as gin configures it; returns the exit status."""
    from launch.command import run

    def job():
        from launch import configurables

        configurables.call_job("launch.benchmark", unread=UNREAD)

    return run("launch.benchmark", __doc__, job, argv, unread=UNREAD)


if __name__ == "__main__":
    start("launch.benchmark", main)
