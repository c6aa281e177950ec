"""What `launch.train` would do, in lines; nothing is compiled, and nothing is written."""

import contextlib
import math
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from launch.chips import GIB
from launch.dry_run import slice_of
from launch.gin_config import ConfigError
from launch.initial_weights import InitialWeights, fresh_line, model_sizes
from launch.precompile_job import train_settings
from launch.precompile_report import format_bytes
from richhf.data.dataset_info import INFO, read_info
from richhf.data.datasets import DatasetConfig, get_task, split_tasks
from richhf.models import RichFeedbackModel, parameter_parts
from richhf.training.checkpoints import check_fits, find_undamaged
from richhf.training.digests import DamagedError
from richhf.training.iterator_checkpoint import POSITION
from richhf.training.partitioning import Partitioner
from richhf.training.placement import device_bytes, placements
from richhf.training.programs import initializer
from richhf.training.saved_params import SUBFOLDER, explained_damage, has_checkpoints
from richhf.training.train_state import TrainState

WIDTH = 110


class Checked(Exception):
    """All settings have been checked."""


class NoFolder(os.PathLike[str]):
    """A model_dir with which `train` ends where it first looks into it, and so before it makes anything."""

    def __fspath__(self) -> str:
        raise Checked


def print_plan(
    model: RichFeedbackModel,
    model_dir: str,
    train: Callable[..., Any],
    iterator: Any,
    cfgs: tuple[DatasetConfig, DatasetConfig | None],
    given: Mapping[str, Any],
    where: str,
    initial: InitialWeights | None = None,
) -> None:
    """Checks what is left to check before compiling, and prints the plan.

    Args:
      model: what would be trained.
      model_dir: where it would be written.
      train: what would train it, with its settings bound.
      iterator: the training stream; moved to where it would go on.
      cfgs: of training and of the evaluation in it, or None.
      given: train's partitioner and what else the job gives it.
      where: the value of --dry-run.
      initial: what a new run would start from.

    Raises:
      ValueError: settings that cannot work.
    """
    with contextlib.suppress(Checked):
        train(model=model, model_dir=NoFolder(), train_iterator=iterator, **given)
    settings, partitioner = train_settings(), given["partitioner"]
    cfg, eval_cfg = cfgs
    devices = device_line(partitioner, where)
    shapes = {name: tuple(spec.shape) for name, spec in iterator.element_spec.items()}
    types = {name: spec.dtype for name, spec in iterator.element_spec.items()}
    optimizer, ema_decay = settings["optimizer"], settings["ema_decay"]
    _, target = initializer(model, optimizer, partitioner, shapes, types, ema_decay)
    start = start_line(model, target, model_dir, initial, iterator, settings["total_steps"])
    lines = {
        "model": model_line(model, target.params),
        "data": data_line(cfg),
        "devices": devices,
        "a device holds": state_line(target),
        "batch": batch_line(cfg, partitioner, settings["num_microbatches"]),
        "steps": steps_line(cfg, settings),
        "start": start,
        "evaluation": evaluation_line(eval_cfg, settings["eval_period"]),
        "writes": f"{model_dir}/: checkpoints/ (the last {settings['keep_checkpoints']}), train_log.jsonl, "
        "config.gin, vocabulary.model, TensorBoard events",
    }
    print("dry run: nothing is compiled, nothing is written")
    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent=" " * 18, break_on_hyphens=False)
    wrapper.break_long_words = False
    for name, line in lines.items():
        print(wrapper.fill(f"  {name:<16}{line}"), flush=True)


def model_line(model: RichFeedbackModel, params: Any) -> str:
    """Variant, number of parameters by part, types."""
    config = model.config
    parts = ", ".join(f"{part.name} {_millions(part.size)}" for part in placements(parameter_parts(params)))
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    image = f"images of {config.vit.image_size} px"
    return f"{config.variant}, {_millions(size)} parameters ({parts}), {image}, {config.dtype}"


def data_line(cfg: DatasetConfig) -> str:
    """Task, number of examples, lengths."""
    known = known_examples(cfg)
    count = "examples not counted" if known is None else f"{known} examples"
    lengths = ", ".join(f"{name} {length}" for name, length in cfg.task_feature_lengths.items())
    return f"{cfg.mixture_or_task_name}, split {cfg.split}, {count}; lengths: {lengths}"


def device_line(partitioner: Partitioner, where: str) -> str:
    """Which devices, and the mesh over them.

    Raises:
      ConfigError: JAX was started with another number of devices than --dry-run asks for.
    """
    mesh = partitioner.mesh
    shape = " x ".join(f"{axis}={n}" for axis, n in mesh.shape.items())
    topology = slice_of(where)
    if topology is None:
        kinds = sorted({device.device_kind for device in mesh.devices.flat})
        return f"{mesh.size} of this machine ({', '.join(kinds)}); mesh {shape}"
    if jax.device_count() != topology.size:
        raise ConfigError(
            f"--dry-run={where} asks for {topology.size} device(s), but JAX has {jax.device_count()} "
            "already: start a new process without XLA_FLAGS=--xla_force_host_platform_device_count."
        )
    return f"{mesh.size} as of {topology.name}, {topology.chip.memory / GIB:.0f} GiB each; mesh {shape}"


def state_line(target: TrainState) -> str:
    """Bytes of a device by what of the state they hold."""
    held = {
        "parameters": target.params,
        "optimizer state": target.opt_state,
        "moving average": target.ema_params,
    }
    sizes = ", ".join(
        f"{format_bytes(device_bytes(tree))} {name}" for name, tree in held.items() if tree is not None
    )
    return f"{sizes} (and what a step takes besides: launch.precompile says whether that fits)"


def batch_line(cfg: DatasetConfig, partitioner: Partitioner, microbatches: int) -> str:
    """Images in all, a device, a microbatch."""
    share = cfg.batch_size // partitioner.num_batch_shards
    split = f" in {microbatches} microbatches of {share // microbatches}" if microbatches > 1 else ""
    return f"{cfg.batch_size} images, {share} a device{split}"


def steps_line(cfg: DatasetConfig, settings: Mapping[str, Any]) -> str:
    """How many steps, epochs where known, and what happens how often."""
    steps, known = settings["total_steps"], known_examples(cfg)
    epochs = f" ({steps * cfg.batch_size / known:.1f} epochs)" if known else ""
    periods = f"log every {settings['log_period']}, checkpoint every {settings['checkpoint_period']}"
    return f"{steps}{epochs}; {periods}, and at the end"


def start_line(
    model: RichFeedbackModel,
    target: TrainState,
    model_dir: str,
    initial: InitialWeights | None,
    iterator: Any,
    total_steps: int,
) -> str:
    """Where training would start; of a checkpoint to go on from the shapes are read.

    Raises:
      ValueError: it does not fit the model, or its data come in another order.
    """
    going_on = has_checkpoints(model_dir)
    if not going_on and initial is None:
        fresh = fresh_line(model, model_sizes(model))
        return f"new, at step 0 ({model_dir} has no checkpoint); {fresh}"
    if initial is not None:
        fresh = fresh_line(model, initial.fresh_sizes)
        return f"new, at step 0 with the parameters of {' and '.join(map(str, initial.paths))}; {fresh}"
    folder, damaged = find_undamaged(model_dir)
    if folder is None:
        raise DamagedError(
            f"no checkpoint under {Path(model_dir) / SUBFOLDER} can be read: steps {damaged} are damaged. "
            "Move that folder away to start again."
        )
    with explained_damage(folder):
        check_fits(folder, target)
        iterator.restore(folder / "iterator" / POSITION)
    step = int(folder.name)
    if step >= total_steps:
        return f"nothing to do: {folder} is at step {step} of {total_steps} already; raise TRAIN_STEPS"
    skipped = f" (steps {damaged} are damaged and would be set aside)" if damaged else ""
    return f"going on from step {step} of {total_steps}: {folder}{skipped}"


def evaluation_line(cfg: DatasetConfig | None, period: int) -> str:
    """What is evaluated how often during training."""
    if cfg is None or not period:
        return "none during training"
    known = known_examples(cfg)
    wanted = min((n for n in (cfg.num_examples, known) if n is not None), default=None)
    count = "all" if wanted is None else wanted
    return f"{count} examples of {cfg.split} every {period} steps and at the end, {cfg.batch_size} at a time"


def known_examples(cfg: DatasetConfig) -> int | None:
    """The number of a split's examples, where each task's folder says it in dataset_info.json."""
    counts = []
    for task in split_tasks(get_task(cfg), cfg.split):
        files = task.source.list_shards(cfg.split)
        folder = Path(files[0]).parent
        info = read_info(folder) if (folder / INFO).exists() else {}
        prepared = info.get("splits", {}).get(cfg.split, {}).get("written")
        counts.append(info.get("counts", {}).get(cfg.split, prepared))
    return None if None in counts else sum(counts)


def _millions(size: int) -> str:
    return f"{size / 1e6:.2f} M"
