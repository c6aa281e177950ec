"""The programs that a run compiles: first state, training step, evaluation, prediction.

Stored parameters are split as the partitioner says; each program gathers them as it needs them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax

from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import Partitioner
from richhf.training.train_state import TrainState
from richhf.training.train_step import train_step


@runtime_checkable
class Model(Protocol):
    """What can be trained."""

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        """Variables with the key `params`, boxed with logical axis names; shapes and dtypes by feature."""

    def loss_fn(self, params, batch, dropout_rng, totals):
        """The loss and its parts, scalars by name, of a part of a batch: `totals` is the whole batch's."""

    def loss_totals(self, batch):
        """What the means in `loss_fn` are divided by, scalars by name."""

    def eval_fn(self, params, batch):
        """Metrics without dropout, scalars by name."""


def make_key(partitioner: Partitioner, seed: int, *numbers: int) -> Any:
    """A random key that every device has, from a seed and numbers."""

    def key():
        return functools.reduce(jax.random.fold_in, numbers, jax.random.key(seed))

    return jax.jit(key, out_shardings=partitioner.replicated)()


def param_target(
    model: Model,
    partitioner: Partitioner,
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, Any] | None = None,
) -> Any:
    """What a model's parameters look like and where they live: jax.ShapeDtypeStruct with shardings.

    Args:
      model: its variables carry logical axis names.
      partitioner: places them.
      shapes: of a batch's features, by name.
      types: their dtypes, by name.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    boxed = jax.eval_shape(lambda key: model.get_initial_variables(key, shapes, types)["params"], key)
    return _placed(nn.meta.unbox(boxed), partitioner.param_shardings(boxed))


def initializer(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, Any],
    ema_decay: float = 0.0,
) -> tuple[Callable[[Any, Any], TrainState], TrainState]:
    """How to make the first state, and what it looks like.

    Args:
      model: its variables carry logical axis names.
      optimizer: its state follows the parameters.
      partitioner: places both.
      shapes: of the global batch, by name.
      types: dtypes, by name.
      ema_decay: 0 for a state without a moving average.

    Returns:
      (rng, params or None) to a placed TrainState; and that state as jax.ShapeDtypeStruct with shardings.
      A parameter that is None starts fresh.
    """

    def create(rng, params):
        if params is None or any(x is None for x in jax.tree.leaves(params, is_leaf=lambda x: x is None)):
            fresh = nn.meta.unbox(model.get_initial_variables(rng, shapes, types)["params"])
            params = _fill(params, fresh)
        return TrainState.create(params, optimizer, ema_decay=ema_decay)

    params = param_target(model, partitioner, shapes, types)
    abstract = jax.eval_shape(create, jax.eval_shape(lambda: jax.random.key(0)), params)
    shardings = partitioner.like_params(abstract, params, _shardings(params))
    return jax.jit(create, out_shardings=shardings), _placed(abstract, shardings)


def compile_step(
    model: Model,
    optimizer: Optimizer,
    partitioner: Partitioner,
    target: TrainState,
    num_microbatches: int = 1,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Any]]]:
    """Compiles `train_step` for states like target; the step donates its state."""
    shardings = _shardings(target)

    def loss_fn(params, batch, rng, totals):
        with partitioner.activations():
            return model.loss_fn(partitioner.gather(params, shardings.params), batch, rng, totals)

    step = functools.partial(
        train_step,
        loss_fn=loss_fn,
        totals_fn=model.loss_totals,
        optimizer=optimizer,
        num_microbatches=num_microbatches,
        ema_decay=ema_decay,
    )
    return jax.jit(step, out_shardings=(shardings, partitioner.replicated), donate_argnums=0)


def compile_eval(
    model: Model, partitioner: Partitioner, target: Any
) -> Callable[[Any, Any], Mapping[str, Any]]:
    """Compiles `model.eval_fn` for parameters like target."""
    shardings = _shardings(target)

    def evaluate(params, batch):
        with partitioner.activations():
            return model.eval_fn(partitioner.gather(params, shardings), batch)

    return jax.jit(evaluate, out_shardings=partitioner.replicated)


def compile_predict(model: Any, partitioner: Partitioner, target: Any) -> Any:
    """Compiles `model.predict_batch(params, batch)` for parameters like target; devices divide the batch."""
    shardings = _shardings(target)

    def predict(params, batch):
        with partitioner.activations():
            return model.predict_batch(partitioner.gather(params, shardings), batch)

    return jax.jit(predict, out_shardings=partitioner.batch_sharding)


def compile_copy(partitioner: Partitioner) -> Callable[[Any], Any]:
    """Compiles what gives every device all of the parameters."""
    return jax.jit(lambda params: params, out_shardings=partitioner.replicated)


def _fill(params: Any, fresh: Any) -> Any:
    """Parameters with fresh ones in the place of None."""
    return jax.tree.map(lambda x, own: own if x is None else x, params, fresh, is_leaf=lambda x: x is None)


def _shardings(target: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, target)


def _placed(abstract: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), abstract, shardings
    )
