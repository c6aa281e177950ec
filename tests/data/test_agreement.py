import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from richhf.data.agreement import LEVELS, krippendorff_alpha, likert_ratings, score_spread_histogram
from richhf.data.consolidation import Annotation
from richhf.feedback import SCORES

X = np.nan
# K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers.
KRIPPENDORFF_2011 = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
        [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
    ]
)
# The worked example of Wikipedia's article "Krippendorff's alpha": three coders, fifteen units.
WIKIPEDIA = np.array(
    [
        [X, X, X, X, X, 3, 4, 1, 2, 1, 1, 3, 3, X, 3],
        [1, X, 2, 1, 3, 3, 4, 3, X, X, X, X, X, X, X],
        [X, X, 2, 1, 3, 4, 4, X, 2, 1, 1, 3, 3, X, 4],
    ]
)
RATINGS = hnp.arrays(np.float64, (3, 6), elements=st.sampled_from([1.0, 2.0, 3.0, 5.0, np.nan])).filter(
    lambda ratings: ((~np.isnan(ratings)).sum(axis=0) >= 2).any()
)


def annotation(**marks) -> Annotation:
    return Annotation(
        implausible_points=(),
        misaligned_points=(),
        misaligned_words=(),
        likert={**dict.fromkeys(SCORES, 3), **marks},
    )


@pytest.mark.parametrize(
    ("ratings", "level", "alpha"),
    [
        (KRIPPENDORFF_2011, "nominal", 0.743),
        (KRIPPENDORFF_2011, "ordinal", 0.815),
        (KRIPPENDORFF_2011, "interval", 0.849),
        (WIKIPEDIA, "nominal", 0.691),
        (WIKIPEDIA, "interval", 0.811),
    ],
)
def test_alpha_has_the_published_values(ratings, level, alpha):
    assert krippendorff_alpha(ratings, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_by_hand():
    # Two raters, items (1, 1) and (1, 2). Observed: 2 of 4 ordered pairs differ. Expected: the values are
    # 1, 1, 1, 2, and of their 12 ordered pairs 6 differ. All distances are 1.
    assert krippendorff_alpha(np.array([[1, 1], [1, 2]])) == pytest.approx(1 - (2 / 4) / (6 / 12))


def by_definition(ratings: np.ndarray, level: str) -> float:
    """Alpha pair by pair: mean distance within items of m ratings, weighted 1 / (m - 1), over that of all."""
    items = [[value for value in item if not np.isnan(value)] for item in ratings.T]
    items = [item for item in items if len(item) > 1]
    pool = sorted(itertools.chain(*items))

    def distance(a, b):
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(low <= value <= high for value in pool)
        return (between - (pool.count(a) + pool.count(b)) / 2) ** 2 if a != b else 0.0

    observed = sum(
        sum(distance(a, b) for a, b in itertools.permutations(item, 2)) / (len(item) - 1) for item in items
    ) / len(pool)
    pairs = len(pool) * (len(pool) - 1)
    expected = sum(distance(a, b) for a, b in itertools.permutations(pool, 2)) / pairs
    return 1 - observed / expected if expected else float("nan")


@given(RATINGS, st.sampled_from(LEVELS))
def test_alpha_is_its_definition(ratings, level):
    assert krippendorff_alpha(ratings, level) == pytest.approx(by_definition(ratings, level), nan_ok=True)


@given(RATINGS, st.permutations(range(3)), st.permutations(range(6)), st.sampled_from(LEVELS))
def test_alpha_asks_neither_who_nor_in_which_order(ratings, annotators, items, level):
    other = krippendorff_alpha(ratings[annotators][:, items], level)
    assert krippendorff_alpha(ratings, level) == pytest.approx(other, nan_ok=True)


@given(RATINGS)
def test_each_level_keeps_what_it_promises(ratings):
    stretched = np.exp(ratings)  # order kept, distances not
    for level, other in (("nominal", stretched), ("ordinal", stretched), ("interval", 3 * ratings - 7)):
        alphas = krippendorff_alpha(ratings, level), krippendorff_alpha(other, level)
        assert alphas[0] == pytest.approx(alphas[1], nan_ok=True)


@given(hnp.arrays(np.float64, (6,), elements=st.integers(1, 5)), st.sampled_from(LEVELS))
def test_perfect_agreement_is_one(item, level):
    assume(len(set(item)) > 1)
    assert krippendorff_alpha(np.stack([item] * 3), level) == pytest.approx(1)


def test_independent_ratings_have_alpha_near_zero():
    ratings = np.random.default_rng(0).integers(1, 6, (3, 5000))
    for level in LEVELS:
        assert abs(krippendorff_alpha(ratings, level)) < 0.02


def test_alpha_without_variation_is_undefined_and_without_pairs_an_error():
    assert np.isnan(krippendorff_alpha(np.full((3, 4), 2.0)))
    with pytest.raises(ValueError, match="no item has two ratings"):
        krippendorff_alpha(np.array([[1, X], [X, 2]]))
    with pytest.raises(ValueError, match="infinite"):
        krippendorff_alpha(np.array([[1, np.inf], [2, 2]]))


def test_spread_is_counted_for_each_score_and_single_annotations_left_out():
    groups = [
        [annotation(), annotation(), annotation()],
        [annotation(overall=2), annotation(overall=5), annotation(overall=3)],
        [annotation(overall=1), annotation(overall=5, aesthetics=2)],
        [annotation(overall=1)],
    ]
    histogram = score_spread_histogram(groups)
    assert histogram["overall"].tolist() == [1, 0, 0, 1, 1]
    assert histogram["aesthetics"].tolist() == [2, 1, 0, 0, 0]
    assert histogram["plausibility"].tolist() == [3, 0, 0, 0, 0]


def test_marks_become_ratings_padded_with_nan():
    groups = [[annotation(overall=1), annotation(overall=2)], [annotation(overall=4)]]
    np.testing.assert_array_equal(likert_ratings(groups, "overall"), [[1, 4], [2, np.nan]])
