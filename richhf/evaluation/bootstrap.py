"""How far a metric might be off: percentile bootstrap intervals over the examples of a split.

Examples are drawn with replacement, as many as there are, and each metric is computed anew on every such
resample; the interval holds the middle 95 % of what comes out (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13). It says what another split of the same kind might have given, and nothing of
another training run.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from richhf.evaluation.keywords import CONVENTIONS, KEYWORD_METRICS, count_marks, sample_rates
from richhf.evaluation.values import ExampleValues
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
_CHUNK = 2_000_000  # weights held at once

Weights = Float[np.ndarray, "r n"]
Column = Float[np.ndarray, " n"]
Statistic = Callable[[Weights], Float[np.ndarray, "r k"]]


def bootstrap_intervals(
    values: ExampleValues, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> dict:
    """The intervals of all metrics that `summarise` gives.

    Args:
      values: of every example of a split.
      resamples: how often the split is drawn anew.
      level: share of the resamples that an interval holds.
      seed: the same one gives the same intervals.

    Returns:
      The nested metrics of `evaluate_feedback`, each as [low, high]; None where fewer than half of the
      resamples give a value.
    """
    statistics: dict[tuple[str, ...], tuple[tuple, Statistic]] = {
        ("scores", name): _correlations(values, i) for i, name in enumerate(SCORES)
    }
    statistics |= {("heatmaps", name): _means(values.heatmaps[name]) for name in HEATMAPS}
    statistics[KEYWORDS,] = _keyword_rates(values)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // len(values))
    drawn: dict[tuple, list] = {place: [] for place in statistics}
    for start in range(0, resamples, chunk):
        weights = _resample(rng, min(chunk, resamples - start), len(values))
        for place, (_, statistic) in statistics.items():
            drawn[place].append(statistic(weights))
    intervals: dict = {"scores": {}, "heatmaps": {}}
    for (group, *rest), (names, _) in statistics.items():
        found = _percentiles(np.concatenate(drawn[group, *rest]), level)
        named = dict(zip(names, found, strict=True))
        if rest:
            intervals[group][rest[0]] = named
        else:
            intervals[group] = {
                convention: {metric: named[convention, metric] for metric in KEYWORD_METRICS}
                for convention in CONVENTIONS
            }
    return intervals


def _resample(rng: np.random.Generator, count: int, examples: int) -> Weights:
    """How often each example is drawn, in each of `count` resamples."""
    picks = rng.integers(0, examples, (count, examples)) + examples * np.arange(count)[:, None]
    return np.bincount(picks.ravel(), minlength=count * examples).reshape(count, examples).astype(float)


def _correlations(values: ExampleValues, score: int) -> tuple[tuple[str, ...], Statistic]:
    known = ~np.isnan(values.true_scores[:, score])
    pred, true = values.predicted_scores[known, score], values.true_scores[known, score]
    groups = [np.unique(side, return_inverse=True)[1] for side in (pred, true)]

    def statistic(weights):
        weights = weights[:, known]
        plcc = _pearson(weights, *(np.broadcast_to(side, weights.shape) for side in (pred, true)))
        return np.stack([plcc, _pearson(weights, *(_ranks(weights, group) for group in groups))], axis=1)

    return ("plcc", "srcc"), statistic


def _pearson(weights: Weights, pred: Weights, true: Weights) -> Float[np.ndarray, " r"]:
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    pred, true = (side - np.einsum("rn,rn->r", weights, side)[:, None] / total for side in (pred, true))
    norm = np.einsum("rn,rn,rn->r", weights, pred, pred) * np.einsum("rn,rn,rn->r", weights, true, true)
    # A resample of equal values has a deviation of rounding alone.
    defined = norm > 1e-24 * total[:, 0] ** 2
    return np.where(
        defined, np.einsum("rn,rn,rn->r", weights, pred, true) / np.sqrt(np.where(defined, norm, 1.0)), np.nan
    )


def _ranks(weights: Weights, group: Int[np.ndarray, " n"]) -> Weights:
    """The rank of each example in each resample; copies and equal values share the mean of their ranks."""
    if not group.size:
        return weights
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(counts, axis=1) - (counts - 1) / 2)[:, group]


def _means(metrics: dict[str, Column]) -> tuple[tuple[str, ...], Statistic]:
    stacked = np.stack(list(metrics.values()), axis=1)
    known = ~np.isnan(stacked)

    def statistic(weights):
        return _divide(weights @ np.where(known, stacked, 0.0), weights @ known)

    return tuple(metrics), statistic


def _keyword_rates(values: ExampleValues) -> tuple[tuple[tuple[str, str], ...], Statistic]:
    valid = np.flatnonzero(values.keyword_valid)
    pairs = [values.keyword_marks(int(i)) for i in valid]
    counts = np.array([count_marks(*pair) for pair in pairs], float).reshape(-1, 3)
    rates = np.array([sample_rates(*pair) for pair in pairs], float).reshape(-1, 3)

    def statistic(weights):
        weights = weights[:, valid]
        hits, alarms, misses = (weights @ counts).T
        # 0 / 0 counts 0, as in the metrics themselves.
        pooled = np.stack(
            [
                hits / np.maximum(total, 1)
                for total in (hits + alarms, hits + misses, hits + (alarms + misses) / 2)
            ],
            axis=1,
        )
        drawn = weights.sum(axis=1, keepdims=True)
        samples = _divide(weights @ rates, drawn)
        return np.concatenate([np.where(drawn > 0, pooled, np.nan), samples], axis=1)

    return tuple((convention, metric) for convention in CONVENTIONS for metric in KEYWORD_METRICS), statistic


def _divide(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _percentiles(drawn: Float[np.ndarray, "r k"], level: float) -> list[list[float] | None]:
    found: list[list[float] | None] = []
    for column in drawn.T:
        defined = column[~np.isnan(column)]
        if 2 * defined.size < column.size:
            found.append(None)
        else:
            ends = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
            found.append([float(end) for end in ends])
    return found
