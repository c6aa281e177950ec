"""The losses of the seven outputs: small frozen values, called with logits, targets and a mask.

All of them compute in float32 and return the weighted mean over what the mask (weights >= 0) lets through,
before the loss's own weight. Where nothing is let through they are 0 with gradient 0. `total` is that of
`weighted_mean`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped, UInt8

from richhf.models.choices import check_choice

MSE = "mse"
BCE = "bce"


def weighted_mean(
    values: Float[Array, "*shape"], weights: Shaped[Array, "*shape"], total: Float[Array, ""] | None = None
) -> Float[Array, ""]:
    """Mean of `values` by `weights`; 0 where all weights are 0.

    Args:
        values: what to average.
        weights: not negative.
        total: what to divide by, where these values are a part of those that the mean is over; the parts then
            add up to it. None: the sum of the weights.
    """
    weights = weights.astype(jnp.float32)
    total = jnp.sum(weights) if total is None else total
    # A value that is not counted must not reach the gradient either, even if it is not finite.
    counted = jnp.where(weights > 0, values, 0.0) * weights
    return jnp.sum(counted) / jnp.where(total > 0, total, 1.0)


def sigmoid_cross_entropy(
    logits: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cross entropy of sigmoid(logits) with targets in [0, 1], without overflow."""
    return jnp.maximum(logits, 0.0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def scale_heatmap(
    heatmap: UInt8[Array, "b h w"] | Float[Array, "b h w"], size: tuple[int, int]
) -> Float[Array, "b h2 w2"]:
    """Brings true maps to a smaller map size by averaging whole blocks of pixels.

    Args:
        heatmap: uint8 (255 = 1.0), or floats in [0, 1].
        size: rows and columns wanted; they must divide those of the map.

    Returns:
        float32 maps in [0, 1].
    """
    if heatmap.dtype == jnp.uint8:
        heatmap = heatmap.astype(jnp.float32) / 255.0
    b, h, w = heatmap.shape
    if (h, w) == size:
        return heatmap
    if h % size[0] or w % size[1]:
        raise ValueError(
            f"true maps of {h} x {w} px cannot be averaged in whole blocks to the predicted "
            f"{size[0]} x {size[1]}; choose the image size, the patch size and the number of "
            "HeatmapHeadConfig.deconv_widths so that they can."
        )
    blocks = heatmap.reshape(b, size[0], h // size[0], size[1], w // size[1])
    return blocks.mean(axis=(2, 4))


@dataclasses.dataclass(frozen=True)
class HeatmapLoss:
    """Mean over pixels of the squared error of the map (paper), or of a cross entropy.

    Attributes:
        weight: factor of this loss in the total.
        kind: "mse" or "bce"; the latter learns sparse maps much sooner from a fresh head.
        positive_weight: factor of a pixel whose target is 1; in between it grows linearly from 1.
    """

    weight: float = 1.0
    kind: str = MSE
    positive_weight: float = 1.0

    def __post_init__(self):
        check_choice("HeatmapLoss.kind", self.kind, (MSE, BCE))

    def __call__(
        self,
        logits: Float[Array, "b h w"],
        targets: UInt8[Array, "b h2 w2"] | Float[Array, "b h2 w2"],
        weights: Float[Array, "b"],
        total: Float[Array, ""] | None = None,
    ) -> Float[Array, ""]:
        """Loss of one output; `targets` as in `scale_heatmap`, a weight for each image."""
        logits = logits.astype(jnp.float32)
        _, rows, columns = logits.shape
        targets = scale_heatmap(targets, (rows, columns))
        if self.kind == BCE:
            errors = sigmoid_cross_entropy(logits, targets)
        else:
            errors = lax.square(jax.nn.sigmoid(logits) - targets)
        if self.positive_weight != 1.0:
            errors = errors * (1.0 + (self.positive_weight - 1.0) * targets)
        return weighted_mean(errors.mean(axis=(1, 2)), weights, total)


@dataclasses.dataclass(frozen=True)
class ScoreLoss:
    """Squared error of the score (paper).

    Attributes:
        weight: factor of this loss in the total.
    """

    weight: float = 1.0

    def __call__(
        self,
        logits: Float[Array, "b"],
        targets: Float[Array, "b"],
        weights: Float[Array, "b"],
        total: Float[Array, ""] | None = None,
    ) -> Float[Array, ""]:
        """Loss of one output; targets in [0, 1], a weight for each image."""
        errors = lax.square(jax.nn.sigmoid(logits.astype(jnp.float32)) - targets)
        return weighted_mean(errors, weights, total)


@dataclasses.dataclass(frozen=True)
class KeywordLoss:
    """Cross entropy of the keyword sequence, teacher forced (paper).

    Attributes:
        weight: factor of this loss in the total.
    """

    weight: float = 1.0

    def __call__(
        self,
        logits: Float[Array, "b k v"],
        targets: Int[Array, "b k"],
        weights: Float[Array, "b k"],
        total: Float[Array, ""] | None = None,
    ) -> Float[Array, ""]:
        """Loss of the sequences; a weight for each token."""
        return -weighted_mean(token_log_probabilities(logits, targets), weights, total)


def token_log_probabilities(logits: Float[Array, "b k v"], targets: Int[Array, "b k"]) -> Float[Array, "b k"]:
    """Log probability of each target token, in float32."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class WordLoss:
    """Cross entropy of the word head (an extension of this project, see `RAHFConfig.word_head`).

    Attributes:
        weight: factor of this loss in the total.
        positive_weight: factor of the tokens of misaligned words.
    """

    weight: float = 1.0
    positive_weight: float = 1.0

    def weights(self, labels: Int[Array, "b l"]) -> Float[Array, "b l"]:
        """The weight of each token; labels are 1 misaligned, 0 aligned, -1 not counted."""
        return jnp.where(labels > 0, self.positive_weight, (labels == 0).astype(jnp.float32))

    def __call__(
        self, logits: Float[Array, "b l"], labels: Int[Array, "b l"], total: Float[Array, ""] | None = None
    ) -> Float[Array, ""]:
        """Loss of all tokens; labels as in `weights`."""
        errors = sigmoid_cross_entropy(logits.astype(jnp.float32), (labels > 0).astype(jnp.float32))
        return weighted_mean(errors, self.weights(labels), total)


@dataclasses.dataclass(frozen=True)
class ImageWordLoss:
    """Cross entropy of the image word head (an extension of this project, see `RAHFConfig.image_word_head`).

    Attributes:
        weight: factor of this loss in the total.
    """

    weight: float = 0.1

    def weights(self, shown: Int[Array, "b l"]) -> Float[Array, "b"]:
        """1 for each image that shows any word."""
        return (shown > 0).any(axis=1).astype(jnp.float32)

    def __call__(
        self, logits: Float[Array, "b v"], shown: Int[Array, "b l"], total: Float[Array, ""] | None = None
    ) -> Float[Array, ""]:
        """Summed over the vocabulary.

        Args:
            logits: for each token of the vocabulary.
            shown: tokens of the words that the image shows, 0 elsewhere; an image without any does not count.
            total: as in `weighted_mean`.
        """
        rows = jnp.arange(shown.shape[0])[:, None]
        targets = jnp.zeros(logits.shape, jnp.float32).at[rows, shown].max((shown > 0).astype(jnp.float32))
        errors = sigmoid_cross_entropy(logits.astype(jnp.float32), targets).sum(axis=1)
        return weighted_mean(errors, self.weights(shown), total)
