"""The precompilation job: a step compiled for chips that need not be there, and a report of what it takes."""

import dataclasses
import inspect
import time
from collections.abc import Sequence
from typing import Any

import gin
from launch.chips import Topology
from launch.command import EXIT_FAILED, quiet_import
from launch.gin_config import ConfigError, near
from launch.precompile_report import (
    advice,
    estimate_lines,
    flops_lines,
    heading_lines,
    memory_lines,
    parameter_lines,
    read_memory,
)
from launch.step_program import (
    DoesNotFit,
    model_flops,
    predict_program,
    program_flops,
    train_program,
)
from richhf.data.datasets import DatasetConfig
from richhf.models import RichFeedbackModel
from richhf.models.batch_spec import LABELS, batch_spec
from richhf.models.rahf import NO_REMAT
from richhf.training.partitioning import Partitioner
from richhf.training.train import train

TRAIN, PREDICT = "train", "predict"


def precompile(
    *,
    model: RichFeedbackModel,
    dataset_cfg: DatasetConfig,
    topology: Topology,
    step: str = TRAIN,
    partitioner: Partitioner | None = None,
    train_eval_dataset_cfg: DatasetConfig | None = None,
    labels: Sequence[str] = LABELS,
    chip_memory: int | None = None,
) -> int:
    """Compiles a step and prints how it is placed, what it takes and whether it fits.

    The settings of training are those that gin gives `training.train`. No data is read.

    Args:
      model: the `RichFeedbackModel`.
      dataset_cfg: says batch size and lengths; its task is not looked up.
      topology: what to compile for.
      step: `train` or `predict`.
      partitioner: where arrays live; None splits batches over all devices.
      train_eval_dataset_cfg: of the evaluation in training, whose batch devices must divide too; None: none.
      labels: the kinds of labels in a training batch (`richhf.models.batch_spec`).
      chip_memory: bytes of a chip, instead of those of its kind.

    Returns:
      The exit status: 0 if it fits, 1 if not.

    Raises:
      ValueError: settings that cannot work, before anything is compiled.
    """
    if step not in (TRAIN, PREDICT):
        raise ConfigError(f"--step={step}: expected {TRAIN} or {PREDICT}.{near(step, (TRAIN, PREDICT))}")
    training, settings = step == TRAIN, train_settings()
    if training and "optimizer" not in settings:
        raise ConfigError(
            "no gin file configures training: give a run that trains, such as "
            "--gin_file=gin/runs/finetune.gin, or --step=predict."
        )
    batch_size, microbatches = dataset_cfg.batch_size, settings["num_microbatches"] if training else 1
    with quiet_import():
        devices = topology.devices()
    partitioner = dataclasses.replace(partitioner or Partitioner(), devices=devices)
    batch = batch_spec(model.config, dataset_cfg.task_feature_lengths, batch_size, labels if training else ())
    partitioner.check_batch_size(batch_size, microbatches)
    if training and train_eval_dataset_cfg:
        partitioner.check_batch_size(train_eval_dataset_cfg.batch_size, setting="EVAL_BATCH_SIZE")
    chip = dataclasses.replace(topology.chip, memory=chip_memory or topology.chip.memory)
    share = batch_size // microbatches // partitioner.num_batch_shards

    _print(heading_lines(topology.name, chip, partitioner, step, microbatches, share, model.config))
    if training:
        program = train_program(model, batch, partitioner, settings)
    else:
        program = predict_program(model, batch, partitioner)
    _print(parameter_lines(program.state.params, partitioner))
    counted, asked = (count(model, batch, train=training) for count in (model_flops, program_flops))
    _print(flops_lines(counted, asked, training))

    print("\ncompiling ...", flush=True)
    start = time.monotonic()
    hints = advice(model.config, partitioner, microbatches, share, training)
    misfit = None
    with quiet_import():
        try:
            compiled = program.compile()
        except DoesNotFit as error:
            misfit = error
    if misfit:
        print(f"does not fit: {misfit}. {hints}", flush=True)
        return EXIT_FAILED
    print(f"compiled in {time.monotonic() - start:.0f} s", flush=True)
    memory = read_memory(compiled, program)
    again = training and model.config.remat != NO_REMAT
    _print(memory_lines(memory, chip, hints))
    _print(estimate_lines(memory, chip, topology.size, asked, microbatches, again))
    return 0 if memory.total <= chip.memory else EXIT_FAILED


def train_settings() -> dict[str, Any]:
    """What gin gives `training.train`, with its defaults for the rest; where no run trains, no optimizer."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(train).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return defaults | gin.get_bindings("training.train")


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)
