"""Agreement of predicted and true heatmaps: MSE, CC, KLD, SIM, NSS and AUC-Judd (paper, section 4.2).

Every metric takes `[b h w]` maps in [0, 1] and returns one value a map, nan where the metric has no meaning.
NumPy arrays are measured on the host in float64; JAX arrays where they lie, in float32, also inside a jitted
function: there values cannot be checked, only shapes. Both go through the same lines (but for AUC-Judd, where
the host is faster by another way) and agree to 1e-5.
Degenerate maps:

| | mse | cc | kld | sim | nss | auc_judd |
|---|---|---|---|---|---|---|
| truth empty (all 0) | defined | nan | nan | nan | nan | nan |
| truth constant above 0 | defined | nan | defined | defined | 0 (to rounding) | nan |
| prediction constant | defined | 0 | as uniform | as uniform | 0 | 0.5 |

The truth's fault is nan and the sample is left out of the mean; a prediction without any information counts,
with the value of chance, so that a model cannot gain by predicting constant maps.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

EPS = 1e-8
_SLACK = 1e-6  # float32 rounding of a bilinear resize may pass 1 by this much

Maps = Real[np.ndarray, "b h w"] | Real[Array, "b h w"]
PerMap = Float[np.ndarray, " b"] | Float[Array, " b"]
Pixels = Float[np.ndarray, "b p"] | Float[Array, "b p"]


def mse(pred: Maps, true: Maps) -> PerMap:
    """Mean squared error over the pixels of each map. Defined for every truth, also for an empty one.

    Args:
      pred: `[b h w]` in [0, 1], predicted maps.
      true: `[b h w]` in [0, 1], true maps.

    Returns:
      `[b]`, 0 for equal maps; lower is better.

    Raises:
      ValueError: shapes differ, or values are not finite or not in [0, 1]; so do all metrics of this file.
    """
    xp, pred, true = _pixels(pred, true)
    return xp.mean(xp.square(pred - true), axis=1)


def cc(pred: Maps, true: Maps) -> PerMap:
    """Pearson's correlation coefficient over the pixels of each map.

    Args:
      pred: `[b h w]` in [0, 1].
      true: `[b h w]` in [0, 1].

    Returns:
      `[b]` in [-1, 1]; 0 for a constant prediction, nan for a constant (or empty) truth.
    """
    xp, pred, true = _pixels(pred, true)
    flat_pred, flat_true = _constant(pred), _constant(true)
    pred, true = _centred(xp, pred), _centred(xp, true)
    norm = xp.sqrt(xp.sum(pred * pred, axis=1)) * xp.sqrt(xp.sum(true * true, axis=1))
    r = xp.sum(pred * true, axis=1) / xp.where(flat_pred | flat_true, 1.0, norm)
    return xp.where(flat_true, xp.nan, xp.where(flat_pred, 0.0, xp.clip(r, -1.0, 1.0)))


def kld(pred: Maps, true: Maps) -> PerMap:
    """Kullback-Leibler divergence of the truth from the prediction, both normalised to sum 1.

    `sum(true * log(true / (pred + eps) + eps))` with eps 1e-8.

    Args:
      pred: `[b h w]` in [0, 1]; an all-zero prediction counts as uniform, like every constant one.
      true: `[b h w]` in [0, 1].

    Returns:
      `[b]`, about 0 for equal maps; lower is better; nan for an empty truth.
    """
    xp, pred, true = _pixels(pred, true)
    empty = ~xp.any(true > 0, axis=1)
    pred, true = _normalised(xp, pred), _normalised(xp, true)
    return xp.where(empty, xp.nan, xp.sum(true * xp.log(true / (pred + EPS) + EPS), axis=1))


def sim(pred: Maps, true: Maps) -> PerMap:
    """Similarity: the sum over pixels of the minimum of both maps, each normalised to sum 1.

    Args:
      pred: `[b h w]` in [0, 1]; an all-zero prediction counts as uniform, like every constant one.
      true: `[b h w]` in [0, 1].

    Returns:
      `[b]` in [0, 1], 1 for maps equal up to scale; nan for an empty truth.
    """
    xp, pred, true = _pixels(pred, true)
    overlap = xp.minimum(_normalised(xp, pred), _normalised(xp, true)).sum(axis=1)
    return xp.where(xp.any(true > 0, axis=1), overlap, xp.nan)


def nss(pred: Maps, true: Maps) -> PerMap:
    """Normalised scanpath saliency: the standardised prediction averaged over the pixels with truth > 0.

    Args:
      pred: `[b h w]` in [0, 1], standardised by its mean and its unbiased (n - 1) standard deviation.
      true: `[b h w]` in [0, 1]; only whether a pixel is above 0 counts.

    Returns:
      `[b]`, 0 by chance; 0 for a constant prediction, nan for an empty truth.
    """
    xp, pred, true = _pixels(pred, true)
    flat = _constant(pred)
    centred = _centred(xp, pred)
    deviation = xp.sqrt(xp.sum(centred * centred, axis=1) / max(pred.shape[1] - 1, 1))
    positive = true > 0
    count = positive.sum(axis=1)
    mean = xp.sum(centred * positive, axis=1) / xp.maximum(count, 1) / xp.where(flat, 1.0, deviation)
    return xp.where(count == 0, xp.nan, xp.where(flat, 0.0, mean))


def auc_judd(pred: Maps, true: Maps) -> PerMap:
    """Area under the ROC curve after Judd: does the prediction rank pixels with truth > 0 above the others?

    The curve's thresholds are the distinct predicted values on pixels with truth > 0; at each, the share of
    those pixels and the share of the others that are predicted at least that high. The points are joined by
    straight lines from (0, 0) to (1, 1). Equal values pass a threshold together, without random jitter.

    Pixels with truth 0 set no threshold, so the area is a little above the full ROC curve's: by at most
    1 / (2 * positives) if no two predictions are equal, and by more if a false spot lies above positives that
    all share one value (0.5 for a binary map that misses them all).

    Args:
      pred: `[b h w]` in [0, 1].
      true: `[b h w]` in [0, 1]; only whether a pixel is above 0 counts.

    Returns:
      `[b]` in [0, 1]; 0.5 for a constant prediction; nan if no pixel or every pixel has truth > 0.
    """
    xp, pred, true = _pixels(pred, true, widen=False)
    positive: Any = true > 0
    if xp is np:
        return np.array([_area(*pair) for pair in zip(np.asarray(pred), positive, strict=True)])
    return _areas(pred, positive)


def _area(pred: Real[np.ndarray, " p"], positive: Bool[np.ndarray, " p"]) -> float:
    """AUC-Judd of one map on the host."""
    hits, others = pred[positive], pred[~positive]
    if not hits.size or not others.size:
        return math.nan
    thresholds, equal = np.unique(hits, return_counts=True)
    passing = np.sort(others[others >= thresholds[0]])
    alarms = passing.size - np.searchsorted(passing, thresholds)
    x = np.concatenate([[0], alarms[::-1], [others.size]]) / others.size
    y = np.concatenate([[0], np.cumsum(equal[::-1]), [hits.size]]) / hits.size
    return float(np.trapezoid(y, x))


def _areas(pred: Any, positive: Bool[Array, "b p"]) -> PerMap:
    """AUC-Judd of each map on a device, where no array may be of a size that values decide."""
    # Bits of floats from 0 up are ordered as their values; the last bit tells pixels with truth 0, which thus
    # come first among equal values when all are sorted from the highest prediction down.
    bits = jnp.where(pred > 0, pred, 0).view(jnp.int32)
    keys = ~jnp.sort(~(2 * bits + ~positive), axis=1)
    hit = keys % 2 == 0
    hits, alarms = (_counts(mask) for mask in (hit, ~hit))
    # The last hit of each value is a point of the curve; between points the last one stays.
    point = hit & jnp.concatenate([keys[:, 1:] != keys[:, :-1], jnp.ones_like(hit[:, :1])], axis=1)
    x, y = (jax.lax.cummax(jnp.where(point, count, 0), axis=1) for count in (alarms, hits))
    widths, heights = _with_zero(x), _with_zero(y)
    area = jnp.sum((widths[:, 1:] - widths[:, :-1]) * (heights[:, 1:] + heights[:, :-1]), axis=1)
    positives, others = hits[:, -1], alarms[:, -1]
    area = area / jnp.maximum(2 * positives * others, 1) + 1 - x[:, -1] / jnp.maximum(others, 1)
    return jnp.where((positives > 0) & (others > 0), area, jnp.nan)


METRICS = {"mse": mse, "cc": cc, "kld": kld, "sim": sim, "nss": nss, "auc_judd": auc_judd}


def resize_maps(maps: Maps, size: tuple[int, int]) -> Float[np.ndarray, "b h2 w2"] | Float[Array, "b h2 w2"]:
    """Bilinear resize to `(height, width)`, as float32: half-pixel centres; averages when it shrinks.

    Raises:
      ValueError: there are no pixels, before or after.
    """
    xp = _namespace(maps)
    maps = xp.asarray(maps, xp.float32)
    if maps.shape[1:] == tuple(size):
        return maps
    if 0 in (*maps.shape[1:], *size):
        raise ValueError(f"maps of {maps.shape[1:]} pixels cannot be resized to {tuple(size)}.")
    rows, columns = (_weights(*sides) for sides in zip(maps.shape[1:], size, strict=True))
    with jax.default_matmul_precision("highest"):
        return xp.matmul(xp.matmul(rows, maps), columns.T)


def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """What each old pixel of a row gives to each new one: a triangle as wide as the larger pixel's two."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distances = np.abs(centres[:, None] - (np.arange(old) + 0.5)) / max(scale, 1.0)
    weights = np.maximum(1.0 - distances, 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _namespace(*arrays: Any) -> Any:
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def _pixels(pred: Any, true: Any, *, widen: bool = True) -> tuple[Any, Pixels, Pixels]:
    """The namespace that both belong to, and both as floats [b p]; of NumPy arrays float64, or as they are.

    Args:
      pred: predicted maps.
      true: true maps.
      widen: whether anything is computed with them; to sort narrow numbers is faster.
    """
    xp = _namespace(pred, true)
    pred, true = xp.asarray(pred), xp.asarray(true)
    if pred.ndim != 3 or pred.shape != true.shape or 0 in pred.shape[1:]:
        raise ValueError(
            f"Heatmaps must be two [b, h, w] arrays of one shape; got {pred.shape} (predicted) and "
            f"{true.shape} (true). Resize predictions to the truth's size with "
            "richhf.evaluation.resize_maps; add a batch axis to single maps with map[None]."
        )
    sides = []
    for side, maps in (("predicted", pred), ("true", true)):
        if widen or xp is not np or maps.dtype not in (np.float32, np.float64):
            maps = maps.astype(xp.float64 if xp is np else xp.float32)
        maps = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
        known = maps.size and not isinstance(maps, jax.core.Tracer)
        # Written so that nan fails it too.
        if known and not (maps.min() >= -_SLACK and maps.max() <= 1 + _SLACK):
            raise ValueError(
                f"Heatmaps must hold values in [0, 1]; the {side} maps go from {maps.min():g} to "
                f"{maps.max():g}. Divide 8-bit maps by 255 and apply a sigmoid to logits."
            )
        sides.append(maps)
    return xp, sides[0], sides[1]


def _constant(maps: Pixels) -> Any:
    return maps.min(axis=1) == maps.max(axis=1)


def _centred(xp: Any, maps: Pixels) -> Pixels:
    """Deviations from the mean, the largest of them 1."""
    # Twice: in float32 the rounding of the first mean is as large as the deviations of a nearly even map.
    maps = maps - maps.mean(axis=1, keepdims=True)
    maps = maps - maps.mean(axis=1, keepdims=True)
    largest = xp.abs(maps).max(axis=1, keepdims=True)
    # Squares of the deviations of a faint map, as they are, underflow in float32.
    return maps / xp.where(largest > 0, largest, 1.0)


def _normalised(xp: Any, maps: Pixels) -> Pixels:
    total = maps.sum(axis=1, keepdims=True)
    uniform = 1.0 / maps.shape[1]
    return xp.where(total > 0, maps / xp.where(total > 0, total, 1.0), uniform)


def _counts(mask: Bool[Array, "b p"]) -> Float[Array, "b p"]:
    """How often mask is true up to each pixel; exact up to 2^24 pixels."""
    return jnp.cumsum(mask, axis=1, dtype=jnp.int32).astype(jnp.float32)


def _with_zero(values: Float[Array, "b p"]) -> Float[Array, "b p1"]:
    return jnp.concatenate([jnp.zeros_like(values[:, :1]), values], axis=1)
