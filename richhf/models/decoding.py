"""Greedy decoding with a cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

PAD_ID = 0
EOS_ID = 1

Step = Callable[[Array, Array, Any], tuple[Array, Any]]


def decode_greedily(
    step: Step, cache: Any, *, batch: Any, length: int, eos_id: int = EOS_ID
) -> tuple[Int[Array, "b k"], Float[Array, "b k"]]:
    """Takes the likeliest token, step by step, until all rows have ended or `length` is reached.

    Args:
        step: (tokens [b], position [], cache) -> (logits [b v], cache) of the next token.
        cache: what `step` keeps; any pytree of arrays of fixed shape.
        batch: number of rows; a symbol where `jax.export` leaves it open.
        length: number of tokens a row at most.
        eos_id: the token that ends a row; it is kept in the result.

    Returns:
        tokens, 0 after the end, and the log probability of each, 0 after the end.
    """

    def unfinished(state: tuple) -> Array:
        position, _, ended, *_ = state
        return (position < length) & ~jnp.all(ended)

    def advance(state: tuple) -> tuple:
        position, last, ended, tokens, log_probabilities, cache = state
        logits, cache = step(last, position, cache)
        logits = logits.astype(jnp.float32)
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        log_probability = jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
        token = jnp.where(ended, PAD_ID, token)
        log_probability = jnp.where(ended, 0.0, log_probability)
        tokens = lax.dynamic_update_slice_in_dim(tokens, token[:, None], position, axis=1)
        log_probabilities = lax.dynamic_update_slice_in_dim(
            log_probabilities, log_probability[:, None], position, axis=1
        )
        return position + 1, token, ended | (token == eos_id), tokens, log_probabilities, cache

    start = (
        jnp.zeros((), jnp.int32),
        jnp.full((batch,), PAD_ID, jnp.int32),
        jnp.zeros((batch,), bool),
        jnp.full((batch, length), PAD_ID, jnp.int32),
        jnp.zeros((batch, length), jnp.float32),
        cache,
    )
    _, _, _, tokens, log_probabilities, _ = lax.while_loop(unfinished, advance, start)
    return tokens, log_probabilities
