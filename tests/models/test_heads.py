import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.models import HeatmapHead, HeatmapHeadConfig, ScoreHead, ScoreHeadConfig


def count(module, shape):
    params = jax.eval_shape(lambda key: module.init(key, jnp.zeros(shape)), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_layouts_express_the_paper_and_the_author():
    # The author's published counts: two heatmap heads 64.39 M, four score heads 49.79 M, on 24 x 24 x 768.
    assert round(2 * count(HeatmapHead(HeatmapHeadConfig()), (1, 24, 24, 768)) / 1e6, 2) == 64.39
    author = ScoreHeadConfig((768, 384, 192, 96, 48, 12), kernel=3, dense_widths=(512, 128))
    assert round(4 * count(ScoreHead(author), (1, 24, 24, 768)) / 1e6, 2) == 49.79
    # The paper's, kernel 2, on 32 x 32: convolutions with bias and norm scale, 32 * 32 * 64 flattened.
    widths, channels, total = (768, 384, 128, 64), 768, 0
    for width in widths:
        total, channels = total + 4 * channels * width + 2 * width, width
    total += (32 * 32 * 64 + 1) * 2048 + 2049 * 1024 + 1025
    assert count(ScoreHead(ScoreHeadConfig()), (1, 32, 32, 768)) == total


@pytest.mark.parametrize("residual_convs", [0, 2])
def test_heatmap_head_doubles_the_side_and_starts_at_its_initial_value(residual_convs, fast_jit):
    config = HeatmapHeadConfig((8,), (6, 4), residual_convs, final_width=4, initial_value=0.03)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 8)), jnp.float32)
    logits, variables = fast_jit(HeatmapHead(config).init_with_output)(jax.random.key(1), x)
    assert logits.shape == (2, 12, 20)
    assert config.map_size(3) == 12
    bias = nn.unbox(variables)["params"]["logits"]["bias"]
    np.testing.assert_allclose(jax.nn.sigmoid(bias), [0.03], rtol=1e-5)
    assert abs(np.median(logits) - bias[0]) < 1


def test_mean_pooling_forgets_the_place_and_flattening_does_not(random_variables):
    x = jnp.zeros((2, 6, 6, 3)).at[0, 2, 2].set(1.0).at[1, 3, 3].set(1.0)
    for pool, forgets in (("mean", True), ("flatten", False)):
        config = ScoreHeadConfig((4,), kernel=3, pool=pool, dense_widths=(5,))
        params = random_variables(ScoreHead(config), x)
        first, second = jax.jit(ScoreHead(config).apply)(params, x)
        assert (abs(first - second) < 1e-5) == forgets


def test_bad_layouts_are_explained():
    with pytest.raises(ValueError, match="'avg'; expected one of 'flatten', 'mean'"):
        ScoreHeadConfig(pool="avg")
    with pytest.raises(ValueError, match=r"initial_value is 0\.0"):
        HeatmapHeadConfig(initial_value=0.0)
