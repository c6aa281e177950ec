import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from richhf.models.choices import CPU
from richhf.models.convolution import Conv, UpConv


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4)])
def test_up_conv_is_a_convolution_over_the_zero_filled_map(random_variables, height, width):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, height, width, 3)), jnp.float32)
    module = UpConv(5)
    params = random_variables(module, x)
    wanted = lax.conv_general_dilated(
        x,
        params["params"]["kernel"],
        (1, 1),
        ((1, 2), (1, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    wanted = np.asarray(wanted) + np.asarray(params["params"]["bias"])
    np.testing.assert_allclose(jax.jit(module.apply)(params, x), wanted, atol=1e-5)


@pytest.mark.parametrize("height", [97, 128])
def test_up_conv_in_strips_is_the_same(random_variables, height):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, height, 100, 3)), jnp.float32)
    params = random_variables(UpConv(4), x)
    wanted = jax.jit(UpConv(4).apply)(params, x)
    found = jax.jit(UpConv(4, optimize_for=CPU).apply)
    np.testing.assert_allclose(found(params, x), wanted, atol=1e-5)
    assert "while" in found.lower(params, x).as_text()


def test_up_conv_spreads_a_pixel_by_the_turned_kernel():
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    params = {"params": {"kernel": kernel, "bias": jnp.zeros(1)}}
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1.0)
    y = np.asarray(UpConv(1).apply(params, x))[0, :, :, 0]
    np.testing.assert_array_equal(y[1:4, 1:4], [[9, 8, 7], [6, 5, 4], [3, 2, 1]])
    assert np.count_nonzero(y) == 9


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 1, "SAME", 5), (3, 2, "SAME", 3), (2, 1, "VALID", 4)]
)
def test_conv_sizes(kernel, stride, padding, side):
    module = Conv(2, kernel, stride, padding)
    y, _ = jax.eval_shape(lambda k: module.init_with_output(k, jnp.ones((1, 5, 5, 3))), jax.random.key(0))
    assert y.shape == (1, side, side, 2)
