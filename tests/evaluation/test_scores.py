import inspect
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from richhf.evaluation import plcc, srcc
from richhf.evaluation.scores import average_ranks

# Scores of the data set are multiples of 1/12: many ties.
TWELFTHS = st.lists(st.tuples(*[st.integers(0, 12)] * 2), min_size=3, max_size=40)


@given(TWELFTHS)
def test_agrees_with_scipy_on_tied_scores(pairs):
    pred, true = np.array(pairs).T / 12
    if np.ptp(pred) == 0 or np.ptp(true) == 0:
        assert math.isnan(plcc(pred, true))
        assert math.isnan(srcc(pred, true))
        return
    assert plcc(pred, true) == pytest.approx(scipy.stats.pearsonr(pred, true).statistic, abs=1e-12)
    assert srcc(pred, true) == pytest.approx(scipy.stats.spearmanr(pred, true).statistic, abs=1e-12)


def test_agrees_with_scipy_without_ties():
    rng = np.random.default_rng(0)
    pred = rng.random(1000)
    true = pred + rng.normal(size=1000)
    assert plcc(pred, true) == pytest.approx(scipy.stats.pearsonr(pred, true).statistic, abs=1e-12)
    assert srcc(pred, true) == pytest.approx(scipy.stats.spearmanr(pred, true).statistic, abs=1e-12)


def test_average_ranks_by_hand():
    np.testing.assert_array_equal(average_ranks(np.array([0.5, 0.1, 0.5, 0.9, 0.5])), [3, 1, 3, 5, 3])


def test_plcc_sees_lines_and_srcc_sees_order():
    true = np.linspace(0, 1, 20)
    assert plcc(3 * true - 7, true) == pytest.approx(1)
    assert plcc(-true, true) == pytest.approx(-1)
    assert srcc(true**5, true) == pytest.approx(1)
    assert plcc(true**5, true) < 0.9


@pytest.mark.parametrize("metric", [plcc, srcc])
def test_constants_and_single_examples_have_no_correlation(metric):
    # 0.1 summed and divided does not come back exactly: equality must be tested, not the deviation.
    assert math.isnan(metric([0.1] * 3, [0.1, 0.2, 0.3]))
    assert math.isnan(metric([0.1, 0.2, 0.3], [0.1] * 3))
    assert math.isnan(metric([0.5], [0.5]))
    assert math.isnan(metric([], []))


def test_tiny_and_huge_values_neither_underflow_nor_overflow():
    assert plcc(np.array([1e-200, 2e-200, 4e-200]), np.array([1e200, 2e200, 4e200])) == pytest.approx(1)


@pytest.mark.parametrize("metric", [plcc, srcc])
@pytest.mark.parametrize(
    ("pred", "true", "said"),
    [
        (np.zeros(3), np.zeros(4), r"\(3,\).*\(4,\)"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "one score at a time"),
        (np.array([0.1, np.nan]), np.zeros(2), "1 of 2 predicted scores are not finite.*index 1"),
    ],
)
def test_unusable_arrays_are_explained(metric, pred, true, said):
    with pytest.raises(ValueError, match=said):
        inspect.unwrap(metric)(pred, true)
