"""Agreement of predicted and true scores: Pearson (PLCC) and Spearman (SRCC) correlation (paper, 4.2)."""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Array, Float, Real

Vector = Real[np.ndarray, " n"] | Real[Array, " n"] | Sequence[SupportsFloat]


def plcc(pred: Vector, true: Vector) -> float:
    """Pearson's linear correlation coefficient of the raw values.

    Args:
      pred: `[n]`, predicted scores of n examples.
      true: `[n]`, true scores of the same examples.

    Returns:
      A value in [-1, 1]; nan where it is undefined: fewer than two examples, or a constant on either side
      (`metrics.json` writes null for it).

    Raises:
      ValueError: the arrays are not one-dimensional, differ in length, or hold a value that is not finite.
    """
    return _pearson(*_pair(pred, true))


def srcc(pred: Vector, true: Vector) -> float:
    """Spearman's rank correlation: Pearson's over ranks, equal values sharing the average of their ranks.

    Args:
      pred: `[n]`, predicted scores of n examples.
      true: `[n]`, true scores of the same examples.

    Returns:
      A value in [-1, 1]; nan where `plcc` is nan.

    Raises:
      ValueError: as `plcc`.
    """
    pred, true = _pair(pred, true)
    return _pearson(average_ranks(pred), average_ranks(true))


def average_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 1 to n in increasing order; equal values share the mean of the ranks they cover."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[group]


def _pearson(pred: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]) -> float:
    # Compared exactly: the mean of equal values may round to something else, and leave a deviation of 1e-17.
    if len(pred) < 2 or np.all(pred == pred[0]) or np.all(true == true[0]):
        return float("nan")
    pred = pred - pred.mean()
    true = true - true.mean()
    # Unit length before the product, so that tiny or huge values do not under- or overflow.
    pred = pred / np.abs(pred).max()
    true = true / np.abs(true).max()
    r = (pred @ true) / np.sqrt((pred @ pred) * (true @ true))
    return float(np.clip(r, -1.0, 1.0))


def _pair(pred: Any, true: Any) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    pred, true = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    if pred.ndim != 1 or pred.shape != true.shape:
        raise ValueError(
            f"Scores must be two one-dimensional arrays of one length; got shapes {pred.shape} (predicted) "
            f"and {true.shape} (true). Compare one score at a time, for example pred[:, 0]."
        )
    for side, values in (("predicted", pred), ("true", true)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(
                f"{bad.size} of {values.size} {side} scores are not finite; the first is {values[bad[0]]} "
                f"at index {bad[0]}. Leave out missing scores before comparing."
            )
    return pred, true
