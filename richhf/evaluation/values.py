"""What the metrics are averages of: the values of each example, small enough to keep for a whole split."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from richhf.evaluation import heatmaps
from richhf.evaluation.arrays import FeedbackArrays
from richhf.evaluation.keywords import keyword_counts
from richhf.feedback import HEATMAPS, SCORES

HEATMAP_METRICS = ("mse", "mse_empty", "cc", "kld", "sim", "nss", "auc_judd")


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleValues:
    """Values of n examples, without any map.

    Attributes:
      filenames: names of the images.
      prompts: plain prompts.
      predicted_scores: `[n 4]` in the order of `SCORES`.
      true_scores: `[n 4]`, nan where the target has no such score.
      heatmaps: by map and metric (`HEATMAP_METRICS`), `[n]`; nan where a metric is undefined or the map
        unknown.
      predicted_keywords: marked texts as predicted.
      true_keywords: marked prompts.
      keyword_valid: `[n]`, whether `true_keywords` is known.
    """

    filenames: list[str]
    prompts: list[str]
    predicted_scores: Float[np.ndarray, "n 4"]
    true_scores: Float[np.ndarray, "n 4"]
    heatmaps: dict[str, dict[str, Float[np.ndarray, " n"]]]
    predicted_keywords: list[str]
    true_keywords: list[str]
    keyword_valid: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.filenames)

    def keyword_f1(self) -> Float[np.ndarray, " n"]:
        """F1 of each example's words; 1 where nothing is misaligned nor flagged, nan where unknown."""
        f1 = np.full(len(self), np.nan)
        for i in np.flatnonzero(self.keyword_valid):
            hits, alarms, misses = keyword_counts(self.predicted_keywords[i], self.true_keywords[i])
            f1[i] = 2 * hits / (2 * hits + alarms + misses) if hits + alarms + misses else 1.0
        return f1

    def quality(self) -> Float[np.ndarray, " n"]:
        """One number an example, to pick good and bad ones for a gallery; it is no metric.

        Mean over what is known of: CC of each map that is not empty, F1 of the words, 1 - 2 * mean error of
        the scores.
        """
        known = ~np.isnan(self.true_scores)
        error = np.where(known, np.abs(self.predicted_scores - self.true_scores), 0.0)
        closeness = 1.0 - 2.0 * error.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        parts = [self.heatmaps[name]["cc"] for name in HEATMAPS]
        parts += [self.keyword_f1(), np.where(known.any(axis=1), closeness, np.nan)]
        stacked = np.stack(parts)
        count = (~np.isnan(stacked)).sum(axis=0)
        return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), 0.0)


def example_values(predicted: FeedbackArrays, target: FeedbackArrays) -> ExampleValues:
    """Compares each prediction with its target; predicted maps of another size are resized to the target's.

    Raises:
      ValueError: the two are of different lengths or about different images, or a prediction is not finite.
    """
    if predicted.filenames != target.filenames:
        differing = [p for p in zip(predicted.filenames, target.filenames, strict=False) if p[0] != p[1]][:1]
        raise ValueError(
            f"Predictions and targets must be about the same images in the same order; got {len(predicted)} "
            f"predictions and {len(target)} targets"
            + (f", where {differing[0]} differ." if differing else ".")
        )
    finite = np.isfinite(predicted.scores).all(axis=1)
    if predicted.heatmaps.dtype != np.uint8:
        finite &= np.isfinite(predicted.heatmaps).all(axis=(1, 2, 3))
    if not finite.all():
        first = predicted.filenames[int(np.argmin(finite))]
        raise ValueError(
            f"{(~finite).sum()} of {len(predicted)} predictions are not finite, the first for {first!r}. "
            "The model has probably diverged: evaluate an earlier checkpoint, or lower the learning rate."
        )
    return ExampleValues(
        filenames=list(target.filenames),
        prompts=list(target.prompts),
        predicted_scores=predicted.scores.astype(np.float64),
        true_scores=np.where(target.score_valid, target.scores, np.nan).astype(np.float64),
        heatmaps={name: _heatmap_values(predicted, target, name) for name in HEATMAPS},
        predicted_keywords=list(predicted.keywords),
        true_keywords=list(target.keywords),
        keyword_valid=target.keyword_valid,
    )


def concatenate_values(parts: Sequence[ExampleValues]) -> ExampleValues:
    """Joins the values of several batches, in order."""
    if not parts:
        raise ValueError("Nothing was evaluated: expected at least one batch of examples.")

    def join(pieces: list) -> Any:
        if isinstance(pieces[0], dict):
            return {key: join([piece[key] for piece in pieces]) for key in pieces[0]}
        if isinstance(pieces[0], list):
            return [item for piece in pieces for item in piece]
        return np.concatenate(pieces)

    names = [field.name for field in dataclasses.fields(ExampleValues)]
    return ExampleValues(**{name: join([getattr(part, name) for part in parts]) for name in names})


def _heatmap_values(predicted: FeedbackArrays, target: FeedbackArrays, name: str) -> dict[str, np.ndarray]:
    values = {metric: np.full(len(target), np.nan) for metric in HEATMAP_METRICS}
    known = target.heatmap_valid[:, HEATMAPS.index(name)]
    true = target.unit_heatmaps(name)
    present = known & (true > 0).any(axis=(1, 2))
    pred = heatmaps.resize_maps(predicted.unit_heatmaps(name), true.shape[1:])
    values["mse"][known] = heatmaps.mse(pred[known], true[known])
    values["mse_empty"] = np.where(present, np.nan, values["mse"])
    for metric, function in heatmaps.METRICS.items():
        if metric != "mse":
            values[metric][present] = function(pred[present], true[present])
    return values


def count_examples(values: ExampleValues) -> dict:
    """How many examples the metrics rest on: scores and maps by name (maps: all, empty), keywords."""
    known = (~np.isnan(values.true_scores)).sum(axis=0)
    return {
        "scores": {name: int(n) for name, n in zip(SCORES, known, strict=True)},
        "heatmaps": {
            name: {
                "all": int(np.sum(~np.isnan(metrics["mse"]))),
                "empty": int(np.sum(~np.isnan(metrics["mse_empty"]))),
            }
            for name, metrics in values.heatmaps.items()
        },
        "keywords": int(values.keyword_valid.sum()),
    }
