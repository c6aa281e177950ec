r"""Writes a trained model in a format for use elsewhere, and checks that it predicts the same there.

python -m launch.export \
    --gin_file=gin/models/tiny_multi_head.gin --gin_file=gin/data/synthetic.gin \
    --gin_file=gin/runs/export.gin \
    --gin.MODEL_DIR=build/run --gin.FORMAT=native --gin.EXPORT_DIR=build/exported \
    --gin.CALIBRATE_ON=DATA/dev.tfrecord

FORMAT: native (for richhf.load), stablehlo (JAX alone), saved_model (TensorFlow alone), onnx (ONNX Runtime).
Keywords are decoded inside; the batch may be of any size. CALIBRATE_ON, records with labels, best of the dev
split, calibrates the verdicts `has_artifact` and `has_misalignment`; their error rates are measured on the
records of REPORT_ON, or by cross-validation. Nothing else is read of the data. DEMONSTRATION is a sentence
that marks the model as a demonstration. Often set: CHECKPOINT (a run, or one step of it), CHECKPOINT_STEP,
VOCABULARY_FILE. Use the model and data files (and SEE_PROMPT) that the run was trained with. A native folder
says all that itself:

python -m launch.export --gin_file=gin/runs/export.gin \
    --gin.CHECKPOINT=FOLDER --gin.FORMAT=onnx --gin.EXPORT_DIR=build/exported
"""

from collections.abc import Sequence

from launch.start import start

UNREAD = ("MODEL", "TASK_FEATURE_LENGTHS", "MODEL_DIR")
"""What a native folder does without; the job asks for them where they are needed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job `export_job` as gin configures it; returns the exit status."""
    from launch.command import run

    def job() -> None:
        from launch import configurables

        configurables.call_job("launch.export_job")

    return run("launch.export", __doc__, job, argv, unread=UNREAD)


if __name__ == "__main__":
    start("launch.export", main)
