"""How fast images come from their files to the device, stage by stage."""

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import seqio
import tensorflow as tf

from launch.data_fit import register_task
from launch.measurement import Measurement
from richhf.data.datasets import DatasetConfig, get_task, pipeline_options
from richhf.data.features import RichFeedbackFeatureConverter
from richhf.data.stream import StreamShare, read_files
from richhf.data.training_stream import train_iterator


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the input pipeline.

    Attributes:
      name: what it does.
      rate: images a second that a pipeline delivers which ends with this stage.
      wall_ms: milliseconds an image by which it is slower than the pipeline without this stage.
      cpu_ms: milliseconds of processor time an image, over all cores, that this stage adds.
    """

    name: str
    rate: float
    wall_ms: float
    cpu_ms: float


def input_pipeline(
    *,
    dataset_cfg: DatasetConfig,
    register_tasks: Callable[[], Any] | None = None,
    num_images: int = 256,
) -> list[Measurement]:
    """Measures a training stream from its files to the device, one more stage at a time.

    Args:
      dataset_cfg: a task (no mixture); its split is read as in training.
      register_tasks: registers the tasks over their data folder.
      num_images: how many images to time at each stage, after as many that are not timed.

    Returns:
      The rate at which batches reach the device. The stages are printed.
    """
    if num_images < 1:
        raise ValueError(f"NUM_IMAGES is {num_images}; expected at least 1.")
    register_task(register_tasks, dataset_cfg)
    task = get_task(dataset_cfg)
    if not isinstance(task, seqio.Task):
        raise ValueError(
            f"{dataset_cfg.mixture_or_task_name} is a mixture; set MIXTURE_OR_TASK_NAME to one of its tasks, "
            f"{', '.join(subtask.name for subtask in seqio.get_subtasks(task))}."
        )
    stages: list[Stage] = []
    last_wall = last_cpu = 0.0
    print(f"{task.name}: {num_images} images a stage on {os.cpu_count()} cores", flush=True)
    print(f"{'stage':24s}{'images/s so far':>16s}{'ms/image':>10s}{'CPU ms/image':>14s}")
    for name, elements, size in _stages(task, dataset_cfg):
        wall, cpu = _measure(elements, -(-num_images // size))
        wall, cpu = wall / size, cpu / size
        stages.append(Stage(name, 1e3 / wall, wall - last_wall, cpu - last_cpu))
        last_wall, last_cpu = wall, cpu
        print(f"{name:24s}{1e3 / wall:16.1f}{stages[-1].wall_ms:10.2f}{stages[-1].cpu_ms:14.2f}", flush=True)
    slowest = max(stages, key=lambda stage: stage.cpu_ms)
    print(
        f"\n{stages[-1].rate:.1f} images/s reach the device; bottleneck: {slowest.name}, "
        f"{100 * slowest.cpu_ms / last_cpu:.0f} % of the processor time"
    )
    return [Measurement("input pipeline", stages[-1].rate)]


def _stages(task: seqio.Task, cfg: DatasetConfig) -> Iterator[tuple[str, Iterator[Any], int]]:
    """The pipeline cut after each stage: name, endless iterator, images an element."""
    if isinstance(task.source, seqio.TFExampleDataSource):
        yield "read", _elements(read_files(task.source.record_files(cfg.split)).repeat()), 1
    dataset = task.source.get_dataset(cfg.split, True, cfg.seed, StreamShare(0, 1))
    yield "parse and shuffle", _elements(dataset), 1
    lengths = cfg.task_feature_lengths
    with seqio.utils.map_seed_manager(cfg.seed):
        for preprocessor in task.preprocessors:
            step = seqio.utils.add_kwargs_to_transform(
                preprocessor, sequence_length=lengths, output_features=task.output_features
            )
            dataset = step(dataset)
            yield _name(preprocessor), _elements(dataset), 1
    dataset = RichFeedbackFeatureConverter()(dataset, lengths)
    yield "convert", _elements(dataset), 1
    yield "batch", train_iterator(cfg), cfg.batch_size
    placed = (jax.block_until_ready(jax.device_put(batch)) for batch in train_iterator(cfg))
    yield "to the device", placed, cfg.batch_size


def _elements(dataset: tf.data.Dataset) -> Iterator[Any]:
    return iter(dataset.with_options(pipeline_options()))


def _measure(elements: Iterator[Any], count: int) -> tuple[float, float]:
    """Milliseconds an element, of the clock and of the processor."""
    _consume(elements, count)
    wall, cpu = time.perf_counter(), time.process_time()
    _consume(elements, count)
    return 1e3 * (time.perf_counter() - wall) / count, 1e3 * (time.process_time() - cpu) / count


def _consume(elements: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(elements, count):
        pass


def _name(preprocessor: Callable[..., Any]) -> str:
    """`decode pictures` for `decode_pictures`, and for what `decode_pictures` has made."""
    return preprocessor.__qualname__.split(".")[0].replace("_", " ")
