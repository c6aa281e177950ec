"""The model that is shipped: small, and about as good on new synthetic images as its card says."""

import numpy as np
import pytest

import richhf
from richhf.data.records import read_records
from richhf.data.synthetic import synthesize
from richhf.data.words import mark_misaligned
from richhf.evaluation import keyword_metrics, plcc
from richhf.inference.load import SHIPPED
from richhf.inference.thresholds import calibrate_on_records

COUNT = 48
SEED = 5  # not that of its training


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, train=1, dev=1, test=COUNT, size=64, seed=SEED, workers=1)
    return list(read_records(sorted(folder.glob("test-*"))))


@pytest.fixture(scope="module")
def predictions(records):
    images, prompts = [one.decode_image() for one in records], [one.prompt for one in records]
    return richhf.load("synthetic-tiny")(images, prompts, batch_size=COUNT)


def test_it_is_under_ten_megabytes_and_has_a_card():
    folder = SHIPPED["synthetic-tiny"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("richhf synthesize", "launch.train", "launch.eval", "noise ceiling", "Apache-2.0"):
        assert part in card


def test_its_example_is_of_its_set_and_shows_what_it_finds(records):
    image, prompt = richhf.example()
    (record,) = (one for one in records if one.prompt == prompt)
    np.testing.assert_array_equal(np.asarray(image), record.decode_image())
    truth, found = record.to_feedback(), richhf.load("synthetic-tiny")(image, prompt)[0]
    assert found.misaligned_words == truth.misaligned_words == ("blue",)
    assert found.has_artifact


def test_its_scores_follow_the_annotators(records, predictions):
    assert len(records) == COUNT
    for name, least in {"plausibility": 0.7, "alignment": 0.6, "aesthetics": 0.8, "overall": 0.65}.items():
        found, true = ([one.scores[name] for one in side] for side in (predictions, records))
        assert plcc(np.array(found), np.array(true)) > least


def test_its_words_follow_the_annotators_and_it_knows_how_sure_it_is(records, predictions):
    truths = [record.to_feedback() for record in records]
    marked = [[mark_misaligned(one.prompt, one.misaligned) for one in side] for side in (predictions, truths)]
    assert keyword_metrics(*marked)["pooled"]["f1"] > 0.6
    confidences = np.concatenate([one.word_confidences for one in predictions])
    true = np.concatenate([one.misaligned for one in truths])
    assert np.mean((confidences - true) ** 2) < 0.6 * true.mean() * (1 - true.mean())
    for one in predictions:
        if one.keywords_text == mark_misaligned(one.prompt, one.misaligned):
            assert all((p >= 0.5 - 1e-5) if flag else (p <= 0.5 + 1e-5) for p, flag in words(one))


def words(feedback):
    return zip(feedback.word_confidences, feedback.misaligned, strict=True)


def test_its_findings_follow_the_annotators(records, predictions):
    true = np.array([one.to_feedback().heatmaps["implausibility"].max() > 0 for one in records])
    found = np.array([one.has_artifact for one in predictions])
    assert (found == true).mean() > 0.8
    thresholds = calibrate_on_records(richhf.load("synthetic-tiny"), records[:4])
    assert set(thresholds) <= {"implausibility", "misalignment", "plausibility", "alignment"}
