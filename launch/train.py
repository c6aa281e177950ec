r"""Trains a model, or goes on training it.

python -m launch.train --gin_file=gin/models/tiny_multi_head.gin --gin_file=gin/data/synthetic.gin \
    --gin_file=gin/runs/train.gin --gin.MODEL_DIR=build/run --gin.TRAIN_STEPS=2000 \
    --gin.CORRUPT_UNTIL_EXAMPLE=22400

Files: gin/models (MODEL), gin/data (DATA_DIR, TASK_FEATURE_LENGTHS), gin/runs/train.gin; a later one counts,
then --gin.NAME=VALUE. Often set: MODEL_DIR, TRAIN_STEPS, BATCH_SIZE, DATA_DIR, MIXTURE_OR_TASK_NAME,
TASK_FEATURE_LENGTHS, INITIAL_CHECKPOINT_PATH, CORRUPT_UNTIL_EXAMPLE (70 % of TRAIN_STEPS x BATCH_SIZE in the
command above: the end of training sees prompts as they are). Interrupted, the same command goes on. Writes
MODEL_DIR/{checkpoints,train_log.jsonl,config.gin,vocabulary.model} and TensorBoard events.

Several processes as one job: the same command in each, with --coordinator_address=auto on Cloud TPU, SLURM,
Open MPI or Kubernetes, elsewhere --coordinator_address=HOST:PORT --process_count=N --process_index=I.
launch/README.md has recipes for each.

--dry-run checks all that can be checked without compiling, prints what the command would do, and writes
nothing; --dry-run=v5e:4x4 does so for that TPU slice (or cpu:8 for 8 devices) wherever it runs.
"""

from collections.abc import Mapping, Sequence

from launch.start import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `train_job` as gin configures it; returns the exit status."""
    from launch import dry_run, processes
    from launch.command import run

    chosen: dict[str, str] = {}

    def prepare(options: Mapping[str, str]) -> None:
        chosen["dry_run"] = dry_run.prepare(options)

    def job():
        from launch import configurables

        configurables.call_job("launch.train_job", chosen)

    options = processes.OPTIONS | dry_run.OPTIONS
    return run("launch.train", __doc__, job, argv, options=options, bare=dry_run.BARE, prepare=prepare)


if __name__ == "__main__":
    start("launch.train", main)
