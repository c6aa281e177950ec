import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from richhf.feedback import Feedback
from richhf.inference.thresholds import best_threshold, calibrate


def f1(found, positive):
    hits = (found & positive).sum()
    return 2 * hits / max(found.sum() + positive.sum(), 1)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30))
def test_no_other_threshold_agrees_better(examples):
    values = np.array([value / 8 for value, _ in examples])
    positive = np.array([flag for _, flag in examples])
    if not positive.any():
        return
    threshold = best_threshold(values, positive)
    best = max(f1(values >= other, positive) for other in (*np.unique(values), 1.1))
    assert 0 <= threshold <= 1
    assert f1(values >= threshold, positive) == pytest.approx(best)


def feedback(peak, score, name="implausibility", by="plausibility"):
    heatmap = np.zeros((3, 4), np.float32)
    heatmap[1, 1] = peak
    return Feedback(prompt="a", heatmaps={name: heatmap}, scores={by: score})


def test_findings_agree_with_the_truth_that_was_calibrated_on():
    truths = [feedback(share, 0.5) for share in (0, 0, 1 / 3, 1, 2 / 3)]
    predictions = [
        feedback(*values) for values in ((0.1, 0.9), (0.2, 0.8), (0.3, 0.5), (0.9, 0.1), (0.4, 0.6))
    ]
    thresholds = calibrate(zip(predictions, truths, strict=True))
    assert thresholds == {"implausibility": pytest.approx(0.25), "plausibility": pytest.approx(0.7)}
    for predicted, true in zip(predictions, truths, strict=True):
        marked = true.heatmaps["implausibility"].max() > 0
        assert predicted.replace(thresholds=thresholds).has_artifact == marked
        assert predicted.replace(thresholds=thresholds, heatmaps={}).has_artifact == marked


def test_what_cannot_be_calibrated_has_no_threshold():
    same = [feedback(1.0, 0.5), feedback(1.0, 0.5)]
    assert calibrate(zip(same, same, strict=True)) == {}
    assert calibrate([]) == {}
