"""The model that is shipped: small, and about as good on new synthetic images as its card says."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

import richhf
from richhf.data.records import read_records
from richhf.data.synthetic import synthesize
from richhf.data.words import mark_misaligned
from richhf.evaluation import keyword_metrics, plcc
from richhf.feedback import VERDICTS
from richhf.feedback.findings import OUTPUTS_OF
from richhf.inference.load import SHIPPED
from richhf.inference.thresholds import true_verdicts

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
    assert found.misaligned_words == truth.misaligned_words == ("snow",)
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


def test_its_verdicts_follow_a_majority_of_the_annotators(records, predictions):
    for verdict in VERDICTS:
        true = np.array([true_verdicts(one.to_feedback())[verdict] for one in records])
        found = np.array([one.verdicts[verdict] for one in predictions])
        assert (found[true].mean() + (~found[~true]).mean()) / 2 > 0.75


def test_its_verdicts_do_not_contradict_its_words(records, predictions):
    unflagged = [one for one in predictions if one.has_misalignment and not any(one.misaligned)]
    assert len(unflagged) <= COUNT // 10
    for one in unflagged:
        assert "no word is flagged" in one.findings["has_misalignment"].reasons
    for one in predictions:
        assert one.has_misalignment or not any(one.misaligned)
    blank = richhf.load("synthetic-tiny")(Image.new("RGB", (64, 64), "white"), records[0].prompt)[0]
    assert blank.has_misalignment
    assert blank.findings["has_misalignment"].reasons


def test_its_card_reports_error_rates_on_other_images_than_those_of_the_calibration():
    settings = richhf.load("synthetic-tiny").settings
    assert settings.calibration["held_out"] == "examples that were not used for calibration"
    told = {(one["verdict"], *one["outputs"]): one for one in settings.calibration["error_rates"]}
    assert len(told) == 3 + 7
    for verdict in VERDICTS:
        rates = told[verdict, *OUTPUTS_OF[verdict]]
        assert rates["examples"] == 1000
        for name in ("precision", "recall", "false_positive_rate", "false_negative_rate"):
            share, low, high = rates[name]
            assert low <= share <= high
        assert max(rates["false_positive_rate"][0], rates["false_negative_rate"][0]) < 0.2
    rates = told["has_misalignment", *OUTPUTS_OF["has_misalignment"]]
    assert rates["found_without_flagged_word"] < 0.05 * rates["found"]


def scene(background, *shapes, side=64):
    image = Image.new("RGB", (side, side), background)
    draw = ImageDraw.Draw(image)
    for form, x, y, colour in shapes:
        box = [side * value for value in (x - 0.17, y - 0.17, x + 0.17, y + 0.17)]
        if form == "triangle":
            draw.polygon([(side * x, box[1]), (box[2], box[3]), (box[0], box[3])], fill=colour)
        else:
            (draw.ellipse if form == "circle" else draw.rectangle)(box, fill=colour)
    return image


def test_it_finds_hand_made_scenes_of_shapes_plausible():
    scenes = {
        "a red circle on a white background": scene("white", ("circle", 0.5, 0.5, "red")),
        "a red circle": scene("white", ("circle", 0.5, 0.5, "red"), side=256),
        "a blue square on a grey background": scene("lightgray", ("square", 0.4, 0.5, "blue")),
        "a yellow circle on a black background": scene("black", ("circle", 0.5, 0.5, "yellow"), side=200),
        "a red circle left of a blue square": scene(
            "white", ("circle", 0.27, 0.5, "red"), ("square", 0.73, 0.5, "blue")
        ),
        "a green triangle on a white background": scene("white", ("triangle", 0.5, 0.5, "green"), side=128),
        "a white square on a blue background": scene("navy", ("square", 0.5, 0.5, "white")),
    }
    found = richhf.load("synthetic-tiny")(list(scenes.values()), list(scenes))
    assert min(one.scores["plausibility"] for one in found) > 0.6
    assert not any(one.has_artifact for one in found)
    wrong = richhf.load("synthetic-tiny")(scenes["a red circle"], "a blue star on a black background")[0]
    assert wrong.has_misalignment


def test_it_says_that_it_is_a_demonstration():
    assert "a demonstration: it was trained only on synthetic shapes" in repr(richhf.load("synthetic-tiny"))
    card = (SHIPPED["synthetic-tiny"] / "README.md").read_text(encoding="utf-8")
    assert "do not use it on photographs" in card
