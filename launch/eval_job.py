"""The evaluation job: checkpoints of a run over a split, and the files that say how good they are."""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import seqio
from jax.experimental import multihost_utils

from launch.checkpoint_source import check_prompts, load_weights, step_number
from launch.checkpoint_steps import ALL, FOLLOW, check_step, checkpoint_folders, find_run
from launch.data_fit import (
    VOCABULARY_FILE,
    check_data_fit,
    check_rows,
    check_vocabulary,
    explained_reading,
    register_task,
)
from launch.eval_program import EvalProgram
from launch.eval_results import Results
from launch.gin_config import AS_TRAINED, CONFIG_FILE, check_recorded, macros
from richhf.data.datasets import DatasetConfig, eval_batches, eval_dataset, split_tasks
from richhf.data.prompts import PLAIN
from richhf.data.records import read_records
from richhf.data.targets import TargetVocabulary
from richhf.evaluation import (
    Evaluator,
    Gallery,
    MeanFeedback,
    Measure,
    noise_ceiling,
    read_comparisons,
    record_batches,
)
from richhf.models.batch_spec import batch_spec
from richhf.training.damage import is_damage, one_line
from richhf.training.partitioning import Partitioner
from richhf.training.programs import param_target
from tasks.sources import RecordSource
from tasks.tokens import target_vocabulary

OK, LEFT_OUT, FAILED = range(3)  # of reading a checkpoint; of several processes the worst counts
DELETION = 10.0  # seconds that the deletion of a checkpoint may take


def evaluate(
    *,
    model: Any,
    checkpoint: str,
    output_dir: str,
    dataset_cfg: DatasetConfig,
    step: int | str | None = None,
    follow_timeout: float = 3600.0,
    register_tasks: Callable[[], Any] | None = None,
    partitioner: Partitioner | None = None,
    baseline_split: str = "train",
    compare: Mapping[str, str] | None = None,
    gallery: Callable[[], Gallery] = Gallery,
    title: str = "RAHF",
) -> dict:
    """Evaluates checkpoints: prints tables and writes the files that `launch.eval_results` lists.

    Of several processes each predicts its share of every batch, and the first one writes. What does not
    depend on the checkpoint (the data set, the baseline, the noise ceiling, the compiled programs) is made
    once. Of several checkpoints those that have results already are not evaluated again, and one that the
    training removes before it is read is noted and left out.

    Args:
      model: the `RichFeedbackModel` that was trained.
      checkpoint: a run's folder, or one step's.
      output_dir: where to write.
      dataset_cfg: what to evaluate on.
      step: which step of the run; None: the latest; `all`: each there is; `follow`: each as it comes, until
        the run's last.
      follow_timeout: following, seconds to wait for the next checkpoint.
      register_tasks: registers the tasks over their data folder.
      partitioner: where arrays live; None splits batches over all devices.
      baseline_split: the split whose mean labels are the baseline.
      compare: other runs' metrics.json by name, for the tables.
      gallery: makes what collects the examples to show.
      title: the report's headline.

    Returns:
      The content of the last metrics.json; empty if nothing was evaluated.
    """
    check_step(step)
    register_task(register_tasks, dataset_cfg)
    provider = check_data_fit(model, dataset_cfg)
    labels = record_files(provider, dataset_cfg.split)
    several = step in (ALL, FOLLOW)
    run_dir = find_run(checkpoint, step)
    check_trained_alike(provider, run_dir)
    partitioner = partitioner or Partitioner()
    partitioner.check_batch_size(dataset_cfg.batch_size)
    baseline_files = record_files(provider, baseline_split)
    count = sum(1 for _ in itertools.islice(read_records(labels), dataset_cfg.num_examples))
    comparisons: dict[str, dict] = {}
    if compare:
        comparisons["compare"] = read_comparisons(compare, split=dataset_cfg.split, examples=count)
    dataset = eval_dataset(dataset_cfg)
    check_rows(model, dataset.element_spec["encoder_input_tokens"].shape, dataset_cfg.mixture_or_task_name)
    inputs = input_shapes(model, dataset_cfg)
    target = param_target(model, partitioner, inputs)
    program = EvalProgram(model, partitioner, target, tuple(inputs), dataset_cfg.batch_size)
    primary = jax.process_index() == 0
    results = Results(
        output_dir,
        settings={
            "task": dataset_cfg.mixture_or_task_name,
            "task_feature_lengths": dict(dataset_cfg.task_feature_lengths),
            "split": dataset_cfg.split,
            "examples": count,
            "fingerprint": fingerprint(
                labels, baseline_files, [checkpoint, baseline_split, comparisons, repr(model)]
            ),
        },
        several=several,
        title=title,
        primary=primary,
    )

    def note(text):
        if primary:
            print(text, flush=True)

    vocabulary = target_vocabulary(provider.output_features["targets"].vocabulary)
    evaluator, metrics = None, {}
    for folder in checkpoint_folders(
        checkpoint, step, is_done=results.is_done, timeout=follow_timeout, note=note
    ):
        check_trained_alike(provider, run_dir)
        params = load_params(folder, target, note if several else None)
        if params is None:
            continue
        if evaluator is None:
            note(f"baseline and noise ceiling of {count} examples of {dataset_cfg.split} ...")
            evaluator = Evaluator(
                lambda: eval_batches(dataset_cfg, (0, 1), dataset=dataset),
                vocabulary=vocabulary,
                prompt_form=macros().get("PROMPT_FORM", PLAIN),
                mean=mean_feedback(baseline_files),
                noise_ceiling=ceiling(labels, dataset_cfg.num_examples, program.measure, vocabulary),
                num_examples=count,
                progress=primary,
                measure=program.measure,
                fetch=program.fetch,
            )
        with explained_reading(provider, dataset_cfg.split), results.examples(folder) as write_examples:
            evaluation = evaluator.evaluate(
                program.predict(params),
                gallery=gallery(),
                on_values=write_examples,
                title=f"step {step_number(folder)}",
            )
        # Not kept while the next ones are read.
        del params
        metrics = results.write(folder, evaluation, comparisons)
    results.close()
    return metrics


def load_params(folder: Path, target: Any, note: Callable[[str], None] | None = None) -> Any:
    """A checkpoint's parameters, placed like target.

    Args:
      folder: of one step.
      target: jax.ShapeDtypeStruct with shardings.
      note: prints why a checkpoint is left out: it was deleted before it was read, or is damaged. The result
        is then None. Without it both are errors.

    Raises:
      ValueError: the checkpoint is not one of this model; without note, or it is damaged.
    """
    params, error = None, None
    try:
        params = load_weights(folder, target)
    except Exception as caught:
        error = caught
    outcome = OK if error is None else LEFT_OUT if note is not None and is_damage(error) else FAILED
    if jax.process_count() > 1:
        outcome = int(np.max(multihost_utils.process_allgather(np.int32(outcome))))
    if outcome == OK:
        return params
    if outcome == FAILED:
        raise error or ValueError(f"another process could not read {folder}: its message says why.")
    if is_deleted(folder):
        reason = "was deleted before it was read"
    else:
        reason = f"is damaged ({one_line(error)})" if error else "could not be read by another process"
    if note:
        note(f"step {step_number(folder)}: the checkpoint {reason}; left out")
    return None


def is_deleted(folder: Path) -> bool:
    """Whether a folder is gone, or goes within seconds: what keeps the last N empties it file by file."""
    until = time.monotonic() + DELETION
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return not folder.exists()


def check_trained_alike(provider: seqio.Task | seqio.Mixture, run_dir: Path) -> None:
    """Checks vocabulary and settings against those that a run was trained with, as far as it has begun."""
    check_vocabulary(provider, run_dir / VOCABULARY_FILE)
    check_recorded(AS_TRAINED, run_dir / CONFIG_FILE)
    check_prompts(run_dir)


def fingerprint(labels: list[Path], baseline_files: list[Path], settings: list[Any]) -> str:
    """A hash of what results depend on besides the checkpoint: all labels, of other files the sizes."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in labels:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for path in baseline_files:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def mean_feedback(files: list[Path]) -> MeanFeedback:
    """The mean labels of record files."""
    mean = MeanFeedback()
    for arrays in record_batches(read_records(files)):
        mean.add(arrays)
    return mean


def ceiling(
    labels: list[Path], num_examples: int | None, measure: Measure, vocabulary: TargetVocabulary
) -> dict | None:
    """The noise ceiling, where the noiseless truth lies beside the labels."""
    truth = [path.parent / "truth" / path.name for path in labels]
    if not all(path.exists() for path in truth):
        return None
    return noise_ceiling(
        read_records(truth),
        read_records(labels),
        num_examples=num_examples,
        measure=measure,
        vocabulary=vocabulary,
    )


def input_shapes(model: Any, cfg: DatasetConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the features that the model predicts from."""
    specs = batch_spec(model.config, cfg.task_feature_lengths, cfg.batch_size, labels=())
    return {name: spec.shape for name, spec in specs.items()}


def record_files(provider: seqio.Task | seqio.Mixture, split: str) -> list[Path]:
    """The record files of a split, in order.

    Raises:
      ValueError: a task has no rich feedback to evaluate on, as captions have none.
    """
    tasks = split_tasks(provider, split)
    if others := [task.name for task in tasks if not isinstance(task.source, RecordSource)]:
        raise ValueError(
            f"{', '.join(others)} has no rich feedback to compare with: set MIXTURE_OR_TASK_NAME to a task "
            "of feedback alone."
        )
    return [Path(file) for task in tasks for file in task.source.list_shards(split)]
