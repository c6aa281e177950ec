import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from richhf.feedback import Feedback
from richhf.feedback.findings import OUTPUTS_OF
from richhf.inference.rules import balanced_threshold, fit_weights, wilson_interval
from richhf.inference.thresholds import RATES, calibrate, read_case, true_verdicts


def balanced(found, faulty):
    return (found[faulty].mean() + (~found[~faulty]).mean()) / 2


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_no_other_threshold_is_better_balanced(examples):
    values = np.array([value / 8 for value, _, _ in examples])
    faulty, decided = (np.array(column) for column in list(zip(*examples, strict=True))[1:])
    if not 0 < faulty.sum() < len(faulty):
        return
    threshold = balanced_threshold(values, faulty, decided)
    best = max(balanced((values >= other) | decided, faulty) for other in (*np.unique(values), 1.1))
    reached = balanced((values >= threshold) | decided, faulty)
    assert 0 <= threshold <= 1
    # Values of 1 cannot be excluded by a threshold in [0, 1].
    assert reached == pytest.approx(best) or (values == 1).any()


def test_weights_are_never_negative_and_do_not_depend_on_the_base_rate():
    rng = np.random.default_rng(0)
    faulty = rng.random(4000) < 0.5
    evidence = rng.normal(faulty[:, None] * [1.0, 0.0, -1.0], 1.0)
    weights, bias = fit_weights(evidence, faulty)
    assert weights[0] == pytest.approx(1.0, abs=0.15)
    assert weights[1] == pytest.approx(0.0, abs=0.1)
    assert (weights >= 0).all()
    assert weights[2] == 0
    kept = faulty | (rng.random(4000) < 0.15)
    rare, rare_bias = fit_weights(evidence[kept], faulty[kept])
    np.testing.assert_allclose(rare, weights, atol=0.2)
    assert rare_bias == pytest.approx(bias, abs=0.2)


def test_wilson_intervals():
    # Agresti and Coull, The American Statistician 52 (1998), and R's prop.test(correct = FALSE)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)


def feedback(peak, score, name="implausibility", by="plausibility", **changes):
    heatmap = np.zeros((3, 4), np.float32)
    heatmap[1, 1] = peak
    return Feedback(prompt="a b", heatmaps={name: heatmap}, scores={by: score}, **changes)


def test_the_truth_is_what_a_majority_marked():
    assert [true_verdicts(feedback(share, 0.5)) for share in (0, 1 / 3, 2 / 3, 1)] == [
        {"has_artifact": found} for found in (False, False, True, True)
    ]
    words = dict(words=("a", "b"), name="misalignment", by="alignment")
    for share, flags, found in (
        (1 / 3, (False, False), False),
        (0, (False, True), True),
        (1, (False, False), True),
    ):
        assert true_verdicts(feedback(share, 0.5, misaligned=flags, **words)) == {"has_misalignment": found}


def pairs(count, seed=0):
    """Predictions that follow the truth with noise; of one image in four, nothing is wrong."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        wrong = rng.random() < 0.75
        kinds = ("misalignment", "alignment", "implausibility", "plausibility")
        values = np.clip(rng.normal(0.55 if wrong else 0.3, 0.2, len(kinds)), 0, 1)
        heatmaps = {
            name: np.full((2, 2), value, np.float32) for name, value in zip(kinds, values, strict=True)
        }
        flagged = bool(rng.random() < (0.8 if wrong else 0.1))
        confidence = 0.5 + 0.5 * rng.random() if flagged else 0.5 * rng.random()
        predicted = Feedback(
            prompt="a b",
            heatmaps={name: heatmaps[name] for name in kinds[::2]},
            scores={name: 1 - float(heatmaps[name][0, 0]) for name in kinds[1::2]},
            words=("a", "b"),
            misaligned=(False, flagged),
            word_confidences=(0.01, confidence),
        )
        true = predicted.replace(
            heatmaps=dict.fromkeys(kinds[::2], np.full((2, 2), float(wrong), np.float32)),
            misaligned=(False, wrong),
        )
        made.append((predicted, true))
    return made


def cases(predicted_and_true):
    return [read_case(predicted, true) for predicted, true in predicted_and_true]


def test_verdicts_from_more_outputs_are_better_and_their_reported_errors_hold_on_new_examples():
    calibration = calibrate(cases(pairs(600)))
    told = {(one["verdict"], *one["outputs"]): one for one in calibration.report["error_rates"]}
    assert set(told) == {(rule.verdict, *rule.outputs) for rule in calibration.rules}
    assert len(told) == 3 + 7

    def wrong(rates):
        return (rates["false_positive_rate"][0] + rates["false_negative_rate"][0]) / 2

    for verdict, outputs in OUTPUTS_OF.items():
        together = wrong(told[verdict, *outputs])
        assert together < min(wrong(told[verdict, output]) for output in outputs)
        # Equal weight: neither error is bought with the other, though three of four images are faulty.
        rates = [told[verdict, *outputs][name][0] for name in RATES[2:]]
        assert max(rates) < 0.25
    new = pairs(2000, seed=1)
    for verdict, truth in zip(
        OUTPUTS_OF, zip(*(true_verdicts(t).values() for _, t in new), strict=True), strict=True
    ):
        stored = dict(thresholds=calibration.thresholds, rules=calibration.rules)
        found = np.array([getattr(p.replace(**stored), verdict) for p, _ in new])
        faulty = np.array(truth)
        rates = told[verdict, *OUTPUTS_OF[verdict]]
        for name, value in (
            ("recall", found[faulty].mean()),
            ("false_positive_rate", found[~faulty].mean()),
            ("precision", faulty[found].mean()),
        ):
            share, low, high = rates[name]
            assert low < share < high
            assert low - 0.05 < value < high + 0.05
    held_out = calibrate(cases(pairs(600)), cases(new)).report["error_rates"][0]
    assert held_out["examples"] == 2000


def test_each_set_of_outputs_has_its_verdict():
    calibration = calibrate(cases(pairs(200)))
    stored = dict(thresholds=calibration.thresholds, rules=calibration.rules)
    predicted, _ = pairs(1, seed=5)[0]
    whole = predicted.replace(**stored)
    for changes in (
        dict(heatmaps={}, image_size=(2, 2)),
        dict(scores={}),
        dict(misaligned=(), word_confidences=()),
        dict(heatmaps={}, scores={}, image_size=(2, 2)),
    ):
        some = whole.replace(**changes)
        assert "has_misalignment" in some.findings
        assert some.findings["has_misalignment"].probability is not None
    assert "has_artifact" not in whole.replace(heatmaps={}, scores={}, image_size=(2, 2)).findings


def test_what_cannot_be_calibrated_has_no_rule():
    same = [feedback(1.0, 0.5), feedback(1.0, 0.5)]
    assert calibrate(cases(zip(same, same, strict=True))).rules == ()
    assert calibrate([]).thresholds == {}
