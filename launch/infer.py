r"""Feedback on a folder of images, a table of image paths and prompts, or record files, as output shards.

python -m launch.infer \
    --gin_file=gin/models/tiny_multi_head.gin --gin_file=gin/data/synthetic.gin \
    --gin_file=gin/runs/infer.gin \
    --gin.MODEL_DIR=build/run --gin.INPUT=pictures --gin.OUTPUT_DIR=build/feedback

Often set: OUTPUTS (('scores', 'heatmaps', 'keywords') or some of them), BATCH_SIZE, SHARD_SIZE,
FORMAT ('parquet', 'jsonl'), MAP_FORMATS (('png', 'npy')), STRICT, CHECKPOINT (a run, or one step of it),
TABLE, ID_COLUMN, IMAGE_COLUMN, PROMPT_COLUMN. Use the model and data files (and SEE_PROMPT) that the run was
trained with; the data itself is not read. What is written: `richhf/inference/shards.py`.
Several processes as for launch.train; each computes shards of its own. Stopped, the same command goes on.
"""

from collections.abc import Sequence

from launch.start import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `infer_job` as gin configures it; returns the exit status."""
    from launch import processes
    from launch.command import run

    def job():
        from launch import configurables

        configurables.call_job("launch.infer_job")

    options, join = processes.OPTIONS, processes.join
    return run("launch.infer", __doc__, job, argv, options=options, prepare=join)


if __name__ == "__main__":
    start("launch.infer", main)
