"""The evaluation job: a checkpoint over a split, and the files that say how good it is."""

import itertools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import seqio
from jax.experimental import multihost_utils

from launch.data_fit import check_data_fit, check_rows, check_vocabulary, explained_reading, register_task
from launch.gin_config import AS_TRAINED, CONFIG_FILE, check_recorded
from richhf.atomic import atomic_path
from richhf.data.datasets import DatasetConfig, EvalBatch, eval_batches, split_tasks
from richhf.data.records import read_records
from richhf.evaluation import (
    Gallery,
    MeanFeedback,
    evaluate_model,
    markdown_tables,
    noise_ceiling,
    read_comparisons,
    record_batches,
    text_tables,
    write_metrics,
)
from richhf.feedback import SCORES
from richhf.inference import GalleryExample, write_report
from richhf.models.batch_spec import batch_spec
from richhf.training.checkpoints import find_checkpoint, load_initial_params
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_predict, param_target
from richhf.training.run_log import read_log
from tasks.sources import RecordSource


def evaluate(
    *,
    model: Any,
    checkpoint: str,
    output_dir: str,
    dataset_cfg: DatasetConfig,
    step: int | None = None,
    register_tasks: Callable[[], Any] | None = None,
    partitioner: Partitioner | None = None,
    baseline_split: str = "train",
    compare: Mapping[str, str] | None = None,
    gallery: Gallery | None = None,
    title: str = "RAHF",
) -> dict:
    """Evaluates a checkpoint: prints tables, writes metrics.json, metrics.md and report.html.

    Of several processes each predicts its share of every batch, and the first one writes.

    Args:
      model: the `RichFeedbackModel` that was trained.
      checkpoint: a run's folder, or one step's.
      output_dir: where to write.
      dataset_cfg: what to evaluate on.
      step: which step of the run; None: the latest.
      register_tasks: registers the tasks over their data folder.
      partitioner: where arrays live; None splits batches over all devices.
      baseline_split: the split whose mean labels are the baseline.
      compare: other runs' metrics.json by name, for the tables.
      gallery: which examples to show.
      title: the report's headline.
    """
    register_task(register_tasks, dataset_cfg)
    provider = check_data_fit(model, dataset_cfg)
    labels = record_files(provider, dataset_cfg.split)
    folder = find_checkpoint(checkpoint, step)
    run_dir = folder.parent.parent
    check_vocabulary(provider, run_dir)
    check_recorded(AS_TRAINED, run_dir / CONFIG_FILE)
    partitioner = partitioner or Partitioner()
    partitioner.check_batch_size(dataset_cfg.batch_size)
    baseline_files = record_files(provider, baseline_split)
    count = sum(1 for _ in itertools.islice(read_records(labels), dataset_cfg.num_examples))
    comparisons: dict[str, dict] = {}
    if compare:
        comparisons["compare"] = read_comparisons(compare, split=dataset_cfg.split, examples=count)
    batches = peek(eval_batches(dataset_cfg, whole=True), model, dataset_cfg.mixture_or_task_name)
    inputs = input_shapes(model, dataset_cfg)
    target = param_target(model, partitioner, inputs)
    params = load_initial_params(folder, target)
    step_fn = compile_predict(model, partitioner, target)

    def predict(features):
        placed = partitioner.place_whole({name: features[name] for name in inputs})
        return multihost_utils.process_allgather(step_fn(params, placed), tiled=True)

    truth = [path.parent / "truth" / path.name for path in labels]
    primary = jax.process_index() == 0
    if primary:
        print(f"baseline and noise ceiling of {count} examples of {dataset_cfg.split} ...", flush=True)
    mean = MeanFeedback()
    for arrays in record_batches(read_records(baseline_files)):
        mean.add(arrays)
    ceiling = None
    if all(path.exists() for path in truth):
        ceiling = noise_ceiling(
            read_records(truth), read_records(labels), num_examples=dataset_cfg.num_examples
        )
    with explained_reading(provider, dataset_cfg.split):
        evaluation = evaluate_model(
            predict,
            batches,
            decode=provider.output_features["targets"].vocabulary.decode,
            mean=mean,
            noise_ceiling=ceiling,
            gallery=gallery,
            num_examples=count,
            progress=primary,
        )
    about = {"task": dataset_cfg.mixture_or_task_name, "split": dataset_cfg.split, "step": int(folder.name)}
    metrics = evaluation.metrics | about | comparisons
    if not primary:
        return metrics
    output = Path(output_dir)
    write_metrics(output / "metrics.json", metrics)
    with atomic_path(output / "metrics.md") as temporary:
        temporary.write_text(markdown_tables(metrics), encoding="utf-8")
    values = evaluation.values
    known = ~np.isnan(values.true_scores)
    report = write_report(
        output / "report.html",
        title=title,
        metrics=metrics,
        curves=read_log(run_dir),
        examples=[
            GalleryExample(e.image, e.truth, e.predicted, label=kind, note=e.filename)
            for kind, examples in evaluation.gallery.items()
            for e in examples
        ],
        points={
            name: (values.predicted_scores[known[:, i], i], values.true_scores[known[:, i], i])
            for i, name in enumerate(SCORES)
            if known[:, i].any()
        },
        extra={"checkpoint": folder, **about, "command": f"python -m launch.eval {shlex.join(sys.argv[1:])}"},
    )
    print(text_tables(metrics))
    print(f"\n{output / 'metrics.json'}\n{report}", flush=True)
    return metrics


def peek(batches: Iterator[EvalBatch], model: Any, task_name: str) -> Iterator[EvalBatch]:
    """The same batches, after the first has been checked for its prompt rows."""
    first = next(batches)
    check_rows(model, first.features["encoder_input_tokens"].shape, task_name)

    def all_of_them():
        yield first
        yield from batches

    return all_of_them()


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
