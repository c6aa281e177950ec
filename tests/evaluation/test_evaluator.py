import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.data.words import mark_misaligned
from richhf.evaluation import (
    Gallery,
    MeanFeedback,
    evaluate_feedback,
    evaluate_model,
    flatten_metrics,
    read_metrics,
    write_metrics,
)
from richhf.evaluation.evaluator import decode_tokens, target_arrays
from richhf.feedback import HEATMAPS, SCORES

SIDE = 16
PIECES = ["<pad>", "</s>", "a", "big", "red", "cat", "a_0", "big_0", "red_0", "cat_0"]


def decode(ids):
    return " ".join(PIECES[i] for i in ids if i != 1)


@dataclasses.dataclass
class Batch:
    features: dict
    valid: int
    filenames: list
    prompts: list
    keywords: list
    keyword_valid: list


@dataclasses.dataclass
class ColourModel:
    """A small real model: the maps are colour channels, the scores mean colours, red images have a red fault.

    Sums are of integers, so that its predictions are the same bits at every batch size.
    """

    traced: int = 0

    def predict_batch(self, params, batch):
        self.traced += 1
        image = batch["image"]
        means = image.astype(jnp.int32).sum(axis=(1, 2)) / (255 * SIDE * SIDE)
        red = (means[:, 0] > 0.5).astype(jnp.int32)
        same = jnp.zeros_like(red)
        return {
            "heatmaps": jnp.moveaxis(image[..., :2], -1, 1) / 255,
            "scores": params["sign"] * means[:, jnp.array([0, 1, 2, 0])] % 1,
            "keyword_tokens": jnp.stack([same + 2, same + 3, 4 + 4 * red, same + 5, same + 1, same], axis=1),
        }


PARAMS = {"sign": jnp.array([[1.0, -1.0, 1.0, -1.0]])}


def predict_with(model):
    return jax.jit(lambda features: model.predict_batch(PARAMS, features))


def make_batches(n=23, size=8):
    """A split whose labels resemble the images, cut into batches of one size, the last one padded."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (n, SIDE, SIDE, 3)) * rng.random((n, 1, 1, 3)) ** 0.5
    flags = rng.random((n, 4)) < 0.4
    maps = np.moveaxis(images[..., :2], -1, 1) * (rng.random((n, 2, SIDE, SIDE)) > 0.6)
    maps[::5, 1] = 0
    arrays = {
        "image": images.astype(np.uint8),
        "encoder_input_tokens": np.tile([2, 3, 4, 5, 1, 0], (n, 1, 1)).astype(np.int32),
        "heatmaps": maps.astype(np.uint8),
        "heatmap_weights": (rng.random((n, 2)) < 0.9).astype(np.float32),
        "scores": (rng.integers(0, 13, (n, 4)) / 12).astype(np.float32),
        "score_weights": (rng.random((n, 4)) < 0.9).astype(np.float32),
    }
    prompt = "a big red cat"
    for start in range(0, n, size):
        valid = min(size, n - start)
        rows = slice(start, start + valid)
        yield Batch(
            # Padding is noise here: any trace of it in a metric fails the test.
            features={
                name: np.concatenate([value[rows], value[: size - valid]]) for name, value in arrays.items()
            },
            valid=valid,
            filenames=[f"test/{i}.png" for i in range(n)[rows]],
            prompts=[prompt] * valid,
            keywords=[mark_misaligned(prompt, flag.tolist()) for flag in flags[rows]],
            keyword_valid=[i % 7 != 0 for i in range(n)[rows]],
        )


@pytest.fixture
def mean():
    mean = MeanFeedback()
    for batch in make_batches(40):
        mean.add(target_arrays(batch))
    return mean


def run(mean, *, size=8, model=None, **kwargs):
    predict = predict_with(model or ColourModel())
    return evaluate_model(
        predict, make_batches(size=size), decode=decode, mean=mean, progress=False, **kwargs
    )


def test_results_do_not_depend_on_the_batch_size(mean):
    whole = run(mean, size=23)
    for size in (1, 8):
        parts = run(mean, size=size)
        assert flatten_metrics(parts.metrics) == pytest.approx(flatten_metrics(whole.metrics), rel=1e-12)
        np.testing.assert_array_equal(parts.values.predicted_scores, whole.values.predicted_scores)
        for kind, examples in whole.gallery.items():
            assert [e.filename for e in parts.gallery[kind]] == [e.filename for e in examples]


def test_metrics_are_those_of_the_predictions_of_every_example_once(mean):
    evaluation = run(mean)
    (whole,) = make_batches(size=23)
    target = target_arrays(whole)
    out = jax.device_get(ColourModel().predict_batch(PARAMS, whole.features))
    predicted = dataclasses.replace(
        target,
        scores=out["scores"],
        heatmaps=out["heatmaps"],
        keywords=[decode_tokens(row, decode) for row in out["keyword_tokens"]],
    )
    expected = evaluate_feedback(predicted, target)
    assert flatten_metrics(evaluation.metrics["model"]) == pytest.approx(flatten_metrics(expected), rel=1e-6)
    assert evaluation.metrics["examples"] == 23
    assert evaluation.values.filenames == [f"test/{i}.png" for i in range(23)]
    assert evaluation.metrics["counts"]["keywords"] == sum(i % 7 != 0 for i in range(23))
    baseline = evaluate_feedback(mean.predict(target), target)
    assert flatten_metrics(evaluation.metrics["mean_baseline"]) == pytest.approx(
        flatten_metrics(baseline), rel=1e-6
    )


def test_the_model_is_compiled_once_for_all_batches(mean):
    model = ColourModel()
    run(mean, model=model)
    assert model.traced == 1


def test_metrics_file_has_the_agreed_shape(mean, tmp_path):
    ceiling = run(mean).metrics["model"]
    metrics = run(mean, noise_ceiling=ceiling).metrics
    write_metrics(tmp_path / "metrics.json", metrics)
    assert read_metrics(tmp_path / "metrics.json") == json.loads(json.dumps(metrics, allow_nan=False))
    for row in ("model", "mean_baseline", "noise_ceiling", "ceiling_share"):
        assert list(metrics[row]["scores"]) == list(SCORES)
        assert list(metrics[row]["heatmaps"]) == list(HEATMAPS)
        for maps in metrics[row]["heatmaps"].values():
            assert list(maps) == ["mse", "mse_empty", "cc", "kld", "sim", "nss", "auc_judd"]
        assert list(metrics[row]["keywords"]) == ["pooled", "per_sample"]
    assert metrics["ceiling_share"]["heatmaps"]["implausibility"]["cc"] == pytest.approx(1)
    assert metrics["flag_every_word"]["keywords"]["pooled"]["recall"] == 1
    assert "noise_ceiling" not in run(mean).metrics


def test_absent_labels_are_not_evaluated(mean):
    def captions():
        for batch in make_batches():
            kept = {name: batch.features[name] for name in ("image", "encoder_input_tokens")}
            yield dataclasses.replace(batch, features=kept, keyword_valid=[False] * batch.valid)

    predict = predict_with(ColourModel())
    evaluation = evaluate_model(predict, captions(), decode=decode, mean=mean, progress=False)
    assert flatten_metrics(evaluation.metrics["model"]) == {}
    assert evaluation.gallery["best"][0].truth.scores == {}


def test_gallery_shows_the_image_that_was_predicted(mean):
    evaluation = run(mean, gallery=Gallery(best=2, worst=2, random=3))
    images = next(make_batches(size=23)).features["image"]
    assert [len(examples) for examples in evaluation.gallery.values()] == [2, 2, 3]
    for examples in evaluation.gallery.values():
        for example in examples:
            index = evaluation.values.filenames.index(example.filename)
            np.testing.assert_array_equal(example.image, images[index])
            red = example.predicted.heatmaps["implausibility"]
            np.testing.assert_allclose(red, example.image[..., 0] / 255, rtol=1e-6)


def test_an_empty_split_is_an_error(mean):
    with pytest.raises(ValueError, match="Nothing was evaluated"):
        evaluate_model(predict_with(ColourModel()), [], decode=decode, mean=mean, progress=False)


def test_progress_counts_examples_not_padding(mean, capsys):
    predict = predict_with(ColourModel())
    evaluate_model(predict, make_batches(), decode=decode, mean=mean, num_examples=23)
    assert "23/23" in capsys.readouterr().err


def test_tokens_after_the_first_padding_are_not_decoded():
    assert decode_tokens(np.array([2, 8, 1, 0, 5]), decode) == "a red_0"
    assert decode_tokens(np.array([2, 5]), decode) == "a cat"
    assert decode_tokens(np.array([0, 5]), decode) == ""
