import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.stats
import sklearn.metrics

from richhf.evaluation import auc_judd, cc, kld, mse, nss, resize_maps, sim
from richhf.evaluation.heatmaps import METRICS

SIZE = (3, 12, 10)


def random_maps(seed=0, *, levels=None, size=SIZE):
    """A truth with blobs of 0, and predictions; with `levels`, predictions full of ties."""
    rng = np.random.default_rng(seed)
    true = rng.random(size) * (rng.random(size) > 0.7)
    pred = np.clip(0.4 * true + 0.6 * rng.random(size), 0, 1)
    return (np.round(pred * levels) / levels if levels else pred), true


def slow_auc_judd(pred, true):
    """AUC-Judd word by word: count, for every threshold, over every pixel."""
    pred, positive = pred.ravel(), true.ravel() > 0
    points = [(0.0, 0.0)]
    for threshold in sorted({float(p) for p, t in zip(pred, positive, strict=True) if t}, reverse=True):
        hits = sum(1 for p, t in zip(pred, positive, strict=True) if t and p >= threshold)
        alarms = sum(1 for p, t in zip(pred, positive, strict=True) if not t and p >= threshold)
        points.append((alarms / (~positive).sum(), hits / positive.sum()))
    points.append((1.0, 1.0))
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))


def test_mse_and_cc_agree_with_scipy_and_sklearn():
    pred, true = random_maps()
    for i in range(len(pred)):
        flat = pred[i].ravel(), true[i].ravel()
        assert mse(pred, true)[i] == pytest.approx(sklearn.metrics.mean_squared_error(*flat))
        assert cc(pred, true)[i] == pytest.approx(scipy.stats.pearsonr(*flat).statistic)


def test_kld_agrees_with_scipy_entropy_up_to_epsilon():
    pred, true = random_maps()
    # scipy has no epsilon; on a dozen pixels it moves nothing but the seventh digit.
    expected = scipy.stats.entropy(true.reshape(3, -1), pred.reshape(3, -1), axis=1)
    np.testing.assert_allclose(kld(pred, true), expected, atol=1e-5)


def test_kld_by_hand_where_the_prediction_misses():
    true, pred = np.array([[[1.0, 0.0]]]), np.array([[[0.0, 0.5]]])
    assert kld(pred, true)[0] == pytest.approx(np.log(1 / 1e-8 + 1e-8))
    assert kld(true, true)[0] == pytest.approx(0, abs=1e-7)


def test_sim_by_hand():
    true, pred = np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[[0.3, 0.1], [0.0, 0.0]]])
    assert sim(pred, true)[0] == pytest.approx(0.5)
    assert sim(true / 2, true)[0] == pytest.approx(1)
    assert sim(1 - true, true)[0] == 0


def test_nss_by_hand_uses_the_unbiased_deviation():
    true, pred = np.array([[[0.0, 0.0, 0.2, 1.0]]]), np.array([[[0.0, 0.2, 0.4, 0.6]]])
    standardised = (pred - 0.3) / np.std([0.0, 0.2, 0.4, 0.6], ddof=1)
    assert nss(pred, true)[0] == pytest.approx((standardised[0, 0, 2] + standardised[0, 0, 3]) / 2)


@pytest.mark.parametrize("levels", [None, 50, 7, 2, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_auc_judd_agrees_with_the_definition_with_and_without_ties(levels, seed):
    pred, true = random_maps(seed, levels=levels)
    expected = [slow_auc_judd(p, t) for p, t in zip(pred, true, strict=True)]
    np.testing.assert_allclose(auc_judd(pred, true), expected, atol=1e-12)


def test_auc_judd_exceeds_the_roc_area_by_its_missing_thresholds():
    # Without ties each step up is joined by a slanted line: half a step for every alarm before the last hit.
    pred, true = random_maps(3)
    for p, t in zip(pred, true > 0, strict=True):
        roc = sklearn.metrics.roc_auc_score(t.ravel(), p.ravel())
        alarms = (p[~t] >= p[t].min()).mean()
        assert auc_judd(p[None], t[None].astype(float))[0] == pytest.approx(roc + alarms / (2 * t.sum()))


def test_auc_judd_of_the_best_and_the_worst_ranking():
    pred, true = random_maps(5)
    positives = (true > 0).sum(axis=(1, 2))
    np.testing.assert_allclose(auc_judd((pred + (true > 0)) / 2, true), 1)
    # All alarms before the first hit: only the slant of the first step is left.
    np.testing.assert_allclose(auc_judd((pred + (true == 0)) / 2, true), 1 / (2 * positives))
    # One threshold that everything passes.
    np.testing.assert_allclose(auc_judd((true == 0).astype(float), true), 0.5)


def test_auc_judd_knows_only_the_order():
    pred, true = random_maps(5)
    np.testing.assert_array_equal(auc_judd(pred**3 / 2, true), auc_judd(pred, true))
    order = np.random.default_rng(0).permutation(pred[0].size)
    shuffled = [maps.reshape(3, -1)[:, order].reshape(SIZE) for maps in (pred, true)]
    np.testing.assert_allclose(auc_judd(*shuffled), auc_judd(pred, true), rtol=1e-12)


@pytest.mark.parametrize(
    ("true", "expected"),
    [
        pytest.param(
            "empty", dict(mse=0.25, cc=None, kld=None, sim=None, nss=None, auc_judd=None), id="empty"
        ),
        pytest.param("full", dict(mse=0.25, cc=None, kld=0, sim=1, nss=0, auc_judd=None), id="full"),
        pytest.param("half", dict(mse=0.25, cc=0, kld=np.log(2), sim=0.5, nss=0, auc_judd=0.5), id="half"),
    ],
)
def test_constant_predictions_get_the_value_of_chance(true, expected):
    maps = np.zeros((1, 4, 4))
    maps[:, :, : {"empty": 0, "full": 4, "half": 2}[true]] = 1
    for name, value in expected.items():
        got = METRICS[name](np.full((1, 4, 4), 0.5), maps)[0]
        assert np.isnan(got) if value is None else got == pytest.approx(value, abs=1e-6), name


def test_an_all_zero_prediction_counts_as_uniform():
    _, true = random_maps()
    for name in ("cc", "kld", "sim", "nss", "auc_judd"):
        zero, uniform = (METRICS[name](np.full(SIZE, value), true) for value in (0.0, 0.1))
        np.testing.assert_allclose(zero, uniform, rtol=1e-12, err_msg=name)


def test_full_truth_with_a_varied_prediction():
    pred, _ = random_maps()
    true = np.ones(SIZE)
    assert np.isnan(cc(pred, true)).all()
    assert np.isnan(auc_judd(pred, true)).all()
    np.testing.assert_allclose(nss(pred, true), 0, atol=1e-12)
    assert (kld(pred, true) > 0).all()
    assert (sim(pred, true) < 1).all()


@pytest.mark.parametrize("name", METRICS)
def test_each_map_of_a_batch_stands_alone(name):
    pred, true = random_maps()
    true[1] = 0
    alone = np.concatenate([METRICS[name](pred[i : i + 1], true[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(METRICS[name](pred, true), alone, rtol=1e-12)
    assert METRICS[name](pred[:0], true[:0]).shape == (0,)


def corner_cases(size=(37, 29)):
    """Pairs of maps that are easy to get wrong: with ties, flat, empty, of a single pixel, faint."""
    rng = np.random.default_rng(4)
    noise, spot, zero = rng.random(size), np.zeros(size), np.zeros(size)
    spot[5, 7] = 1
    levels = np.round(noise * 3) / 3
    blob = noise * (rng.random(size) > 0.9)
    faint = 0.3 + 1e-4 * noise
    preds = [noise, levels, spot, 1 - spot, zero, zero + 0.5, faint, 1e-30 * noise, blob, noise**20]
    trues = [zero, spot, blob, (blob > 0) * 1.0, levels, zero + 1, zero + 1 / 3]
    pairs = [(pred, true) for pred in preds for true in trues]
    return tuple(np.stack(side).astype(np.float32) for side in zip(*pairs, strict=True))


@pytest.mark.parametrize("name", METRICS)
def test_on_a_device_in_float32_they_are_as_on_the_host_in_float64(name):
    pred, true = corner_cases()
    exact = METRICS[name](pred, true)
    assert exact.dtype == np.float64
    got = jax.jit(inspect.unwrap(METRICS[name]))(jnp.asarray(pred), jnp.asarray(true))
    assert got.dtype == np.float32
    assert isinstance(got, jax.Array)
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("old", [8, 12, 30])
@pytest.mark.parametrize("new", [8, 17, 60])
def test_resize_agrees_with_pillow_on_the_host_and_on_a_device(old, new):
    maps = random_maps(size=(2, old, old + 3))[0].astype(np.float32)
    expected = np.stack(
        [PIL.Image.fromarray(m).resize((new + 1, new), PIL.Image.Resampling.BILINEAR) for m in maps]
    )
    got = resize_maps(maps, (new, new + 1))
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(resize_maps(jnp.asarray(maps), (new, new + 1)), expected, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("pred", "true", "said"),
    [
        (np.zeros((2, 4, 4)), np.zeros((2, 8, 8)), r"\(2, 4, 4\).*\(2, 8, 8\).*resize_maps"),
        (np.zeros((4, 4)), np.zeros((4, 4)), r"map\[None\]"),
        (np.zeros((1, 4, 4)), np.full((1, 4, 4), 255, np.uint8), "true maps go from 255 to 255.*255"),
        (np.full((1, 4, 4), -2.0), np.zeros((1, 4, 4)), "predicted maps go from -2 to -2.*sigmoid"),
        (np.full((1, 4, 4), np.nan), np.zeros((1, 4, 4)), "predicted maps go from nan"),
    ],
)
def test_unusable_maps_are_explained(name, pred, true, said):
    with pytest.raises(ValueError, match=said):
        inspect.unwrap(METRICS[name])(pred, true)


def test_resize_keeps_linear_ramps_and_the_size_it_has():
    ramp = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (2, 6, 8)).copy()
    large = resize_maps(ramp, (12, 16))
    assert large.shape == (2, 12, 16)
    # Half-pixel centres: inside, the values lie on the same line; at the border they are held.
    centres = (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(large[1, 5], np.clip(centres, 0, 7) / 7, atol=1e-6)
    np.testing.assert_array_equal(resize_maps(ramp, (6, 8)), ramp)
    assert large.min() >= 0
    assert large.max() <= 1
