import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from richhf.models import winograd
from richhf.models.choices import CPU
from richhf.models.heads import HeatmapHead, HeatmapHeadConfig
from richhf.models.rahf import RAHFConfig


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "features"),
    [((1, 48, 48, 8), 16), ((2, 45, 51, 3), 5), ((2, 47, 50, 4), 4), ((1, 61, 21, 3), 3), ((1, 5, 3, 4), 4)],
)
def test_it_is_the_direct_convolution(shape, features):
    x, kernel = draw(*shape), draw(3, 3, shape[-1], features, seed=1)
    layout = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    found = jax.jit(winograd.convolve)(x, kernel)
    assert found.shape == expected.shape
    # Rounding at other points: 1e-5 of the output's deviation, see the module.
    np.testing.assert_allclose(found, expected, atol=2e-5 * float(expected.std()))


def test_a_whole_head_is_the_same_to_rounding():
    config = HeatmapHeadConfig(conv_widths=(8,), deconv_widths=(16, 8), final_width=8)
    x = jnp.asarray(draw(2, 16, 16, 8))
    direct, quick = HeatmapHead(config), HeatmapHead(config, optimize_for=CPU)
    variables = direct.init(jax.random.key(0), x)
    assert jax.tree.structure(variables) == jax.tree.structure(quick.init(jax.random.key(0), x))
    wanted, found = jax.jit(direct.apply)(variables, x), jax.jit(quick.apply)(variables, x)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * float(jnp.std(wanted)))
    assert bool(jnp.any(found != wanted))


def test_small_maps_are_left_to_the_direct_convolution():
    assert winograd.pays(48, 48)
    assert not winograd.pays(24, 24)


def test_only_in_float32():
    with pytest.raises(ValueError, match=r"Set dtype to 'float32' or optimize_for to 'any'"):
        RAHFConfig(optimize_for=CPU, dtype="bfloat16")
