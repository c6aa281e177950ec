"""Agreement of predicted and true heatmaps: MSE, CC, KLD, SIM, NSS and AUC-Judd (paper, section 4.2).

Every metric takes `[b h w]` maps in [0, 1], works in float64 and returns one value a map, nan where the
metric has no meaning. Degenerate maps:

| | mse | cc | kld | sim | nss | auc_judd |
|---|---|---|---|---|---|---|
| truth empty (all 0) | defined | nan | nan | nan | nan | nan |
| truth constant above 0 | defined | nan | defined | defined | 0 (to rounding) | nan |
| prediction constant | defined | 0 | as uniform | as uniform | 0 | 0.5 |

The truth's fault is nan and the sample is left out of the mean; a prediction without any information counts,
with the value of chance, so that a model cannot gain by predicting constant maps.
"""

from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Array, Float, Real

EPS = 1e-8
_SLACK = 1e-6  # float32 rounding of a bilinear resize may pass 1 by this much

Maps = Real[np.ndarray, "b h w"] | Real[Array, "b h w"]
PerMap = Float[np.ndarray, " b"]
Pixels = Float[np.ndarray, "b p"]


def mse(pred: Maps, true: Maps) -> PerMap:
    """Mean squared error over the pixels of each map. Defined for every truth, also for an empty one.

    Args:
      pred: `[b h w]` in [0, 1], predicted maps.
      true: `[b h w]` in [0, 1], true maps.

    Returns:
      `[b]` float64, 0 for equal maps; lower is better.

    Raises:
      ValueError: shapes differ, or values are not finite or not in [0, 1]; so do all metrics of this file.
    """
    pred, true = _pixels(pred, true)
    return np.mean(np.square(pred - true), axis=1)


def cc(pred: Maps, true: Maps) -> PerMap:
    """Pearson's correlation coefficient over the pixels of each map.

    Args:
      pred: `[b h w]` in [0, 1].
      true: `[b h w]` in [0, 1].

    Returns:
      `[b]` float64 in [-1, 1]; 0 for a constant prediction, nan for a constant (or empty) truth.
    """
    pred, true = _pixels(pred, true)
    flat_pred, flat_true = _constant(pred), _constant(true)
    pred = pred - pred.mean(axis=1, keepdims=True)
    true = true - true.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.sum(pred * pred, axis=1)) * np.sqrt(np.sum(true * true, axis=1))
    r = np.sum(pred * true, axis=1) / np.where(flat_pred | flat_true, 1.0, norm)
    return np.where(flat_true, np.nan, np.where(flat_pred, 0.0, np.clip(r, -1.0, 1.0)))


def kld(pred: Maps, true: Maps) -> PerMap:
    """Kullback-Leibler divergence of the truth from the prediction, both normalised to sum 1.

    `sum(true * log(true / (pred + eps) + eps))` with eps 1e-8.

    Args:
      pred: `[b h w]` in [0, 1]; an all-zero prediction counts as uniform, like every constant one.
      true: `[b h w]` in [0, 1].

    Returns:
      `[b]` float64, about 0 for equal maps; lower is better; nan for an empty truth.
    """
    pred, true = _pixels(pred, true)
    empty = _empty(true)
    pred, true = _normalised(pred), _normalised(true)
    return np.where(empty, np.nan, np.sum(true * np.log(true / (pred + EPS) + EPS), axis=1))


def sim(pred: Maps, true: Maps) -> PerMap:
    """Similarity: the sum over pixels of the minimum of both maps, each normalised to sum 1.

    Args:
      pred: `[b h w]` in [0, 1]; an all-zero prediction counts as uniform, like every constant one.
      true: `[b h w]` in [0, 1].

    Returns:
      `[b]` float64 in [0, 1], 1 for maps equal up to scale; nan for an empty truth.
    """
    pred, true = _pixels(pred, true)
    return np.where(_empty(true), np.nan, np.minimum(_normalised(pred), _normalised(true)).sum(axis=1))


def nss(pred: Maps, true: Maps) -> PerMap:
    """Normalised scanpath saliency: the standardised prediction averaged over the pixels with truth > 0.

    Args:
      pred: `[b h w]` in [0, 1], standardised by its mean and its unbiased (n - 1) standard deviation.
      true: `[b h w]` in [0, 1]; only whether a pixel is above 0 counts.

    Returns:
      `[b]` float64, 0 by chance; 0 for a constant prediction, nan for an empty truth.
    """
    pred, true = _pixels(pred, true)
    flat = _constant(pred)
    centred = pred - pred.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.sum(centred * centred, axis=1) / max(pred.shape[1] - 1, 1))
    positive = true > 0
    count = positive.sum(axis=1)
    mean = np.sum(centred * positive, axis=1) / np.maximum(count, 1) / np.where(flat, 1.0, deviation)
    return np.where(count == 0, np.nan, np.where(flat, 0.0, mean))


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
      `[b]` float64 in [0, 1]; 0.5 for a constant prediction; nan if no pixel or every pixel has truth > 0.
    """
    pred, true = _pixels(pred, true)
    return np.array([_auc_judd(p, t > 0) for p, t in zip(pred, true, strict=True)], np.float64)


def _auc_judd(pred: np.ndarray, positive: np.ndarray) -> float:
    above, others = pred[positive], np.sort(pred[~positive])
    if above.size == 0 or others.size == 0:
        return float("nan")
    thresholds, counts = np.unique(above, return_counts=True)
    thresholds, counts = thresholds[::-1], counts[::-1]
    hits = np.cumsum(counts) / above.size
    alarms = (others.size - np.searchsorted(others, thresholds, side="left")) / others.size
    return float(np.trapezoid(np.concatenate([[0.0], hits, [1.0]]), np.concatenate([[0.0], alarms, [1.0]])))


METRICS = {"mse": mse, "cc": cc, "kld": kld, "sim": sim, "nss": nss, "auc_judd": auc_judd}


def resize_maps(maps: Real[np.ndarray, "b h w"], size: tuple[int, int]) -> Float[np.ndarray, "b h2 w2"]:
    """Bilinear resize to `(height, width)`, as float32: half-pixel centres; averages when it shrinks."""
    height, width = size
    maps = np.asarray(maps, np.float32)
    if maps.shape[1:] == (height, width):
        return maps
    resized = np.empty((len(maps), height, width), np.float32)
    for target, source in zip(resized, maps, strict=True):
        image = PIL.Image.fromarray(np.ascontiguousarray(source))
        target[:] = np.asarray(image.resize((width, height), PIL.Image.Resampling.BILINEAR))
    return resized


def _pixels(pred: Any, true: Any) -> tuple[Pixels, Pixels]:
    pred, true = np.asarray(pred), np.asarray(true)
    if pred.ndim != 3 or pred.shape != true.shape or 0 in pred.shape[1:]:
        raise ValueError(
            f"Heatmaps must be two [b, h, w] arrays of one shape; got {pred.shape} (predicted) and "
            f"{true.shape} (true). Resize predictions to the truth's size with "
            "richhf.evaluation.resize_maps; add a batch axis to single maps with map[None]."
        )
    sides = []
    for side, maps in (("predicted", pred), ("true", true)):
        maps = maps.astype(np.float64).reshape(len(maps), maps.shape[1] * maps.shape[2])
        # Written so that nan fails it too.
        if maps.size and not (maps.min() >= -_SLACK and maps.max() <= 1 + _SLACK):
            raise ValueError(
                f"Heatmaps must hold values in [0, 1]; the {side} maps go from {maps.min():g} to "
                f"{maps.max():g}. Divide 8-bit maps by 255 and apply a sigmoid to logits."
            )
        sides.append(maps)
    return sides[0], sides[1]


def _constant(maps: Pixels) -> np.ndarray:
    return maps.min(axis=1) == maps.max(axis=1)


def _empty(maps: Pixels) -> np.ndarray:
    return ~np.any(maps > 0, axis=1)


def _normalised(maps: Pixels) -> Pixels:
    total = maps.sum(axis=1, keepdims=True)
    uniform = 1.0 / maps.shape[1]
    return np.where(total > 0, maps / np.where(total > 0, total, 1.0), uniform)
