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

_BYTES = 2.0  # beyond what a resize or a step of gradient ascent makes of 1
Score = Callable[..., dict[str, Float[Array, "b"]]]


def score_pixels(
    model: RichFeedbackModel,
    pixels: Array | np.ndarray,
    tokens: Array | np.ndarray,
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
        pixels are a numpy array, of which values can be seen, and go up to 255.
    """
    if isinstance(pixels, np.ndarray) and pixels.size and pixels.max() > _BYTES and pixels.dtype.kind == "f":
        raise ValueError(f"pixels go up to {pixels.max():g}; expected floats in [0, 1]. Divide by 255 first.")
    pixels, tokens = jnp.asarray(pixels), jnp.asarray(tokens)
    _check(pixels, tokens, len(ROWS[model.config.variant]))
    image = fit_pixels(pixels, model.config.vit.image_size)
    batch = {"image": 2.0 * image - 1.0, "encoder_input_tokens": tokens}
    scores = model.predict_batch(params, batch, outputs=tuple(names))["scores"]
    return {name: scores[:, i] for i, name in enumerate(names)}


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


def fit_pixels(pixels: Float[Array, "b h w 3"], side: int) -> Float[Array, "b s s 3"]:
    """Resizes images to a square by the rule of `fit_image`, without rounding."""
    if pixels.shape[1:3] == (side, side):
        return pixels
    rows, columns = fit_weights(pixels.shape[1], pixels.shape[2], side)
    with jax.default_matmul_precision("highest"):
        return jnp.einsum("ih,bhwc,jw->bijc", jnp.asarray(rows), pixels, jnp.asarray(columns))
