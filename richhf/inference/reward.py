"""Scores as a differentiable function of pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from richhf.data.prompts import ROWS
from richhf.inference.pictures import fit_weights
from richhf.models.model import RichFeedbackModel

_BYTES = 2.0
"""What is larger is no overshoot: bytes, or pixels in another range."""
_SLACK = 1e-3
"""How far values may lie outside of [0, 1], by rounding: a quarter of a grey level."""
Score = Callable[..., dict[str, Float[Array, "b"]]]


def score_pixels(
    model: RichFeedbackModel,
    pixels: Any,
    tokens: Any,
    *,
    params: Any,
    names: Sequence[str],
) -> dict[str, Float[Array, "b"]]:
    """Scores by name; see `Predictor.score_fn`.

    Args:
      model: the model.
      pixels: floats in [0, 1], [b h w 3].
      tokens: prompt rows, integers [b t l].
      params: parameters.
      names: of the scores wanted.

    Raises:
      ValueError: pixels are no floats [b h w 3], or tokens are not the prompt rows of as many prompts; or
        pixels are outside of [0, 1] or not finite, where their values are known: not inside jax.jit.
    """
    given = pixels
    pixels = _as_array("pixels", pixels, "floats in [0, 1], [b h w 3]")
    tokens = _as_array("tokens", tokens, "integers [b t l]; encode_prompts makes them of texts")
    if not jax.tree.leaves(params):
        raise ValueError("params hold nothing; expected a model's parameters, such as predictor.params.")
    _check(pixels, tokens, len(ROWS[model.config.variant]))
    _check_values(given)
    image = fit_pixels(pixels, model.config.vit.image_size)
    batch = {"image": 2.0 * image - 1.0, "encoder_input_tokens": tokens}
    scores = model.predict_batch(params, batch, outputs=tuple(names))["scores"]
    return {name: scores[:, i] for i, name in enumerate(names)}


def _as_array(name: str, values: Any, expected: str) -> Array:
    try:
        if values is None:  # which JAX takes for an empty tree
            raise TypeError
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} are a {type(values).__name__}; expected {expected}.") from error


def _check(pixels: Array, tokens: Array, rows: int) -> None:
    """Looks at shapes and types alone, which are there while a program is traced."""
    told, move = f"pixels are {pixels.dtype} {list(pixels.shape)}", ""
    if pixels.ndim == 3:
        move = " One image is pixels[None]."
    elif pixels.ndim == 4 and pixels.shape[1] == 3 != pixels.shape[-1]:
        move = " Move the channels last: pixels.transpose(0, 2, 3, 1)."
    elif not jnp.issubdtype(pixels.dtype, jnp.floating):
        move = " Divide bytes by 255 first."
    floats = jnp.issubdtype(pixels.dtype, jnp.floating)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape or not floats:
        raise ValueError(f"{told}; expected floats in [0, 1], [b h w 3].{move}")
    told = f"tokens are {tokens.dtype} {list(tokens.shape)}"
    if tokens.ndim != 3 or tokens.shape[1] != rows or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"{told}; expected integers [b {rows} l], as encode_prompts of this predictor gives."
        )
    if len(tokens) != len(pixels):
        raise ValueError(
            f"{told} for {len(pixels)} images; expected a prompt for each. One prompt for all is "
            f"encode_prompts([prompt] * {len(pixels)})."
        )


def _check_values(pixels: Any) -> None:
    """Looks at values where they are known: not inside jax.jit, nor of an array on several hosts."""
    known = _known_values(pixels)
    if known is None or not getattr(known, "is_fully_addressable", True):
        return
    values = np.asarray(known)  # NumPy: inside jax.jit, JAX would trace what is computed of constants too.
    finite = np.isfinite(values)
    if not finite.all():
        count = int(np.sum(~finite))
        raise ValueError(f"pixels have {count} values that are NaN or infinite; expected floats in [0, 1].")
    lowest, highest = float(values.min()), float(values.max())
    if lowest >= -_SLACK and highest <= 1 + _SLACK:
        return
    if lowest >= -_SLACK:
        move = "Divide by 255 first." if highest > _BYTES else "Clip them: jnp.clip(pixels, 0, 1)."
    elif lowest >= -1 - _SLACK and highest <= 1 + _SLACK:
        move = "Of [-1, 1] that is (pixels + 1) / 2; what only overshoots is jnp.clip(pixels, 0, 1)."
    else:
        move = "Scale them to [0, 1], or clip them: jnp.clip(pixels, 0, 1)."
    raise ValueError(f"pixels go from {lowest:g} to {highest:g}; expected floats in [0, 1]. {move}")


def _known_values(pixels: Any) -> Any:
    """Returns the values behind what jax.grad and jax.vmap trace; None inside jax.jit: it has none yet."""
    if not isinstance(pixels, jax.core.Tracer):
        return pixels
    # A tracer of jax.grad holds its value as `primal`, one of jax.vmap all rows as `val`.
    inner = getattr(pixels, "primal", getattr(pixels, "val", None))
    return _known_values(inner) if isinstance(inner, jax.Array | np.ndarray) else None


def fit_pixels(pixels: Float[Array, "b h w 3"], side: int) -> Float[Array, "b s s 3"]:
    """Resizes images to a square by the rule of `fit_image`, without rounding."""
    if pixels.shape[1:3] == (side, side):
        return pixels
    rows, columns = fit_weights(pixels.shape[1], pixels.shape[2], side)
    with jax.default_matmul_precision("highest"):
        return jnp.einsum("ih,bhwc,jw->bijc", jnp.asarray(rows), pixels, jnp.asarray(columns))
