import numpy as np
import pytest

from richhf.data.consolidation import RADIUS, points_to_heatmap
from richhf.data.synthetic.annotators import (
    CAREFUL,
    POOL,
    annotate,
    annotator_pool,
    place_points,
    region_of,
    true_map,
)
from richhf.feedback import HEATMAPS, SCORES

SIZE = 64


@pytest.fixture
def region():
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return region_of(np.random.default_rng(0), (rows - 30) ** 2 + (columns - 20) ** 2 < 60, 1.0)


def test_points_cover_the_region_and_keep_apart(region):
    spacing = 5.0
    for points in place_points(np.random.default_rng(1), region, 7, spacing):
        gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        assert gaps[~np.eye(len(points), dtype=bool)].min() >= spacing
        reach = np.hypot(*(region.pixels[:, None] - points[None]).transpose(2, 0, 1)).min(1)
        assert reach.max() < spacing


def test_true_map_is_the_mean_of_painted_points(region):
    placed = [place_points(np.random.default_rng(2), region, CAREFUL, 5.0)]
    painted = np.mean([points_to_heatmap(points, (SIZE, SIZE)) for points in placed[0]], 0)
    np.testing.assert_allclose(true_map(placed, SIZE), painted, atol=1e-6)
    assert not true_map([], SIZE).any()


def test_points_at_the_border_paint_what_is_inside():
    corner = np.array([[0.0, 0.0]])
    painted = points_to_heatmap(corner, (SIZE, SIZE))
    np.testing.assert_array_equal(true_map([[corner] * CAREFUL], SIZE), painted)
    assert painted.sum() < np.pi * (RADIUS * SIZE) ** 2


def marks(person_index, truth, number=300, **changes):
    people = annotator_pool(np.random.default_rng(3))
    rng = np.random.default_rng(4)
    arguments = {
        "regions": {name: [] for name in HEATMAPS},
        "placed": {name: [] for name in HEATMAPS},
        "vague": [],
        "objects": np.array([[30.0, 30.0]]),
        "prompt": "a red circle",
        "misaligned": (False, True, False),
        "scores": dict.fromkeys(SCORES, truth),
        "size": SIZE,
    } | changes
    return [annotate(rng, (people[person_index],), **arguments)[0] for _ in range(number)]


def test_the_strict_give_lower_marks_than_the_lenient():
    people = annotator_pool(np.random.default_rng(3))
    assert len(people) == POOL
    order = np.argsort([person.strictness for person in people])
    lenient, strict = (
        np.mean([a.likert["overall"] for a in marks(index, 0.5)]) for index in (order[0], order[-1])
    )
    assert lenient - strict > 0.5 * (people[order[-1]].strictness - people[order[0]].strictness)


def test_marks_follow_the_truth_and_stay_on_the_scale():
    low, middle, high = ([a.likert["plausibility"] for a in marks(0, value)] for value in (0.0, 0.5, 1.0))
    assert np.mean(low) < np.mean(middle) < np.mean(high)
    assert set(low + middle + high) <= {1, 2, 3, 4, 5}


def test_clicks_have_misses_and_false_alarms():
    clicks = np.array([a.misaligned_words for a in marks(0, 0.5, number=600)])
    assert 0.6 < clicks[:, 1].mean() < 0.95
    assert 0 < clicks[:, [0, 2]].mean() < 0.12


def test_what_is_missing_is_marked_by_some(region):
    points = [len(a.misaligned_points) for a in marks(0, 0.5, vague=[np.array([10.0, 12.0])])]
    without = [len(a.misaligned_points) for a in marks(0, 0.5)]
    assert 0.2 < np.mean(points) - np.mean(without) < 0.5


def test_flags_must_fit_the_prompt():
    with pytest.raises(ValueError, match="2 flags"):
        marks(0, 0.5, number=1, misaligned=(False, True))
