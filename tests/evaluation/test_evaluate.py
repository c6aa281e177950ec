import dataclasses
import json

import numpy as np
import pytest

from richhf import evaluation
from richhf.data.words import mark_misaligned
from richhf.evaluation import FeedbackAccumulator, FeedbackArrays, evaluate_feedback, flatten_metrics
from richhf.evaluation.evaluate import summarise
from richhf.evaluation.values import count_examples, example_values
from richhf.feedback import HEATMAPS, SCORES


def make_pair(n=70, *, seed=0, size=(12, 10), predicted_size=None):
    """A target with a few empty maps and unknown labels, and noisy predictions of it."""
    rng = np.random.default_rng(seed)
    maps = (rng.random((n, 2, *size)) > 0.8) * rng.integers(1, 256, (n, 2, *size))
    maps[: n // 7, 0] = 0
    prompts = ["a big red cat"] * n
    flags = rng.random((2, n, 4)) < 0.3
    names = [f"test/{i}.png" for i in range(n)]
    target = FeedbackArrays(
        scores=(rng.integers(0, 13, (n, 4)) / 12).astype(np.float32),
        heatmaps=maps.astype(np.uint8),
        keywords=[mark_misaligned(p, f.tolist()) for p, f in zip(prompts, flags[0], strict=True)],
        prompts=prompts,
        filenames=names,
        keyword_valid=rng.random(n) < 0.9,
        score_valid=rng.random((n, 4)) < 0.9,
        heatmap_valid=rng.random((n, 2)) < 0.9,
    )
    predicted = FeedbackArrays(
        scores=(0.5 * target.scores + 0.5 * rng.random((n, 4))).astype(np.float32),
        heatmaps=rng.random((n, 2, *(predicted_size or size))).astype(np.float32),
        keywords=[mark_misaligned(p, f.tolist()) for p, f in zip(prompts, flags[1], strict=True)],
        prompts=prompts,
        filenames=names,
        keyword_valid=np.ones(n, bool),
    )
    return predicted, target


def test_result_is_the_single_metrics_over_the_right_examples():
    predicted, target = make_pair()
    result = evaluate_feedback(predicted, target)
    for i, name in enumerate(SCORES):
        known = target.score_valid[:, i]
        pair = predicted.scores[known, i], target.scores[known, i]
        assert result["scores"][name] == {
            "plcc": pytest.approx(evaluation.plcc(*pair)),
            "srcc": pytest.approx(evaluation.srcc(*pair)),
        }
    for i, name in enumerate(HEATMAPS):
        true, pred = target.heatmaps[:, i] / 255, predicted.heatmaps[:, i]
        known = target.heatmap_valid[:, i]
        empty = known & (true.max(axis=(1, 2)) == 0)
        present = known & ~empty
        got = result["heatmaps"][name]
        assert got["mse"] == pytest.approx(evaluation.mse(pred[known], true[known]).mean(), rel=1e-6)
        if empty.any():
            assert got["mse_empty"] == pytest.approx(
                evaluation.mse(pred[empty], true[empty]).mean(), rel=1e-6
            )
        else:
            assert got["mse_empty"] is None
        for metric in ("cc", "kld", "sim", "nss", "auc_judd"):
            expected = getattr(evaluation, metric)(pred[present], true[present]).mean()
            assert got[metric] == pytest.approx(expected, rel=1e-6), (name, metric)
    valid = np.flatnonzero(target.keyword_valid)
    expected = evaluation.keyword_metrics(
        [predicted.keywords[i] for i in valid], [target.keywords[i] for i in valid]
    )
    assert result["keywords"] == expected
    # Both kinds of truth were there.
    assert result["heatmaps"]["implausibility"]["mse_empty"] is not None


@pytest.mark.parametrize("size", [1, 7, 32, 70])
def test_accumulated_batches_of_any_size_give_the_same_result(size):
    predicted, target = make_pair()
    whole = evaluate_feedback(predicted, target)
    accumulator = FeedbackAccumulator()
    for start in range(0, len(target), size):
        part = slice(start, start + size)
        accumulator.add(predicted.select(part), target.select(part))
    flat, expected = flatten_metrics(accumulator.result()), flatten_metrics(whole)
    assert flat == pytest.approx(expected, rel=1e-12)


def test_what_is_not_valid_changes_nothing():
    predicted, target = make_pair()
    rng = np.random.default_rng(1)
    changed = dataclasses.replace(
        target,
        scores=np.where(target.score_valid, target.scores, rng.random((70, 4))).astype(np.float32),
        heatmaps=np.where(target.heatmap_valid[:, :, None, None], target.heatmaps, 77).astype(np.uint8),
        keywords=[k if v else "other_0" for k, v in zip(target.keywords, target.keyword_valid, strict=True)],
    )
    assert evaluate_feedback(predicted, changed) == evaluate_feedback(predicted, target)


def test_a_perfect_prediction_is_perfect():
    _, target = make_pair()
    metrics = evaluate_feedback(target, target)
    for name in SCORES:
        assert metrics["scores"][name] == pytest.approx({"plcc": 1, "srcc": 1})
    for name in HEATMAPS:
        maps = metrics["heatmaps"][name]
        assert maps["mse"] == 0
        assert maps["cc"] == pytest.approx(1)
        assert maps["sim"] == pytest.approx(1)
        assert maps["kld"] == pytest.approx(0, abs=1e-5)
    assert metrics["keywords"]["pooled"]["f1"] == 1


def test_predicted_maps_are_resized_to_the_truth_never_the_truth():
    predicted, target = make_pair(predicted_size=(6, 5))
    resized = np.stack([evaluation.resize_maps(predicted.heatmaps[:, i], (12, 10)) for i in range(2)], axis=1)
    expected = evaluate_feedback(dataclasses.replace(predicted, heatmaps=resized), target)
    assert evaluate_feedback(predicted, target) == expected


def test_undefined_metrics_are_none_and_the_result_is_strict_json():
    predicted, target = make_pair(3)
    blank = dataclasses.replace(
        target,
        heatmaps=np.zeros_like(target.heatmaps),
        keyword_valid=np.zeros(3, bool),
        score_valid=np.zeros((3, 4), bool),
        heatmap_valid=np.ones((3, 2), bool),
    )
    result = evaluate_feedback(predicted, blank)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["scores"]["overall"] == {"plcc": None, "srcc": None}
    maps = result["heatmaps"]["misalignment"]
    assert maps["mse"] == maps["mse_empty"] > 0
    assert maps["cc"] is maps["kld"] is maps["sim"] is maps["nss"] is maps["auc_judd"] is None
    assert result["keywords"]["pooled"] == {"precision": None, "recall": None, "f1": None}
    assert set(flatten_metrics(result)) == {
        f"heatmaps/{n}/{m}" for n in HEATMAPS for m in ("mse", "mse_empty")
    }


def test_other_images_or_another_order_are_refused():
    predicted, target = make_pair(4)
    with pytest.raises(ValueError, match=r"'test/3.png', 'test/0.png'"):
        evaluate_feedback(predicted.select([3, 1, 2, 0]), target)
    with pytest.raises(ValueError, match="not 3 and 4"):
        evaluate_feedback(predicted.select(slice(3)), target)


@pytest.mark.parametrize("field", ["scores", "heatmaps"])
def test_predictions_that_are_not_finite_name_the_image(field):
    predicted, target = make_pair(4)
    getattr(predicted, field)[2].flat[0] = np.nan
    with pytest.raises(ValueError, match=r"1 of 4 predictions are not finite.*'test/2.png'.*diverged"):
        evaluate_feedback(predicted, target)


def test_nothing_evaluated_is_an_error():
    with pytest.raises(ValueError, match="Nothing was evaluated"):
        FeedbackAccumulator().result()


def test_values_keep_what_a_report_needs():
    predicted, target = make_pair()
    values = example_values(predicted, target)
    np.testing.assert_array_equal(np.isnan(values.true_scores), ~target.score_valid)
    empty = target.heatmap_valid[:, 0] & (target.heatmaps[:, 0].max(axis=(1, 2)) == 0)
    np.testing.assert_array_equal(~np.isnan(values.heatmaps["implausibility"]["mse_empty"]), empty)
    np.testing.assert_array_equal(np.isnan(values.keyword_f1()), ~target.keyword_valid)
    counts = count_examples(values)
    assert counts["keywords"] == target.keyword_valid.sum()
    assert counts["heatmaps"]["implausibility"] == {
        "all": target.heatmap_valid[:, 0].sum(),
        "empty": empty.sum(),
    }
    assert counts["scores"]["overall"] == target.score_valid[:, 3].sum()
    assert summarise(values) == evaluate_feedback(predicted, target)


def test_quality_puts_better_predictions_first():
    predicted, target = make_pair()
    good = example_values(
        dataclasses.replace(target, keyword_valid=predicted.keyword_valid), target
    ).quality()
    poor = example_values(predicted, target).quality()
    np.testing.assert_allclose(good, 1)
    assert (poor < good).all()
