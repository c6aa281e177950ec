"""From predictions and targets to the paper's metrics, all at once or batch by batch."""

import math

import numpy as np
from jaxtyping import Float

from richhf.evaluation.arrays import FeedbackArrays
from richhf.evaluation.keywords import flag_metrics
from richhf.evaluation.scores import plcc, srcc
from richhf.evaluation.values import ExampleValues, concatenate_values, example_values
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

SCORE_METRICS = {"plcc": plcc, "srcc": srcc}
_CHUNK = 32  # examples compared at once; bounds the float64 copies of their maps


class FeedbackAccumulator:
    """Collects the comparison of a split batch by batch and keeps numbers, never maps.

    The result does not depend on how the examples were cut into batches.
    """

    def __init__(self):
        self._parts: list[ExampleValues] = []

    def add(
        self,
        predicted: FeedbackArrays,
        target: FeedbackArrays,
        measured: Float[np.ndarray, "n 2 m"] | None = None,
    ) -> ExampleValues:
        """Compares a batch and returns its values; arguments and errors as of `example_values`."""
        self._parts.append(example_values(predicted, target, measured))
        return self._parts[-1]

    def values(self) -> ExampleValues:
        """The values of every example so far, in order."""
        return concatenate_values(self._parts)

    def result(self) -> dict:
        """The metrics over every example so far, as `summarise` gives them."""
        return summarise(self.values())


def evaluate_feedback(predicted: FeedbackArrays, target: FeedbackArrays) -> dict:
    """The paper's metrics of predictions against targets.

    Args:
      predicted: predictions; their maps may have another size than the targets'.
      target: labels of the same images in the same order; what is not valid in it is left out.

    Returns:
      `{"scores": {name: {"plcc", "srcc"}}, "heatmaps": {name: {"mse", "mse_empty", "cc", "kld", "sim",
      "nss", "auc_judd"}}, "keywords": {"pooled": {"precision", "recall", "f1"}, "per_sample": {...}}}`:
      floats, or None where a metric is undefined, so that it is valid JSON as it is. MSE is over all
      examples, `mse_empty` over those with an empty true map, the other map metrics over those with a true
      map above 0.

    Raises:
      ValueError: they are not about the same images, or predictions are not finite.
    """
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(target), _CHUNK)]
    if len(predicted) != len(target) or not chunks:
        raise ValueError(f"Expected as many predictions as targets, not {len(predicted)} and {len(target)}.")
    return summarise(
        concatenate_values([example_values(predicted.select(c), target.select(c)) for c in chunks])
    )


def summarise(values: ExampleValues) -> dict:
    """Averages the values of a split into the nested metrics that `evaluate_feedback` describes."""
    scores = {}
    for i, name in enumerate(SCORES):
        known = ~np.isnan(values.true_scores[:, i])
        pair = values.predicted_scores[known, i], values.true_scores[known, i]
        scores[name] = {metric: _number(function(*pair)) for metric, function in SCORE_METRICS.items()}
    maps = {
        name: {metric: _mean(value) for metric, value in values.heatmaps[name].items()} for name in HEATMAPS
    }
    valid = np.flatnonzero(values.keyword_valid)
    rates = flag_metrics(
        [values.prompts[i] for i in valid],
        [values.predicted_flags[i] for i in valid],
        [values.true_flags[i] for i in valid],
    )
    keywords = {
        name: {metric: _number(value) for metric, value in part.items()} for name, part in rates.items()
    }
    return {"scores": scores, "heatmaps": maps, KEYWORDS: keywords}


def flatten_metrics(metrics: dict, prefix: str = "") -> dict[str, float]:
    """Nested metrics as one level, `{"scores/plausibility/plcc": 0.7, ...}`; undefined ones are left out."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            flat |= flatten_metrics(value, f"{prefix}{name}/")
        elif value is not None:
            flat[f"{prefix}{name}"] = float(value)
    return flat


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
