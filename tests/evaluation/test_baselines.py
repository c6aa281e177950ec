import dataclasses

import numpy as np
import pytest

from richhf.data.records import Record
from richhf.evaluation import (
    FeedbackArrays,
    MeanFeedback,
    evaluate_feedback,
    mean_baseline,
    noise_ceiling,
    records_to_arrays,
)
from richhf.feedback import HEATMAPS, SCORES


def make_records(n=40, *, seed=0, noise=0.0, prompt="a big red cat"):
    """Records; with `noise`, the same ones as annotators would blur them."""
    truth, blur = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    records = []
    for i in range(n):
        maps = (truth.random((2, 8, 8)) > 0.7) * truth.random((2, 8, 8))
        maps = np.clip(maps + noise * blur.random((2, 8, 8)), 0, 1)
        scores = np.clip(truth.random(4) + noise * (blur.random(4) - 0.5), 0, 1)
        labels = (truth.random(4) > 0.3) ^ (noise * blur.random(4) > 0.4)
        records.append(
            Record(
                filename=f"test/{i}.png",
                scores=dict(zip(SCORES, scores.tolist(), strict=True)),
                heatmaps=dict(zip(HEATMAPS, (maps * 255).astype(np.uint8), strict=True)),
                labels=tuple(labels.astype(int).tolist()),
                prompt=prompt,
            )
        )
    return records


def test_the_mean_is_that_of_the_given_split_whatever_its_batches():
    train, target = records_to_arrays(make_records(25)), records_to_arrays(make_records(7, seed=9))
    whole = mean_baseline(train, target)
    np.testing.assert_allclose(whole.scores, np.tile(train.scores.mean(axis=0), (7, 1)), rtol=1e-6)
    np.testing.assert_allclose(whole.heatmaps[3], train.heatmaps.mean(axis=0) / 255, rtol=1e-5)
    assert whole.filenames == target.filenames
    parts = mean_baseline((train.select(slice(i, i + 6)) for i in range(0, 25, 6)), target)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-6)
    np.testing.assert_allclose(parts.heatmaps, whole.heatmaps, rtol=1e-6)


def test_the_mean_leaves_out_what_is_not_valid():
    train = records_to_arrays(make_records(2))
    train.score_valid[0, 1] = False
    train.heatmap_valid[1, 0] = False
    mean = mean_baseline(train, train)
    np.testing.assert_allclose(mean.scores[0, 1], train.scores[1, 1])
    np.testing.assert_allclose(mean.heatmaps[0, 0], train.heatmaps[0, 0] / 255, rtol=1e-6)


def test_the_mean_has_the_least_error_and_knows_nothing_else():
    arrays = records_to_arrays(make_records())
    result = evaluate_feedback(mean_baseline(arrays, arrays), arrays)
    assert result["scores"]["overall"] == {"plcc": None, "srcc": None}
    assert result["keywords"]["pooled"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    other = evaluate_feedback(mean_baseline(records_to_arrays(make_records(seed=5)), arrays), arrays)
    for name in HEATMAPS:
        assert result["heatmaps"][name]["mse"] < other["heatmaps"][name]["mse"]


def test_the_mean_of_nothing_is_an_error():
    arrays = records_to_arrays(make_records(2))
    with pytest.raises(ValueError, match="add the training split"):
        MeanFeedback().predict(arrays)


def test_ceiling_is_perfect_without_noise_and_falls_with_it():
    truth = make_records()
    without, little, much = (noise_ceiling(truth, make_records(noise=noise)) for noise in (0, 0.5, 0.9))
    assert without["heatmaps"]["implausibility"]["mse"] == 0
    for name in SCORES:
        assert without["scores"][name]["plcc"] == pytest.approx(1)
        assert little["scores"][name]["plcc"] < 1
    for name in HEATMAPS:
        cc = [metrics["heatmaps"][name]["cc"] for metrics in (without, little, much)]
        assert cc == sorted(cc, reverse=True)
        assert cc[0] == pytest.approx(1)
    f1 = [metrics["keywords"]["pooled"]["f1"] for metrics in (without, little, much)]
    assert f1[0] == 1 > f1[1] > f1[2]


def test_ceiling_is_the_evaluation_of_the_truth_against_the_labels():
    truth, labels = make_records(), make_records(noise=0.5)
    expected = evaluate_feedback(records_to_arrays(truth), records_to_arrays(labels))
    assert noise_ceiling(iter(truth), iter(labels)) == expected
    bare = [dataclasses.replace(record, prompt=None) for record in truth]
    assert noise_ceiling(bare, labels) == expected
    assert noise_ceiling(truth, labels, num_examples=10) == noise_ceiling(truth[:10], labels[:10])


def test_truth_that_does_not_belong_to_the_labels_is_refused():
    truth = make_records()
    with pytest.raises(ValueError, match=r"'test/1.png', 'test/0.png'"):
        noise_ceiling(truth[1:3], truth[:2])
    with pytest.raises(ValueError, match="fewer records in the truth"):
        noise_ceiling(truth[:3], truth)
    with pytest.raises(ValueError, match="fewer records in the labels"):
        noise_ceiling(truth, truth[:33])


def test_baseline_of_a_split_of_another_size_is_resized():
    small = records_to_arrays(make_records(3))
    zoomed = FeedbackArrays(
        **{field.name: getattr(small, field.name) for field in dataclasses.fields(small)}
        | {"heatmaps": small.heatmaps.repeat(2, axis=-1).repeat(2, axis=-2)}
    )
    result = evaluate_feedback(mean_baseline(small, zoomed), zoomed)
    assert result["heatmaps"]["implausibility"]["cc"] > 0.3
