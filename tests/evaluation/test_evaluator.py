import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.data.targets import UNKNOWN
from richhf.data.words import mark_misaligned
from richhf.evaluation import (
    Evaluator,
    Gallery,
    MeanFeedback,
    evaluate_feedback,
    flatten_metrics,
    measure_maps,
    read_metrics,
    write_metrics,
)
from richhf.evaluation.evaluator import predicted_arrays, target_arrays
from richhf.feedback import HEATMAPS, SCORES
from tests.identity_vocabulary import IdentityVocabulary

SIDE = 16
PIECES = ["<pad>", "</s>", "a", "big", "red", "cat", "a_0", "big_0", "red_0", "cat_0"]


VOCABULARY = IdentityVocabulary(
    encode=lambda text: [PIECES.index(word) for word in text.split()],
    surface=lambda ids: " ".join(PIECES[i] for i in ids),
)


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


def predict_with(model, params=PARAMS):
    def predict(params, features):
        prediction = model.predict_batch(params, features)
        true = features.get("heatmaps", jnp.zeros((len(features["image"]), 2, SIDE, SIDE), jnp.uint8))
        return prediction | {"measured": measure_maps(prediction["heatmaps"], true)}

    return functools.partial(jax.jit(predict), params)


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


def evaluator_of(mean, batches=make_batches, **settings):
    return Evaluator(batches, vocabulary=VOCABULARY, mean=mean, **{"progress": False, **settings})


def run(mean, *, size=8, model=None, gallery=None, on_values=None, **settings):
    evaluator = evaluator_of(mean, lambda: make_batches(size=size), **settings)
    return evaluator.evaluate(predict_with(model or ColourModel()), gallery=gallery, on_values=on_values)


def test_results_do_not_depend_on_the_batch_size(mean):
    whole = run(mean, size=23)
    for size in (1, 3, 8):
        parts = run(mean, size=size)
        # XLA may sum the pixels of a map in another order where there are more maps.
        for row in ("model", "mean_baseline", "flag_every_word"):
            found, expected = (flatten_metrics(e.metrics[row]) for e in (parts, whole))
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
        np.testing.assert_array_equal(parts.values.predicted_scores, whole.values.predicted_scores)
        for kind, examples in whole.gallery.items():
            assert [e.filename for e in parts.gallery[kind]] == [e.filename for e in examples]


def test_metrics_are_those_of_the_predictions_of_every_example_once(mean):
    evaluation = run(mean)
    (whole,) = make_batches(size=23)
    target = target_arrays(whole)
    out = jax.device_get(ColourModel().predict_batch(PARAMS, whole.features))
    predicted = dataclasses.replace(predicted_arrays(out, target, VOCABULARY), heatmaps=out["heatmaps"])
    expected = evaluate_feedback(predicted, target)
    # The one is measured by the device in float32, the other on the host in float64.
    assert flatten_metrics(evaluation.metrics["model"]) == pytest.approx(
        flatten_metrics(expected), rel=1e-5, abs=1e-6
    )
    assert evaluation.metrics["examples"] == 23
    assert evaluation.values.filenames == [f"test/{i}.png" for i in range(23)]
    assert evaluation.metrics["counts"]["keywords"] == sum(i % 7 != 0 for i in range(23))
    baseline = evaluate_feedback(mean.predict(target), target)
    assert flatten_metrics(evaluation.metrics["mean_baseline"]) == pytest.approx(
        flatten_metrics(baseline), rel=1e-6
    )


def test_programs_and_baseline_are_made_once_for_all_batches_and_models(mean):
    model, other = ColourModel(), {"sign": -PARAMS["sign"]}
    evaluator, predict = evaluator_of(mean), predict_with(model)
    one, two = evaluator.evaluate(predict), evaluator.evaluate(functools.partial(predict.func, other))
    assert model.traced == 1
    assert one.metrics["mean_baseline"] == two.metrics["mean_baseline"]
    assert one.metrics["model"]["scores"] != two.metrics["model"]["scores"]
    assert one.metrics == evaluator.evaluate(predict).metrics


def test_values_come_batch_by_batch(mean):
    parts = []
    evaluation = run(mean, size=5, on_values=parts.append)
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    assert [name for part in parts for name in part.filenames] == evaluation.values.filenames


def test_only_the_maps_of_the_gallery_come_to_the_host(mean):
    fetched = []

    def fetch(maps, row):
        fetched.append(row)
        return np.asarray(maps[row])

    run(mean, size=23, gallery=Gallery(best=1, worst=1, random=0), fetch=fetch)
    assert 2 <= len(fetched) < 23


def test_predictions_that_are_not_finite_are_named(mean):
    def predict(features):
        prediction = dict(predict_with(ColourModel())(features))
        prediction["measured"] = prediction["measured"].at[2, 1, 0].set(jnp.nan)
        return prediction

    with pytest.raises(ValueError, match=r"1 of 8 predictions are not finite.*'test/2.png'"):
        evaluator_of(mean).evaluate(predict)


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
    every_word = metrics["flag_every_word"]["keywords"]["pooled"]
    words = [flag for batch in make_batches() for row in target_arrays(batch).flags for flag in row]
    known = np.repeat([valid for batch in make_batches() for valid in batch.keyword_valid], 4)
    assert every_word["recall"] == 1
    assert every_word["precision"] == pytest.approx(np.mean(np.array(words)[known]))
    assert "noise_ceiling" not in run(mean).metrics


def test_absent_labels_are_not_evaluated(mean):
    def captions():
        for batch in make_batches():
            kept = {name: batch.features[name] for name in ("image", "encoder_input_tokens")}
            yield dataclasses.replace(batch, features=kept, keyword_valid=[False] * batch.valid)

    evaluation = evaluator_of(mean, captions).evaluate(predict_with(ColourModel()))
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
        evaluator_of(mean, list).evaluate(predict_with(ColourModel()))


def test_progress_counts_examples_not_padding(mean, capsys):
    evaluator_of(mean, num_examples=23, progress=True).evaluate(predict_with(ColourModel()))
    assert "23/23" in capsys.readouterr().err


def test_flags_are_read_from_tokens():
    (target,) = map(target_arrays, make_batches(n=2, size=2))
    nothing = {"scores": np.zeros((2, 4)), "heatmaps": np.zeros((2, 2, SIDE, SIDE))}
    tokens = {"keyword_tokens": np.array([[2, 3, 8, 5, 1, 0], [2, 3, 4, 5, 1, 9]])}
    predicted = predicted_arrays(nothing | tokens, target, VOCABULARY)
    assert predicted.keywords == ["a big red_0 cat", "a big red cat"]
    assert predicted.flags == [(False, False, True, False), (False,) * 4]


def test_words_that_the_vocabulary_cannot_read_are_left_out():
    class Blind(IdentityVocabulary):
        def segment(self, text):
            whole = super().segment(text)
            return dataclasses.replace(whole, masked=text.replace("cat", UNKNOWN * 3))

    (batch,) = make_batches(size=23)
    blind = Blind(VOCABULARY.encode, VOCABULARY.surface)
    flags = [row[3] for row in target_arrays(batch, blind).flags]
    assert set(flags) == {None}
    assert {row[3] for row in target_arrays(batch, VOCABULARY).flags} == {True, False}
