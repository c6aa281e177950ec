"""The export job: a checkpoint or a native folder, in another format."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from launch.checkpoint_source import (
    find_weights,
    load_weights,
    recorded_settings,
    run_folder,
    step_number,
)
from launch.data_fit import VOCABULARY_FILE, check_lengths
from launch.gin_config import AS_TRAINED, CONFIG_FILE, check_recorded
from launch.infer_job import read_vocabulary
from richhf.data.records import Record, list_record_files, read_records
from richhf.inference.export import FORMATS, check_installed, export_model
from richhf.inference.export_folder import check_apart, check_replaceable
from richhf.inference.model_card import METRICS, verdict_tables
from richhf.inference.predictor import Predictor
from richhf.inference.thresholds import calibrate, predict_cases
from richhf.models.batch_spec import batch_spec
from richhf.models.choices import check_choice
from richhf.pretrained.native import NativeModel, Settings, is_native, read_model
from richhf.training.partitioning import Partitioner
from richhf.training.programs import param_target
from richhf.training.saved_params import SUBFOLDER

METRICS_FILE, METRICS_TABLES = "metrics.json", "metrics.md"


def export_job(
    *,
    model: Any,
    checkpoint: str | None,
    export_dir: str,
    file_format: str,
    task_feature_lengths: Mapping[str, int] | None,
    step: int | None = None,
    vocabulary_file: str | None = None,
    see_prompt: bool = True,
    calibrate_on: str | None = None,
    report_on: str | None = None,
    demonstration: str | None = None,
) -> float:
    """Writes a model in another format, and checks it there (`richhf.inference.export`).

    Args:
      model: the `RichFeedbackModel` that was trained; not needed for a native folder.
      checkpoint: a run's folder, one step's, or a native model folder.
      export_dir: a new or empty folder, or an export with no other files in it, which is replaced;
        neither over the checkpoint or its run, nor among the run's checkpoints.
      file_format: `native`, `stablehlo`, `saved_model` or `onnx`.
      task_feature_lengths: as in training; not needed for a native folder.
      step: which step of the run; None: the latest.
      vocabulary_file: a SentencePiece model; None: the one that training kept beside the checkpoints.
      see_prompt: as in training.
      calibrate_on: a record file with labels, best of the dev split, or a folder of them: verdicts are
        calibrated on it (`richhf.inference.thresholds`), and what comes of it is stored with the model.
        None: the model keeps its own.
      report_on: other records, to measure the verdicts' error rates on; None: they are measured on those of
        `calibrate_on` by cross-validation.
      demonstration: why the model is a demonstration only, one sentence that is shown wherever the model is
        used; None: the model keeps its own.

    Returns:
      The largest difference between predictions of the export and of the model.
    """
    check_choice("FORMAT", file_format, tuple(FORMATS))
    check_installed(file_format)
    if checkpoint is None:
        raise ValueError(
            "MODEL_DIR has no value: give the run (--gin.MODEL_DIR=RUN), or a native model folder as "
            "--gin.CHECKPOINT=FOLDER."
        )
    check_apart(export_dir, checkpoint)
    check_replaceable(export_dir)
    if report_on is not None and calibrate_on is None:
        raise ValueError("REPORT_ON measures what is calibrated; expected CALIBRATE_ON with it.")
    labelled = list_record_files(calibrate_on) if calibrate_on is not None else ()
    held_out = list_record_files(report_on) if report_on is not None else ()
    if not os.path.lexists(checkpoint):
        raise ValueError(
            f"{checkpoint} does not exist; expected a run (MODEL_DIR), or a native model folder (CHECKPOINT)."
        )
    if is_native(checkpoint):
        native = read_model(checkpoint)
    elif model is None or task_feature_lengths is None:
        raise ValueError(
            f"{checkpoint} is no native model folder, so its model is not known: MODEL and "
            "TASK_FEATURE_LENGTHS have no value. Give the run's files, gin/models/*.gin and gin/data/*.gin."
        )
    else:
        weights = find_weights(checkpoint, step)
        if weights.parent.name == SUBFOLDER:
            check_apart(export_dir, run_folder(weights))
            check_apart(export_dir, weights.parent, may_lie_in=False)
        else:
            check_apart(export_dir, weights, may_lie_in=False)
        native = read_run(
            model,
            weights,
            task_feature_lengths,
            vocabulary_file=vocabulary_file,
            see_prompt=see_prompt,
        )
    if labelled:
        native = calibrate_model(native, labelled, held_out)
    elif not native.settings.thresholds:
        print("not calibrated, so that there are no verdicts (--gin.CALIBRATE_ON=DATA/dev.tfrecord)")
    if demonstration is not None:
        settings = dataclasses.replace(native.settings, demonstration=" ".join(demonstration.split()))
        native = dataclasses.replace(native, settings=settings)
    difference = export_model(native, export_dir, file_format)
    size = sum(file.stat().st_size for file in Path(export_dir).rglob("*") if file.is_file())
    print(f"predicts as the model does: largest difference {difference:.1e}")
    print(f"{file_format}, {size / 1e6:,.1f} MB\n{export_dir}", flush=True)
    return difference


def calibrate_model(native: NativeModel, files: Sequence[Path], held_out: Sequence[Path] = ()) -> NativeModel:
    """Returns the model with verdicts that are calibrated on records, and prints their error rates.

    Args:
        native: the model.
        files: records to calibrate on.
        held_out: records to measure error rates on; none: by cross-validation.

    Raises:
        ValueError: nothing can be calibrated: there are no maps or labels, or all or none have a fault.
    """
    named = _named(files)
    predictor = Predictor(native)
    cases = predict_cases(predictor, _records(files, "calibrate"))
    tested = predict_cases(predictor, _records(held_out, "report")) if held_out else None
    count, calibration = len(cases), calibrate(cases, tested)
    if not calibration.rules:
        raise ValueError(
            f"Nothing can be calibrated on the {count} records of {named}. Expected records with maps or "
            "labels, some with and some without faults that a majority of the annotators marked "
            "(CALIBRATE_ON)."
        )
    report = dict(calibration.report) | {"calibrated_on": named}
    if held_out:
        report["reported_on"] = _named(held_out)
    settings = dataclasses.replace(
        native.settings,
        thresholds=calibration.thresholds,
        rules=calibration.rules,
        calibration=report,
    )
    print(f"verdicts, calibrated on {count} records of {named}:")
    print(verdict_tables(settings))
    return dataclasses.replace(native, settings=settings)


def _named(files: Sequence[Path]) -> str:
    names = [file.name for file in files]
    return ", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]} ({len(names)} files)"


def _records(files: Sequence[Path], what: str) -> Iterator[Record]:
    count = sum(1 for _ in read_records(files))
    return iter(tqdm(read_records(files), total=count, desc=what, unit=" images"))


def read_run(
    model: Any,
    folder: Path,
    task_feature_lengths: Mapping[str, int],
    *,
    vocabulary_file: str | None = None,
    see_prompt: bool = True,
) -> NativeModel:
    """A model with all that belongs to it from one step of a run; arguments as of `export_job`."""
    check_lengths(task_feature_lengths)
    run_dir = run_folder(folder)
    check_recorded(AS_TRAINED, run_dir / CONFIG_FILE)
    recorded = recorded_settings(run_dir) or Settings(task_feature_lengths["inputs"])
    read_vocabulary(vocabulary_file, run_dir, model)
    specs = batch_spec(model.config, task_feature_lengths, 1, labels=())
    partitioner = Partitioner(devices=jax.local_devices()[:1])
    target = param_target(model, partitioner, {name: spec.shape for name, spec in specs.items()})
    provenance: dict[str, Any] = {"run": run_dir.resolve().name, "step": step_number(folder)}
    if metrics := read_metrics(run_dir, step_number(folder)):
        provenance[METRICS] = metrics
    return NativeModel(
        model,
        jax.device_get(load_weights(folder, target)),
        Path(vocabulary_file or run_dir / VOCABULARY_FILE).read_bytes(),
        Settings(
            task_feature_lengths["inputs"],
            see_prompt,
            provenance=provenance,
            prompt_form=recorded.prompt_form,
            task_strings=recorded.task_strings,
        ),
    )


def read_metrics(run_dir: Path, step: int) -> str:
    """The tables that launch.eval left in a run's folder, Markdown; empty if they are of another step."""
    numbers, tables = run_dir / METRICS_FILE, run_dir / METRICS_TABLES
    if not numbers.is_file() or not tables.is_file():
        return ""
    evaluated = json.loads(numbers.read_text(encoding="utf-8")).get("step")
    return tables.read_text(encoding="utf-8").strip() if evaluated == step else ""
