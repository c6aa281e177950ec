"""Scores as a differentiable function of pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from richhf.inference.pictures import fit_weights
from richhf.models.model import RichFeedbackModel

Score = Callable[..., dict[str, Float[Array, "b"]]]


def score_pixels(
    model: RichFeedbackModel,
    pixels: Array | np.ndarray,
    tokens: Int[Array, "b t l"] | Int[np.ndarray, "b t l"],
    *,
    params: Any,
    names: Sequence[str],
) -> dict[str, Float[Array, "b"]]:
    """Scores by name; see `Predictor.score_fn`.

    Args:
      model: the model.
      pixels: floats in [0, 1], [b h w 3].
      tokens: prompt rows.
      params: parameters.
      names: of the scores wanted.

    Raises:
      ValueError: pixels are no floats [b h w 3].
    """
    pixels = jnp.asarray(pixels)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or not jnp.issubdtype(pixels.dtype, jnp.floating):
        raise ValueError(
            f"pixels are {pixels.dtype} {list(pixels.shape)}; expected floats in [0, 1], [b h w 3]. Divide "
            "bytes by 255 first."
        )
    image = fit_pixels(pixels, model.config.vit.image_size)
    batch = {"image": 2.0 * image - 1.0, "encoder_input_tokens": tokens}
    scores = model.predict_batch(params, batch, outputs=tuple(names))["scores"]
    return {name: scores[:, i] for i, name in enumerate(names)}


def fit_pixels(pixels: Float[Array, "b h w 3"], side: int) -> Float[Array, "b s s 3"]:
    """Resizes images to a square by the rule of `fit_image`, without rounding."""
    if pixels.shape[1:3] == (side, side):
        return pixels
    rows, columns = fit_weights(pixels.shape[1], pixels.shape[2], side)
    with jax.default_matmul_precision("highest"):
        return jnp.einsum("ih,bhwc,jw->bijc", jnp.asarray(rows), pixels, jnp.asarray(columns))
