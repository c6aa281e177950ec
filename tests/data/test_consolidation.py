import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from richhf.data.consolidation import Annotation, consolidate, heatmap_to_uint8, points_to_heatmap
from richhf.data.records import example_to_record, record_to_example
from richhf.feedback import HEATMAPS, SCORES

SIZE = (40, 60)


def points_on(height, width):
    """Points on an image, its edges among them."""
    x, y = (st.floats(-0.5, side - 0.5, allow_subnormal=False) for side in (width, height))
    return st.lists(st.tuples(x, y), max_size=5)


POINTS = points_on(*SIZE)


def annotation(mark=3, words=(), implausible=(), misaligned=()) -> Annotation:
    return Annotation(
        implausible_points=implausible,
        misaligned_points=misaligned,
        misaligned_words=words,
        likert=dict.fromkeys(SCORES, mark),
    )


# Plain arguments: the checked constructor draws random numbers, which strategies must not.
ANNOTATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "mark": st.integers(1, 5),
            "words": st.tuples(st.booleans(), st.booleans()),
            "implausible": POINTS,
            "misaligned": POINTS,
        }
    ),
    min_size=1,
    max_size=5,
)


def test_a_point_is_a_disk_of_a_twentieth_of_the_height():
    heatmap = points_to_heatmap([(30, 20)], (40, 60))  # radius 2: x is the column, y the row
    disk = np.array(
        [
            [0, 0, 1, 0, 0],
            [0, 1, 1, 1, 0],
            [1, 1, 1, 1, 1],
            [0, 1, 1, 1, 0],
            [0, 0, 1, 0, 0],
        ]
    )
    np.testing.assert_array_equal(heatmap[18:23, 28:33], disk)
    assert heatmap.sum() == disk.sum()


def test_the_radius_follows_the_height_alone():
    areas = [points_to_heatmap([(50, 50)], size).sum() for size in ((100, 100), (100, 300), (400, 100))]
    assert areas[0] == areas[1] < areas[2]
    assert points_to_heatmap([(256, 256)], (512, 512)).mean() == pytest.approx(np.pi / 400, rel=1e-2)


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_painted_pixels_are_those_near_a_point(height, width, data):
    points = data.draw(points_on(height, width))
    heatmap = points_to_heatmap(points, (height, width))
    rows, columns = np.mgrid[:height, :width]
    near = np.zeros((height, width), bool)
    for x, y in points:
        near |= (rows - y) ** 2 + (columns - x) ** 2 <= (height / 20) ** 2
    np.testing.assert_array_equal(heatmap, near)


def test_overlapping_points_of_one_annotator_count_once():
    once = points_to_heatmap([(10, 10)], (40, 40))
    np.testing.assert_array_equal(points_to_heatmap([(10, 10), (10, 10)], (40, 40)), once)
    np.testing.assert_array_equal(points_to_heatmap(np.array([[10.0, 10.0]]), (40, 40)), once)


@pytest.mark.parametrize(
    ("points", "size", "message"),
    [
        ([(float("nan"), 1)], (8, 8), "not a place"),
        ([(1, float("inf"))], (8, 8), "not a place"),
        ([], (0, 8), "at least 1"),
        ([(8, 2)], (4, 8), r"point \(8, 2\) lies outside the image of 8 x 4 pixels"),
        ([(2, 2), (2, 7)], (4, 8), r"\(2, 7\) lies outside .*y from -0.5 to 3.5"),
        ([(-1, 2)], (4, 8), "lies outside"),
        ([(300, 200)], (40, 60), "lies outside"),
        ([(1, 2, 3)], (4, 8), "two numbers"),
    ],
)
def test_impossible_points_and_sizes_are_errors(points, size, message):
    with pytest.raises(ValueError, match=message):
        points_to_heatmap(points, size)


def test_three_annotators_give_thirds_twelfths_and_majorities():
    found = consolidate(
        [
            annotation(2, (True, True, False, False), implausible=[(5, 5)]),
            annotation(3, (True, False, False, True), implausible=[(5, 5), (15, 15)]),
            annotation(3, (True, True, False, False)),
        ],
        size=(20, 20),
    )
    assert found.scores == pytest.approx(dict.fromkeys(SCORES, 5 / 12))
    assert found.labels == (0, 0, 1, 1)
    heatmap = found.heatmaps["implausibility"]
    assert (heatmap[5, 5], heatmap[15, 15], heatmap[0, 0]) == pytest.approx((2 / 3, 1 / 3, 0))
    assert not found.heatmaps["misalignment"].any()


def test_a_tie_counts_as_aligned():
    found = consolidate([annotation(words=(True, True)), annotation(words=(False, True))], size=(4, 4))
    assert found.labels == (1, 0)


@given(ANNOTATIONS, st.randoms())
def test_consolidation_does_not_depend_on_who_came_first(fields, random):
    annotations = [annotation(**each) for each in fields]
    shuffled = random.sample(annotations, len(annotations))
    one, other = (consolidate(each, size=SIZE) for each in (annotations, shuffled))
    assert one.labels == other.labels
    assert one.scores == pytest.approx(other.scores)
    for name in HEATMAPS:
        np.testing.assert_allclose(one.heatmaps[name], other.heatmaps[name], atol=1e-6)


@given(ANNOTATIONS)
def test_equal_annotators_say_what_one_says(fields):
    annotations = [annotation(**each) for each in fields]
    one, three = (consolidate(annotations[:1] * count, size=SIZE) for count in (1, 3))
    assert one.labels == three.labels == tuple(int(not flag) for flag in annotations[0].misaligned_words)
    assert one.scores == three.scores
    for name in HEATMAPS:
        np.testing.assert_array_equal(one.heatmaps[name], three.heatmaps[name])


@given(ANNOTATIONS)
def test_consolidated_maps_are_shares_of_annotators_and_survive_a_record(fields):
    annotations = [annotation(**each) for each in fields]
    found = consolidate(annotations, size=SIZE)
    record = example_to_record(record_to_example(found.to_record("train/x.png", prompt="a cat")))
    for name in HEATMAPS:
        shares = found.heatmaps[name] * len(annotations)
        np.testing.assert_allclose(shares, np.round(shares), atol=1e-5)
        np.testing.assert_array_equal(record.heatmaps[name], np.round(255 * found.heatmaps[name]))
    assert record.labels == found.labels
    assert record.scores == pytest.approx(found.scores)


def test_maps_are_rounded_not_cut():
    values = np.array([[0, 1 / 3, 2 / 3, 1, 0.999]], np.float32)
    assert heatmap_to_uint8(values).tolist() == [[0, 85, 170, 255, 255]]


def test_annotations_that_cannot_be_consolidated_say_why():
    with pytest.raises(ValueError, match="no annotations"):
        consolidate([], size=(4, 4))
    with pytest.raises(ValueError, match=r"flag \[1, 2\] words"):
        consolidate([annotation(words=(True,)), annotation(words=(True, False))], size=(4, 4))
    with pytest.raises(ValueError, match="the mark for 'plausibility' is 6"):
        annotation(mark=6)
    with pytest.raises(ValueError, match="'overall' is None"):
        Annotation(
            implausible_points=(),
            misaligned_points=(),
            misaligned_words=(),
            likert=dict.fromkeys(SCORES[:3], 3),
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"misaligned_words": (2, 5)}, r"misaligned_words is \(2, 5\).*not the indices"),
        ({"misaligned_words": (0.5,)}, "misaligned_words"),
        ({"misaligned_words": [1, 2]}, "misaligned_words"),
        ({"misaligned_words": (-1,)}, "misaligned_words"),
        ({"misaligned_words": (float("nan"),)}, "misaligned_words"),
        ({"implausible_points": [(float("nan"), 1)]}, "implausible_points has .*not a place"),
        ({"misaligned_points": [(1,)]}, "misaligned_points has .*two numbers"),
        ({"likert": dict.fromkeys(SCORES, 0)}, "is 0; expected one of"),
        ({"likert": dict.fromkeys(SCORES, 3.5)}, "is 3.5"),
        ({"likert": dict.fromkeys(SCORES, True)}, "is True"),
        ({"likert": dict.fromkeys(SCORES, float("nan"))}, "is nan"),
        ({"likert": {**dict.fromkeys(SCORES, 3), "beauty": 3}}, "likert has 'beauty'"),
    ],
)
def test_what_an_annotator_cannot_have_said_is_an_error(changes, message):
    fields = dict(
        implausible_points=(), misaligned_points=(), misaligned_words=(), likert=dict.fromkeys(SCORES, 3)
    )
    with pytest.raises(ValueError, match=message):
        Annotation(**(fields | changes))


def test_lists_and_arrays_are_taken():
    one = Annotation(
        implausible_points=np.array([[1.0, 2.0]]),
        misaligned_points=[],
        misaligned_words=[1, 0],
        likert=dict.fromkeys(SCORES, 4),
    )
    assert one.misaligned_words == (True, False)
    assert one.likert == dict.fromkeys(SCORES, 4)
    assert annotation(words=(0, 1)).misaligned_words == (False, True)


def test_an_annotation_of_a_larger_image_is_an_error():
    with pytest.raises(ValueError, match=r"\(500, 20\) lies outside the image of 64 x 64"):
        consolidate([annotation(implausible=[(500, 20)])], size=(64, 64))


def test_values_of_a_wrong_type_are_explained():
    """Without the types that tests check, as in production."""
    code = """
import numpy as np
from richhf.data import Annotation, points_to_heatmap
from richhf.feedback import SCORES
good = dict(
    implausible_points=(), misaligned_points=(), misaligned_words=(), likert=dict.fromkeys(SCORES, 3)
)
numpy = good | dict(misaligned_words=np.array([True]), likert=dict.fromkeys(SCORES, np.int64(4)))
plain = good | dict(misaligned_words=(1,), likert=dict.fromkeys(SCORES, 4))
assert Annotation(**numpy) == Annotation(**plain)
for changes in (
    dict(misaligned_words="red"), dict(misaligned_words=("red",)), dict(misaligned_words=(None,)),
    dict(misaligned_words=3), dict(misaligned_words={0}), dict(misaligned_points=(1, 2)),
    dict(misaligned_points=["12"]), dict(misaligned_points=[("1", "2")]), dict(misaligned_points=None),
    dict(misaligned_points=[(True, 1)]), dict(likert=dict.fromkeys(SCORES, "3")), dict(likert=[3, 3, 3, 3]),
):
    try:
        print(Annotation(**(good | changes)))
    except ValueError as error:
        assert next(iter(changes)) in str(error) or "mark" in str(error), error
for points, size in (([], (8.5, 8)), ([], 8), ([], None), (["12"], (8, 8))):
    try:
        print(points_to_heatmap(points, size))
    except ValueError as error:
        assert "expected (" in str(error), error
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
