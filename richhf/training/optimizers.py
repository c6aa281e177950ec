"""Optimizers: AdamW, Adafactor and Muon from optax, with a schedule and norm clipping in one value."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from richhf.training.schedules import Schedule

NO_DECAY = r"(bias|scale|norm|position_embedding)(/|$)"
TABLES = r"embedding$"
STACKED = r"(^|/)(blocks|layers)/"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A gradient transformation and the schedule it follows (kept for the log).

    Attributes:
      transformation: gradients to updates, clipping included.
      learning_rate: step to learning rate.
    """

    transformation: optax.GradientTransformation
    learning_rate: Schedule


def adamw(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
    no_decay: str = NO_DECAY,
) -> Optimizer:
    """AdamW, the paper's optimizer: decoupled weight decay, scaled by the learning rate.

    Args:
      learning_rate: a number, or a schedule of the step.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: share of each decayed parameter taken off per unit of learning rate.
      clip_norm: gradients are scaled down to this global norm; None leaves them.
      no_decay: regular expression; a parameter whose path (`encoder/layer_0/mlp/wi/kernel`) matches is not
        decayed.
    """
    schedule = _as_schedule(learning_rate)
    update = optax.adamw(
        schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=lambda p: decay_mask(p, no_decay)
    )
    return Optimizer(_clipped(update, clip_norm), schedule)


def adafactor(
    learning_rate: float | Schedule,
    *,
    decay_rate: float = 0.8,
    min_dim_size_to_factor: int = 128,
    multiply_by_parameter_scale: bool = True,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    no_decay: str = NO_DECAY,
) -> Optimizer:
    """Adafactor, T5's optimizer: second moments kept as a row and a column for large matrices.

    Args:
      learning_rate: a number, or a schedule of the step; relative to each parameter's size if
        multiply_by_parameter_scale.
      decay_rate: exponent of the second moment's decay, 1 - step ** -decay_rate.
      min_dim_size_to_factor: smaller matrices keep their whole second moment.
      multiply_by_parameter_scale: scale each update by the parameter's root mean square.
      weight_decay: share of each decayed parameter taken off per step (not scaled by the learning rate).
      clip_norm: gradients are scaled down to this global norm; None leaves them (updates are clipped by
        block).
      no_decay: as for `adamw`.
    """
    schedule = _as_schedule(learning_rate)
    update = optax.adafactor(
        schedule,
        min_dim_size_to_factor=min_dim_size_to_factor,
        decay_rate=decay_rate,
        multiply_by_parameter_scale=multiply_by_parameter_scale,
        weight_decay_rate=weight_decay or None,
        weight_decay_mask=lambda p: decay_mask(p, no_decay),
    )
    return Optimizer(_clipped(update, clip_norm), schedule)


def muon(
    learning_rate: float | Schedule,
    *,
    rms: float = 0.2,
    beta: float = 0.95,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    by_adam: str = TABLES,
) -> Optimizer:
    """Muon (Jordan 2024; Liu et al. 2025): matrices step along their orthogonalised momentum.

    Every direction of a matrix moves as far, also those whose gradients are small beside the others'. What is
    no matrix is stepped by Adam, both with Nesterov momentum. Not in the paper: small models from scratch see
    small objects in front of a large background sooner than with AdamW.

    Args:
      learning_rate: a number, or a schedule of the step; for both kinds of parameters.
      rms: root mean square of a matrix's update at learning rate 1. 0.2 is about AdamW's.
      beta: decay of the momentum.
      weight_decay: share of each matrix taken off per unit of learning rate.
      clip_norm: gradients are scaled down to this global norm; None leaves them.
      by_adam: regular expression; a matrix whose path matches is left to Adam. The default: embeddings of
        tokens and positions.
    """
    schedule = _as_schedule(learning_rate)
    update = optax.contrib.muon(
        schedule,
        beta=beta,
        weight_decay=weight_decay,
        consistent_rms=rms,
        muon_weight_dimension_numbers=lambda params: _matrices(params, by_adam),
    )
    return Optimizer(_clipped(update, clip_norm), schedule)


def _matrices(params: Any, by_adam: str) -> Any:
    """How each parameter is a matrix (of a convolution: all that comes in, by channel out), or None."""
    axes = {2: ((0,), (1,)), 4: ((0, 1, 2), (3,))}

    def as_matrix(path, value):
        rank = _rank(path, value)
        if rank not in axes or re.search(by_adam, _name(path)):
            return None
        # What scanned layers share is their leading axis: one matrix a layer.
        inward, outward = (tuple(axis + value.ndim - rank for axis in group) for group in axes[rank])
        return optax.contrib.MuonDimensionNumbers(inward, outward)

    return jax.tree_util.tree_map_with_path(as_matrix, params)


def decay_mask(params: Any, no_decay: str = NO_DECAY) -> Any:
    """Which parameters are decayed: a tree of bool like params.

    True for parameters of two axes or more (of scanned layers: two besides that of the layers) whose path
    does not match no_decay: norms, biases, positions and vectors stay.
    """

    def decays(path, value):
        return _rank(path, value) > 1 and not re.search(no_decay, _name(path))

    return jax.tree_util.tree_map_with_path(decays, params)


def _rank(path, value):
    return value.ndim - bool(re.search(STACKED, _name(path)))


def _name(path):
    return "/".join(str(getattr(key, "key", key)) for key in path)


def _as_schedule(learning_rate):
    return learning_rate if callable(learning_rate) else lambda step: jnp.float32(learning_rate)


def _clipped(update, clip_norm):
    if clip_norm is None:
        return update
    if clip_norm <= 0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm}; None turns clipping off.")
    return optax.chain(optax.clip_by_global_norm(clip_norm), update)
