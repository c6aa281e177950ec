"""From where on a prediction is a finding: thresholds calibrated on examples whose truth is known.

For artifacts and for misalignments, the truth is whether the true map has something marked. A prediction
finds it by

- the peak of its map: from the threshold on, or
- its score (plausibility, alignment): below the threshold,

whichever the user has asked for (`Feedback.has_artifact`). Each threshold is the one with the best F1 on the
examples; of equally good neighbours the middle.
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from richhf.data.records import Record
from richhf.feedback import Feedback
from richhf.inference.predictor import Predictor

DECIDED_BY = {"implausibility": "plausibility", "misalignment": "alignment"}
"""The maps, and the score that decides where there is no map."""


def calibrate(pairs: Iterable[tuple[Feedback, Feedback]]) -> dict[str, float]:
    """Thresholds by name, for `Settings.thresholds`.

    Args:
      pairs: predictions and truths of the same examples, best those of the dev split. A map or score that is
        in none of the predictions is passed over, as are truths without the map.

    Returns:
      Thresholds in [0, 1]; none for what cannot be calibrated: where no truth, or each, has something marked.
    """
    peaks: dict[str, list[tuple[float, bool]]] = {}
    for predicted, true in pairs:
        for heatmap, score in DECIDED_BY.items():
            if heatmap not in true.heatmaps:
                continue
            marked = bool(true.heatmaps[heatmap].max() > 0)
            if heatmap in predicted.heatmaps:
                peak = float(predicted.heatmaps[heatmap].max())
                peaks.setdefault(heatmap, []).append((peak, marked))
            if score in predicted.scores:
                # The lower, the more likely: the same as a peak of one minus it.
                peaks.setdefault(score, []).append((1.0 - predicted.scores[score], marked))
    thresholds = {}
    for name, found in peaks.items():
        values, positive = (np.array(column) for column in zip(*found, strict=True))
        if 0 < positive.sum() < len(positive):
            best = best_threshold(values, positive)
            thresholds[name] = best if name in DECIDED_BY else 1.0 - best
    return thresholds


def calibrate_on_records(predictor: Predictor, records: Iterable[Record]) -> dict[str, float]:
    """Thresholds of a predictor by the truth in records with image and prompt; see `calibrate`."""
    wanted = "heatmaps", "scores"
    return calibrate(
        (predictor(record.decode_image(), record.prompt or "", outputs=wanted)[0], record.to_feedback())
        for record in records
    )


def best_threshold(values: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """The threshold t in [0, 1] by which `values >= t` agrees best (F1) with what is positive."""
    order = np.argsort(-values, kind="stable")
    values, positive = values[order], positive[order]
    hits = np.cumsum(positive)
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + positive.sum())
    # Only where the next value is another one can a threshold part them.
    f1[:-1][values[:-1] == values[1:]] = -math.inf
    last = int(np.argmax(f1))
    below = values[last + 1] if last + 1 < len(values) else 0.0
    return float(np.clip((values[last] + below) / 2, 0.0, 1.0))
