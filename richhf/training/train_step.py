"""One training step as a pure function; who compiles and places it is in `richhf.training.programs`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, Shaped

from richhf.training.optimizers import Optimizer
from richhf.training.train_state import TrainState, ema_rate

Batch = Mapping[str, Shaped[Array, "b ..."]]
Metrics = dict[str, Shaped[Array, ""]]
LossFn = Callable[..., tuple[Float[Array, ""], Metrics]]
TotalsFn = Callable[[Batch], Metrics]


def train_step(
    state: TrainState,
    batch: Batch,
    rng: Key[Array, ""],
    *,
    loss_fn: LossFn,
    totals_fn: TotalsFn,
    optimizer: Optimizer,
    num_microbatches: int = 1,
    ema_decay: float = 0.0,
) -> tuple[TrainState, Metrics]:
    """Gradient (accumulated over microbatches), clipping, update, moving average: in this order.

    Where the loss or the gradient is not finite, parameters, optimizer and moving average stay as they were:
    the step is counted as skipped, and the schedule does not move on.

    Args:
      state: the state before.
      batch: named arrays with a common leading axis, which num_microbatches divides.
      rng: the run's key; the step number is folded in, so a resumed run draws the same numbers.
      loss_fn: (params, batch, rng, totals) to (loss, its parts), which add up over microbatches.
      totals_fn: the whole batch to what loss_fn divides by.
      optimizer: clipping included.
      num_microbatches: the gradient is accumulated over this many slices of the batch.
      ema_decay: 0 when state.ema_params is None.

    Returns:
      The state after, and scalars: loss, its parts, grad_norm (before clipping), learning_rate, and of the
      state after skipped_steps and skipped_in_row.
    """
    rng = jax.random.fold_in(rng, state.step)
    grads, metrics = accumulate_gradients(loss_fn, totals_fn, state.params, batch, rng, num_microbatches)
    updates, opt_state = optimizer.transformation.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_decay:
        rate = ema_rate(ema_decay, state.step)
        ema_params = jax.tree.map(lambda mean, new: rate * mean + (1 - rate) * new, ema_params, params)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(grad_norm)
    before = (state.params, state.opt_state, state.ema_params)
    params, opt_state, ema_params = jax.tree.map(
        functools.partial(jnp.where, finite), (params, opt_state, ema_params), before
    )
    skipped_steps = state.skipped_steps + jnp.where(finite, 0, 1)
    skipped_in_row = jnp.where(finite, 0, state.skipped_in_row + 1)
    metrics |= {
        "grad_norm": grad_norm,
        "learning_rate": jnp.asarray(optimizer.learning_rate(state.step - state.skipped_steps), jnp.float32),
        "skipped_steps": skipped_steps,
        "skipped_in_row": skipped_in_row,
    }
    return TrainState(state.step + 1, params, opt_state, ema_params, skipped_steps, skipped_in_row), metrics


def accumulate_gradients(
    loss_fn: LossFn,
    totals_fn: TotalsFn,
    params: Any,
    batch: Batch,
    rng: Key[Array, ""],
    num_microbatches: int,
) -> tuple[Any, Metrics]:
    """The gradient and the metrics of one batch, however many microbatches it is computed in.

    Microbatch i takes examples i, i + num_microbatches, ...: each device then slices its own examples and
    none move.

    Returns:
      A tree like params, and scalars with the key `loss` among them.
    """
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    totals = totals_fn(batch)

    def gradients(microbatch, key):
        (loss, metrics), grads = value_and_grad(params, microbatch, key, totals)
        return grads, dict(metrics) | {"loss": loss}

    if num_microbatches == 1:
        return gradients(batch, rng)

    def split(x):
        return jnp.moveaxis(x.reshape(-1, num_microbatches, *x.shape[1:]), 1, 0)

    def add(total, microbatch_and_key):
        return jax.tree.map(jnp.add, total, gradients(*microbatch_and_key)), None

    microbatches = jax.tree.map(split, dict(batch))
    keys = jax.random.split(rng, num_microbatches)
    shapes = jax.eval_shape(gradients, jax.tree.map(lambda x: x[0], microbatches), keys[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (microbatches, keys))
    return total
