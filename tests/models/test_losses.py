import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.models import HeatmapLoss, ImageWordLoss, KeywordLoss, ScoreLoss, WordLoss
from richhf.models.losses import scale_heatmap, sigmoid_cross_entropy, weighted_mean


def test_weighted_mean_by_hand_and_over_nothing():
    assert weighted_mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([1.0, 3.0, 0.0])) == 1.75
    values = jnp.array([np.inf, np.nan])
    value, gradient = jax.value_and_grad(lambda v: weighted_mean(v, jnp.zeros(2)))(values)
    assert value == 0
    np.testing.assert_array_equal(gradient, [0, 0])


def test_true_maps_are_averaged_in_blocks_and_bytes_are_scaled():
    tall = np.zeros((1, 4, 8), np.uint8)
    tall[0, :2, :4] = 255
    tall[0, 2, 4] = 255
    np.testing.assert_allclose(scale_heatmap(jnp.asarray(tall), (2, 2)), [[[1, 0], [0, 1 / 8]]])
    floats = jnp.asarray(tall, jnp.float32) / 255
    np.testing.assert_array_equal(scale_heatmap(floats, (4, 8)), floats)


@pytest.mark.parametrize("size", [(3, 8), (8, 8)])
def test_maps_that_do_not_divide_are_refused(size):
    with pytest.raises(ValueError, match=f"4 x 8 px cannot be averaged .* {size[0]} x {size[1]}"):
        scale_heatmap(jnp.zeros((1, 4, 8)), size)


def test_heatmap_mse_by_hand():
    logits = jnp.zeros((2, 1, 2))
    targets = jnp.array([[[1.0, 0.5]], [[0.0, 0.0]]])
    assert HeatmapLoss()(logits, targets, jnp.array([1.0, 0.0])) == 0.125
    assert HeatmapLoss()(logits, targets, jnp.array([1.0, 1.0])) == 0.1875
    # Pixel weights 1 + 2 * target: (3 * .25 + 2 * 0) / 2.
    assert HeatmapLoss(positive_weight=3.0)(logits, targets, jnp.array([1.0, 0.0])) == 0.375


def test_cross_entropy_equals_its_definition_and_does_not_overflow():
    logits, targets = jnp.array([-2.0, 0.3, 4.0]), jnp.array([0.0, 0.7, 1.0])
    p = np.asarray(jax.nn.sigmoid(logits), np.float64)
    wanted = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    np.testing.assert_allclose(sigmoid_cross_entropy(logits, targets), wanted, rtol=1e-5)
    assert HeatmapLoss(kind="bce")(jnp.full((1, 1, 1), 500.0), jnp.zeros((1, 1, 1)), jnp.ones(1)) == 500


def test_cross_entropy_of_a_map_is_least_at_the_map():
    target = jnp.full((1, 1, 1), 2 / 3)
    slope = jax.grad(lambda x: HeatmapLoss(kind="bce")(jnp.full((1, 1, 1), x), target, jnp.ones(1)))
    assert abs(slope(jnp.log(2.0))) < 1e-6
    assert slope(0.0) < 0


def test_score_and_keyword_and_word_losses_by_hand():
    assert ScoreLoss()(jnp.zeros(2), jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])) == 0.25
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]]))
    targets = jnp.array([[1, 1]])
    np.testing.assert_allclose(
        KeywordLoss()(logits, targets, jnp.array([[1.0, 0.0]])), -np.log(0.25), rtol=1e-5
    )
    np.testing.assert_allclose(
        KeywordLoss()(logits, targets, jnp.array([[1.0, 3.0]])),
        -(np.log(0.25) + 3 * np.log(0.8)) / 4,
        rtol=1e-5,
    )
    word_logits, labels = jnp.array([[2.0, -1.0, 70.0]]), jnp.array([[1, 0, -1]])
    miss = np.log1p(np.exp([-2.0, -1.0]))
    np.testing.assert_allclose(WordLoss()(word_logits, labels), miss.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        WordLoss(positive_weight=3.0)(word_logits, labels), (3 * miss[0] + miss[1]) / 4, rtol=1e-5
    )


def test_image_words_are_the_shown_tokens_once_each():
    logits = jnp.array([[0.5, -1.0, 2.0, -3.0], [9.0, 9.0, 9.0, 9.0]])
    shown = jnp.array([[2, 2, 0, 0], [0, 0, 0, 0]])  # nothing is known of the second image
    targets = np.array([0, 0, 1, 0])
    wanted = (np.log1p(np.exp(logits[0])) - logits[0] * targets).sum()
    np.testing.assert_allclose(ImageWordLoss()(logits, shown), wanted, rtol=1e-6)


def test_unknown_kind_is_explained():
    with pytest.raises(ValueError, match="'MSE'; expected one of 'mse', 'bce'"):
        HeatmapLoss(kind="MSE")
