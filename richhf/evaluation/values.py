"""What the metrics are averages of: the values of each example, small enough to keep for a whole split."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Real

from richhf.evaluation import heatmaps
from richhf.evaluation.arrays import FeedbackArrays, unit_maps
from richhf.evaluation.keywords import Marks, count_marks, pair_marks
from richhf.feedback import HEATMAPS, SCORES

Measure = Callable[[Any, Any], Any]
"""Predicted and true maps [n 2 h w] to their metrics [n 2 m]: `measure_maps`, or the same on a device."""

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
      predicted_flags: for each example the flags of its prompt's words, as predicted; None where a word is
        not covered.
      true_flags: the true ones; None for words that are left out.
    """

    filenames: list[str]
    prompts: list[str]
    predicted_scores: Float[np.ndarray, "n 4"]
    true_scores: Float[np.ndarray, "n 4"]
    heatmaps: dict[str, dict[str, Float[np.ndarray, " n"]]]
    predicted_keywords: list[str]
    true_keywords: list[str]
    keyword_valid: Bool[np.ndarray, " n"]
    predicted_flags: list[tuple[bool | None, ...]]
    true_flags: list[tuple[bool | None, ...]]

    def __len__(self) -> int:
        return len(self.filenames)

    def keyword_marks(self, index: int) -> tuple[Marks, Marks]:
        """Returns the words of an example with their predicted and with their true flags."""
        return pair_marks(self.prompts[index], self.predicted_flags[index], self.true_flags[index])

    def keyword_f1(self) -> Float[np.ndarray, " n"]:
        """F1 of each example's words; 1 where nothing is misaligned nor flagged, nan where unknown."""
        f1 = np.full(len(self), np.nan)
        for i in np.flatnonzero(self.keyword_valid):
            hits, alarms, misses = count_marks(*self.keyword_marks(int(i)))
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


def measure_maps(
    predicted: Real[np.ndarray, "b 2 h w"] | Real[Array, "b 2 h w"],
    true: Real[np.ndarray, "b 2 h2 w2"] | Real[Array, "b 2 h2 w2"],
) -> Float[np.ndarray, "b 2 m"] | Float[Array, "b 2 m"]:
    """Compares maps where they lie, so that numbers travel to the host instead of maps.

    Args:
      predicted: maps in [0, 1], or uint8 where 255 means 1; of another size they are resized to the truth's.
      true: as predicted.

    Returns:
      The metrics of each map in the order of `HEATMAPS` and `HEATMAP_METRICS`, nan where one is undefined; by
      `jax.jit` float32 within 1e-5 of the float64 that NumPy arrays give. An MSE that is nan tells of a
      prediction that is.
    """
    xp = true.__array_namespace__()
    measured = []
    for i in range(len(HEATMAPS)):
        pred, truth = (unit_maps(maps[:, i]) for maps in (predicted, true))
        pred = heatmaps.resize_maps(pred, truth.shape[1:])
        values = {name: function(pred, truth) for name, function in heatmaps.METRICS.items()}
        values["mse_empty"] = xp.where(xp.any(truth > 0, axis=(1, 2)), xp.nan, values["mse"])
        measured.append(xp.stack([values[name] for name in HEATMAP_METRICS], axis=1))
    return xp.stack(measured, axis=1)


def example_values(
    predicted: FeedbackArrays,
    target: FeedbackArrays,
    measured: Float[np.ndarray, "n 2 m"] | None = None,
) -> ExampleValues:
    """Compares each prediction with its target; predicted maps of another size are resized to the target's.

    Args:
      predicted: predictions; of their maps nothing is read where `measured` is given.
      target: labels of the same images in the same order.
      measured: what `measure_maps` gave for them; None: it is computed here.

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
    if measured is not None:
        finite &= ~np.isnan(measured[:, :, HEATMAP_METRICS.index("mse")]).any(axis=1)
    elif predicted.heatmaps.dtype != np.uint8:
        finite &= np.isfinite(predicted.heatmaps).all(axis=(1, 2, 3))
    if not finite.all():
        first = predicted.filenames[int(np.argmin(finite))]
        raise ValueError(
            f"{(~finite).sum()} of {len(predicted)} predictions are not finite, the first for {first!r}. "
            "The model has probably diverged: evaluate an earlier checkpoint, or lower the learning rate."
        )
    if measured is None:
        measured = np.asarray(measure_maps(predicted.heatmaps, target.heatmaps))
    measured = np.where(target.heatmap_valid[:, :, None], measured, np.nan).astype(np.float64)
    return ExampleValues(
        filenames=list(target.filenames),
        prompts=list(target.prompts),
        predicted_scores=predicted.scores.astype(np.float64),
        true_scores=np.where(target.score_valid, target.scores, np.nan).astype(np.float64),
        heatmaps={
            name: {metric: measured[:, i, j] for j, metric in enumerate(HEATMAP_METRICS)}
            for i, name in enumerate(HEATMAPS)
        },
        predicted_keywords=list(predicted.keywords),
        true_keywords=list(target.keywords),
        keyword_valid=target.keyword_valid,
        predicted_flags=list(predicted.flags),
        true_flags=list(target.flags),
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
