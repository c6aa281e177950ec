"""Beam search with a cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from richhf.models.decoding import EOS_ID, PAD_ID, Step

ALPHA = 0.6
"""Exponent of the length penalty in T5's beam searches (Raffel et al. 2020, section 3.1.4)."""
_NEVER = -1e9


def length_penalty(length: Int[Array, ""] | int, alpha: float) -> Float[Array, ""]:
    """((5 + length) / 6) ** alpha, by which a log probability is divided (Wu et al. 2016, equation 14)."""
    return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** alpha


def decode_with_beams(
    step: Step,
    cache: Any,
    take: Callable[[Any, Array], Any],
    *,
    batch: int,
    beams: int,
    length: int,
    eos_id: int = EOS_ID,
    alpha: float = ALPHA,
) -> tuple[Int[Array, "b k"], Float[Array, "b k"]]:
    """Looks for the sequence whose log probability divided by its length penalty is greatest.

    A sequence ends with `eos_id`, which counts in its length, or is cut at `length` tokens. The search stops
    when no row has a beam that could still become better than the best ended sequence.

    Args:
        step: (tokens [b * beams], position [], cache) -> (logits [b * beams v], cache) of the next token; the
            beams of a row are neighbours.
        cache: what `step` keeps, for all beams.
        take: (cache, rows [b * beams]) -> cache, its rows those of other beams of the same row.
        batch: number of rows.
        beams: sequences that are looked at beside each other.
        length: number of tokens a row at most.
        eos_id: the token that ends a row; it is kept in the result.
        alpha: exponent of the length penalty; 0: none.

    Returns:
        tokens of the best sequence, 0 after the end, and the log probability of each, 0 after the end.
    """
    rows = jnp.arange(batch)[:, None]

    def unfinished(state: tuple) -> Array:
        position, totals, *_, best, _, _, _ = state
        # A beam's log probability only falls: at best it ends now, with the penalty of the greatest length.
        reachable = totals.max(axis=1) / length_penalty(length, alpha)
        return (position < length) & jnp.any(reachable > best)

    def advance(state: tuple) -> tuple:
        position, totals, last, tokens, parts, best, best_tokens, best_parts, cache = state
        logits, cache = step(last.reshape(-1), position, cache)
        parted = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1).reshape(batch, beams, -1)
        sums = totals[..., None] + parted

        def extended(beam: Array, token: Array, part: Array) -> tuple[Array, Array]:
            return (
                tokens[rows, beam].at[:, :, position].set(token),
                parts[rows, beam].at[:, :, position].set(part),
            )

        # The ended sequences of this step, and those that are cut.
        ending = sums[..., eos_id] / length_penalty(position + 1, alpha)
        beam = jnp.argmax(ending, axis=1)[:, None]
        new_tokens, new_parts = extended(beam, jnp.full_like(beam, eos_id), parted[rows, beam, eos_id])
        value = jnp.take_along_axis(ending, beam, axis=1)[:, 0]
        best, best_tokens, best_parts = _better(
            (best, best_tokens, best_parts), (value, new_tokens[:, 0], new_parts[:, 0])
        )
        going = sums.at[..., eos_id].set(_NEVER).reshape(batch, -1)
        totals, chosen = lax.top_k(going, beams)
        beam, token = chosen // parted.shape[-1], chosen % parted.shape[-1]
        tokens, parts = extended(beam, token, parted[rows, beam, token])
        cut = position + 1 == length
        value = jnp.where(cut, totals[:, 0] / length_penalty(length, alpha), _NEVER)
        best, best_tokens, best_parts = _better(
            (best, best_tokens, best_parts), (value, tokens[:, 0], parts[:, 0])
        )
        cache = take(cache, (rows * beams + beam).reshape(-1))
        return position + 1, totals, token, tokens, parts, best, best_tokens, best_parts, cache

    # All beams of a row are the same at the start: one of them alone counts.
    totals = jnp.full((batch, beams), _NEVER, jnp.float32).at[:, 0].set(0.0)
    tokens = jnp.full((batch, beams, length), PAD_ID, jnp.int32)
    parts = jnp.zeros((batch, beams, length), jnp.float32)
    start = (
        *(jnp.zeros((), jnp.int32), totals, tokens[:, :, 0], tokens, parts),
        *(jnp.full((batch,), 2 * _NEVER, jnp.float32), tokens[:, 0], parts[:, 0], cache),
    )
    *_, best_tokens, best_parts, _ = lax.while_loop(unfinished, advance, start)
    return best_tokens, best_parts


def _better(old: tuple[Array, Array, Array], new: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Row by row the better of two sequences: values [b], tokens [b k] and log probabilities [b k]."""
    improved = new[0] > old[0]
    tokens, parts = (jnp.where(improved[:, None], n, o) for n, o in zip(new[1:], old[1:], strict=True))
    return jnp.maximum(old[0], new[0]), tokens, parts
