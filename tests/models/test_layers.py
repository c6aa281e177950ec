import jax
import jax.numpy as jnp
import numpy as np

from richhf.models.layers import Embedding, LayerNorm, RMSNorm


def test_rms_norm_divides_by_root_mean_square_without_subtracting_the_mean():
    x = jnp.array([[3.0, 4.0, 0.0, 0.0]])
    y = RMSNorm().apply({"params": {"scale": jnp.array([1.0, 1.0, 1.0, 2.0])}}, x + 0.0)
    np.testing.assert_allclose(y, [[1.2, 1.6, 0.0, 0.0]], rtol=1e-6)
    shifted = RMSNorm().apply({"params": {"scale": jnp.ones(4)}}, x + 5.0)
    assert np.abs(shifted.mean()) > 0.9


def test_norm_eps_is_what_the_field_says():
    x = jnp.full((1, 2), 1e-4)
    params = {"params": {"scale": jnp.ones(2)}}
    np.testing.assert_allclose(RMSNorm(1e-8).apply(params, x), np.full((1, 2), 2**-0.5), rtol=1e-5)
    np.testing.assert_allclose(RMSNorm(1e-6).apply(params, x), np.full((1, 2), 1.01**-0.5 * 0.1), rtol=1e-5)


def test_layer_norm_by_hand():
    params = {"params": {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.5, 0.0])}}
    y = LayerNorm(eps=3.0).apply(params, jnp.array([[1.0, 3.0]]))
    np.testing.assert_allclose(y, [[0.5 - 0.5, 1.0]], atol=1e-6)


def test_norm_statistics_are_float32_under_bfloat16():
    x = jax.random.normal(jax.random.key(0), (4, 64)) * 100
    params = {"params": {"scale": jnp.ones(64)}}
    wanted = RMSNorm().apply(params, x)
    y = RMSNorm(dtype=jnp.bfloat16).apply(params, x)
    assert y.dtype == jnp.bfloat16
    # One rounding of the result (8 bits), none of the sum of squares.
    np.testing.assert_allclose(y.astype(jnp.float32), wanted, rtol=2**-8)


def test_embedding_scores_by_its_own_rows():
    table = jnp.arange(6.0).reshape(3, 2)
    layer, params = Embedding(3, 2), {"params": {"embedding": table}}
    np.testing.assert_array_equal(layer.apply(params, jnp.array([2, 0])), table[np.array([2, 0])])
    scores = layer.apply(params, jnp.array([[1.0, 10.0]]), method=Embedding.attend)
    np.testing.assert_array_equal(scores, [[10.0, 32.0, 54.0]])
