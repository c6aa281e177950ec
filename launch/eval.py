r"""Evaluates checkpoints on a split: tables, metrics.json, metrics.md, report.html and examples.jsonl.

python -m launch.eval \
    --gin_file=gin/models/tiny_multi_head.gin --gin_file=gin/data/synthetic.gin --gin_file=gin/runs/eval.gin \
    --gin.MODEL_DIR=build/run

Often set: CHECKPOINT (a run, or one step of it; MODEL_DIR by default), CHECKPOINT_STEP (a step; the latest by
default; 'all'; 'follow': each as the training writes it, beside it, until its last step or FOLLOW_TIMEOUT
seconds without a new one), SPLIT, EVAL_OUTPUT_DIR, BATCH_SIZE, DATA_DIR, NUM_EXAMPLES,
COMPARE ({'name': 'other/metrics.json'}). Use the files (and SEE_PROMPT) that the run was trained with.
Of several checkpoints results are in EVAL_OUTPUT_DIR/step_<step>, and steps.md compares them; run again, it
goes on. Curves: tensorboard --logdir EVAL_OUTPUT_DIR. Several processes as for launch.train.
"""

from collections.abc import Sequence

from launch.start import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `evaluate` as gin configures it; returns the exit status."""
    from launch import processes
    from launch.command import run

    def job():
        from launch import configurables

        configurables.call_job("launch.evaluate")

    options, join = processes.OPTIONS, processes.join
    return run("launch.eval", __doc__, job, argv, options=options, prepare=join)


if __name__ == "__main__":
    start("launch.eval", main)
