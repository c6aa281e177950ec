import json

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAP_COLOURS, HEATMAPS, SCORES, Feedback
from richhf.feedback.checks import checked_heatmap

PROMPT = "a yellow cat, asleep"
WORDS = ("a", "yellow", "cat", "asleep")
COVERED = {"covered": (True, True, False, True), "word_confidences": (0.1, 0.8, None, 0.5)}


def make_feedback(seed=0, size=(12, 16), **changes):
    rng = np.random.default_rng(seed)
    fields = dict(
        prompt=PROMPT,
        scores={name: float(rng.random()) for name in SCORES},
        heatmaps={name: rng.random(size, np.float32) for name in HEATMAPS},
        words=WORDS,
        misaligned=(False, True, False, True),
    )
    return Feedback(**(fields | changes))


def test_names_come_in_the_order_of_the_vocabulary_whatever_was_given():
    feedback = make_feedback(scores=dict.fromkeys(reversed(SCORES), 0.5))
    assert tuple(feedback.scores) == SCORES
    assert feedback.image_size == (12, 16)
    assert feedback.misaligned_words == ("yellow", "asleep")


def test_likert_inverts_the_consolidation_of_marks():
    feedback = make_feedback(scores={"overall": (3 - 1) / 4, "alignment": (5 - 1) / 4})
    assert (feedback.likert("overall"), feedback.likert("alignment")) == (3.0, 5.0)
    with pytest.raises(ValueError, match="no 'plausibility' in its scores"):
        feedback.likert("plausibility")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(scores={"plausability": 0.5}), "'plausability'.*did you mean 'plausibility'"),
        (dict(scores={"overall": 4.0}), r"'overall' is 4.0, expected \[0, 1\]"),
        (dict(scores={"overall": float("nan")}), "nan"),
        (dict(heatmaps={"misaligned": np.zeros((4, 4))}), "did you mean 'misalignment'"),
        (
            dict(heatmaps={"misalignment": np.full((4, 4), 255.0)}),
            r"spans 255\.0 to 255\.0.*by 255",
        ),
        (dict(heatmaps={"misalignment": np.full((4, 4), np.nan)}), "spans nan"),
        (dict(image_size=(13, 16)), r"\(12, 16\).*\(13, 16\)"),
        (dict(heatmaps={}), "image_size"),
        (dict(misaligned=(True,)), "1 values of misaligned for 4 words; expected one a word"),
        (dict(covered=(True, False)), "2 values of covered for 4 words"),
    ],
)
def test_wrong_values_are_named_in_the_error(changes, message):
    with pytest.raises(ValueError, match=message):
        make_feedback(**changes)


@pytest.mark.parametrize("heatmap", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1)), np.zeros((0, 4))])
def test_a_map_is_a_non_empty_float_matrix(heatmap):
    with pytest.raises(ValueError, match=r"expected floats \(height, width\)"):
        checked_heatmap("misalignment", heatmap)


def test_a_resize_may_overshoot_by_rounding_and_is_cut():
    feedback = make_feedback(heatmaps={"misalignment": np.full((4, 4), 1 + 1e-6)})
    assert feedback.heatmaps["misalignment"].max() == 1.0


@pytest.mark.parametrize(
    "missing", [{}, {"misaligned": ()}, {"words": (), "misaligned": ()}, {"scores": {}}, COVERED]
)
def test_save_and_load_give_back_the_same_value(tmp_path, missing):
    feedback = make_feedback(**missing)
    feedback.save(tmp_path / "new" / "folder")
    assert Feedback.load(tmp_path / "new" / "folder") == feedback


def test_save_without_maps_keeps_the_size(tmp_path):
    feedback = make_feedback(heatmaps={}, image_size=(7, 9))
    feedback.save(tmp_path)
    assert Feedback.load(tmp_path) == feedback


def test_a_second_save_leaves_nothing_of_the_first(tmp_path):
    image = Image.new("RGB", (16, 12))
    make_feedback().save(tmp_path, image=image)
    first = {path.name for path in tmp_path.iterdir()}
    kinds = (".npy", ".png", "_overlay.png")
    assert first == {"feedback.json"} | {name + kind for name in HEATMAPS for kind in kinds}
    make_feedback(heatmaps={}, image_size=(12, 16)).save(tmp_path, image=image)
    assert {path.name for path in tmp_path.iterdir()} == {"feedback.json"}


def test_a_failing_save_leaves_no_half_written_file(tmp_path):
    with pytest.raises(OSError, match="No such"):
        make_feedback().save(tmp_path, image=tmp_path / "missing.png")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_equality_sees_every_field():
    assert make_feedback() == make_feedback()
    for changes in (dict(seed=1), dict(prompt="b"), dict(misaligned=()), dict(scores={}), COVERED):
        assert make_feedback() != make_feedback(**changes)


def test_loading_explains_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="holds no readable feedback"):
        Feedback.load(tmp_path)
    path = make_feedback().save(tmp_path)
    np.save(tmp_path / "misalignment.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        Feedback.load(tmp_path)
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Feedback.load(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        Feedback.load(tmp_path)


def test_to_dict_is_json_and_sums_up_the_maps():
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[:, 0] = 1.0
    told = json.loads(json.dumps(make_feedback(heatmaps={"misalignment": heatmap}).to_dict()))
    assert told["heatmaps"] == {"misalignment": {"mean": 0.25, "max": 1.0, "area": 0.25}}
    assert told["misaligned_words"] == ["yellow", "asleep"]


def test_overlay_takes_the_image_size_and_tints_only_where_the_map_is():
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[:, 4:] = 1.0
    feedback = make_feedback(heatmaps=dict.fromkeys(HEATMAPS, heatmap))
    image = np.full((32, 64, 3), 128, np.uint8)
    red = feedback.overlay("implausibility", image, alpha=1.0)
    blue = feedback.overlay("misalignment", Image.fromarray(image), alpha=1.0)
    assert red.size == blue.size == (64, 32)
    assert red.getpixel((0, 16)) == blue.getpixel((0, 16)) == (128, 128, 128)
    assert red.getpixel((63, 16)) == HEATMAP_COLOURS["implausibility"][1]
    assert blue.getpixel((63, 16)) == HEATMAP_COLOURS["misalignment"][1]
    assert feedback.overlay("misalignment", image, alpha=0.0).getpixel((63, 16)) == (128, 128, 128)


def test_overlay_reads_a_file_and_refuses_nonsense(tmp_path):
    Image.new("L", (10, 6), 50).save(tmp_path / "image.png")
    feedback = make_feedback(heatmaps={"misalignment": np.zeros((6, 10))})
    assert feedback.overlay("misalignment", tmp_path / "image.png").size == (10, 6)
    with pytest.raises(ValueError, match=r"alpha.*1\.5"):
        feedback.overlay("misalignment", tmp_path / "image.png", alpha=1.5)
    with pytest.raises(ValueError, match=r"no 'implausibility' in its heatmaps.*Known: misalignment"):
        feedback.overlay("implausibility", tmp_path / "image.png")


def test_layer_grows_more_opaque_with_the_value():
    ramp = np.linspace(0, 1, 16, dtype=np.float32)[None]
    layer = np.asarray(make_feedback(heatmaps={"misalignment": ramp}).heatmap_layer("misalignment"))
    assert layer[0, 0, 3] == 0
    assert layer[0, -1, 3] == 255
    assert (np.diff(layer[0, :, 3].astype(int)) > 0).all()


def test_difference_tells_hits_misses_and_false_alarms():
    truth = make_feedback(misaligned=(False, True, True, False))
    predicted = make_feedback(seed=1, misaligned=(True, True, False, False))
    difference = predicted.difference(truth)
    assert (difference.hits, difference.misses, difference.false_alarms) == ((1,), (2,), (0,))
    for name in SCORES:
        assert difference.scores[name] == predicted.scores[name] - truth.scores[name]
    for name in HEATMAPS:
        np.testing.assert_array_equal(
            difference.heatmaps[name], predicted.heatmaps[name] - truth.heatmaps[name]
        )


def test_difference_covers_what_both_have_and_refuses_another_image():
    truth = make_feedback(scores={"overall": 0.5}, misaligned=())
    difference = make_feedback().difference(truth)
    assert set(difference.scores) == {"overall"}
    assert (difference.hits, difference.misses, difference.false_alarms) == ((), (), ())
    with pytest.raises(ValueError, match="same image"):
        make_feedback().difference(make_feedback(prompt="a dog"))
    with pytest.raises(ValueError, match="other words"):
        make_feedback().difference(make_feedback(words=("a", "yellow", "cat,", "asleep")))


def test_its_line_has_the_values_and_no_pixels():
    feedback = Feedback(
        "a red cat",
        {"overall": 0.25},
        {"implausibility": np.eye(4, dtype=np.float32)},
        ("a", "red", "cat"),
        (False, True, False),
    )
    assert repr(feedback) == (
        "Feedback('a red cat', overall=0.2500, implausibility: peak 1.000, misaligned: red)"
    )
    assert repr(feedback.replace(covered=(True, True, False))).endswith("red, 1 of 3 words not covered)")


def test_words_that_are_not_covered():
    feedback = make_feedback(**COVERED)
    assert feedback.uncovered_words == ("cat",)
    told = json.loads(json.dumps(feedback.to_dict()))
    assert (told["uncovered_words"], told["word_confidences"]) == (["cat"], [0.1, 0.8, None, 0.5])
    assert make_feedback().uncovered_words == ()
