"""The step of a job as a program for devices that need not be there: lowered, compiled, counted."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from richhf.models import RichFeedbackModel, analytic_flops
from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_predict, compile_step, initializer, param_target
from richhf.training.train_state import TrainState

Batch = Mapping[str, jax.ShapeDtypeStruct]


class DoesNotFit(Exception):
    """The compiler found no way to fit a program into a chip's memory."""


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """A step and what it is called with, as shapes with shardings.

    Attributes:
      step: from `jax.jit`.
      state: parameters and what else outlasts the step.
      inputs: the other arguments.
      init: (key, None) to a first state that is really there.
    """

    step: Any
    state: TrainState
    inputs: tuple[Any, ...]
    init: Callable[[Any, Any], TrainState]

    def compile(self) -> jax.stages.Compiled:
        """Compiles the step.

        Raises:
          DoesNotFit: with the compiler's sentence on how much memory it would need.
        """
        state = self.state if self.state.opt_state is not None else self.state.params
        try:
            return self.step.lower(state, *self.inputs).compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            used = re.search(r"Used (\S+) of (\S+) \w+\.", str(error))
            raise DoesNotFit(
                f"needs {used[1]}, a program may use {used[2]}" if used else str(error).splitlines()[0]
            ) from error


def place(batch: Batch, partitioner: Partitioner) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch as `Partitioner.shard_batch` places it."""
    sharding = partitioner.batch_sharding
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for name, x in batch.items()}


def train_program(
    model: RichFeedbackModel, batch: Batch, partitioner: Partitioner, settings: Mapping[str, Any]
) -> StepProgram:
    """The step that `richhf.training.train.train` runs.

    Args:
      model: what is trained.
      batch: its global batch.
      partitioner: with the devices to compile for.
      settings: `train`'s optimizer, num_microbatches and ema_decay.
    """
    shapes, types = ({name: getattr(x, field) for name, x in batch.items()} for field in ("shape", "dtype"))
    optimizer, ema_decay = settings["optimizer"], settings["ema_decay"]
    init, target = initializer(model, optimizer, partitioner, shapes, types, ema_decay)
    step = compile_step(model, optimizer, partitioner, target, settings["num_microbatches"], ema_decay)
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=partitioner.replicated)
    return StepProgram(step, target, (place(batch, partitioner), key), init)


def predict_program(model: RichFeedbackModel, batch: Batch, partitioner: Partitioner) -> StepProgram:
    """The step that predicts everything; `launch.eval` compares maps in it too."""
    shapes, types = ({name: getattr(x, field) for name, x in batch.items()} for field in ("shape", "dtype"))
    nothing = Optimizer(optax.identity(), lambda step: jnp.zeros(()))
    init, target = initializer(model, nothing, partitioner, shapes, types)
    state = TrainState(step=None, params=target.params, opt_state=None)
    step = compile_predict(model, partitioner, target.params)
    return StepProgram(step, state, (place(batch, partitioner),), init)


def model_flops(model: RichFeedbackModel, batch: Batch, *, train: bool) -> float:
    """FLOPs of a step by the model's own count: of training, three times those of the forward pass."""
    shapes = {name: x.shape for name, x in batch.items()}
    if not train:
        shapes["decoder_input_tokens"] = (shapes["image"][0], model.keyword_length)
        return sum(analytic_flops(model.config, shapes).values())
    outputs = model.labelled_outputs(batch)
    return 3.0 * sum(analytic_flops(model.config, shapes, outputs).values())


def program_flops(model: RichFeedbackModel, batch: Batch, *, train: bool) -> float:
    """FLOPs of a step by XLA's count of what the program asks for.

    Counted is loss and gradient of one image (of prediction: the network, decoding all tokens at once), times
    the number of images, lowered without scans and without computing anything again: of a loop XLA counts the
    body once, however often it runs, so the compiled step itself cannot be asked. The optimizer is left out.
    """
    config = dataclasses.replace(model.config, remat="none", scan_layers=False)
    plain = dataclasses.replace(model, config=config)
    images = batch["image"].shape[0]
    one = {name: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for name, x in batch.items()}
    params = param_target(plain, Partitioner(num_devices=1), {name: x.shape for name, x in one.items()})
    if train:
        lowered = jax.jit(jax.value_and_grad(lambda p, b: plain.loss_fn(p, b, None)[0])).lower(params, one)
    else:
        tokens = jax.ShapeDtypeStruct((1, model.keyword_length), one["encoder_input_tokens"].dtype)
        inputs = one["image"], one["encoder_input_tokens"], tokens
        lowered = jax.jit(lambda p, *x: plain.module.apply({"params": p}, *x)).lower(params, *inputs)
    cost: Any = lowered.cost_analysis()
    return images * cost["flops"]
