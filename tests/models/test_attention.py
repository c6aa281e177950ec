import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.models import attention
from richhf.models.attention import (
    MASKED,
    MultiHeadAttention,
    RelativePositionBias,
    causal_bias,
    neighbour_bias,
    padding_bias,
    relative_position_buckets,
)
from richhf.models.choices import PROCESSORS

# By hand from Raffel et al. 2020: 32 buckets, distances up to 128. The encoder has 16 for each sign: 8 exact
# ones, then 8 + floor(8 * log(x / 8) / log(16)); the decoder has 16 exact ones, then
# 16 + floor(16 * log(x / 16) / log(8)).
ENCODER = {0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -16: 10, -23: 11, -32: 12, -64: 14, -90: 14, -91: 15}
ENCODER |= {-128: 15, -5000: 15, 1: 17, 7: 23, 8: 24, 16: 26, 64: 30, 127: 31, 9999: 31}
DECODER = {5: 0, 1: 0, 0: 0, -1: 1, -15: 15, -16: 16, -18: 16, -19: 17, -32: 21, -64: 26, -112: 30, -113: 31}
DECODER |= {-128: 31, -700: 31}


@pytest.mark.parametrize(("bidirectional", "table"), [(True, ENCODER), (False, DECODER)])
def test_buckets_equal_hand_computed_ones(bidirectional, table):
    buckets = relative_position_buckets(
        np.array(list(table)), bidirectional=bidirectional, buckets=32, max_distance=128
    )
    assert dict(zip(table, buckets.tolist(), strict=True)) == table


@pytest.mark.parametrize(("bidirectional", "length"), [(True, 1), (True, 37), (False, 20)])
def test_position_bias_is_the_table_entry_of_each_pair(random_variables, bidirectional, length):
    module = RelativePositionBias(3, bidirectional, features=8, buckets=8, max_distance=20)
    params = random_variables(module, length=length)
    bias = jax.jit(lambda p: module.apply(p, length))(params)
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    bucket = relative_position_buckets(distance, bidirectional=bidirectional, buckets=8, max_distance=20)
    table = np.asarray(params["params"]["embedding"])
    np.testing.assert_array_equal(bias[0], table[bucket].transpose(2, 0, 1))


def test_masks_are_the_documented_matrices():
    causal = [[0, MASKED, MASKED], [0, 0, MASKED], [0, 0, 0]]
    np.testing.assert_array_equal(causal_bias(3)[0, 0], causal)
    bias = padding_bias(jnp.array([[True, False]]))
    np.testing.assert_array_equal(bias, [[[[0, MASKED]]]])


@pytest.mark.parametrize("bias_shape", [None, (1, 6, 5, 5), (2, 1, 1, 5)])
def test_attention_by_groups_of_heads_is_the_same(random_variables, monkeypatch, bias_shape):
    monkeypatch.setattr(attention, "MOST_WEIGHTS", 2 * 5 * 5 * 2)  # two heads of both rows
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 12)), jnp.float32)
    bias = None if bias_shape is None else jnp.asarray(rng.normal(size=bias_shape), jnp.float32)
    plain, grouped = (MultiHeadAttention(6, 2, 12, optimize_for=name) for name in PROCESSORS)
    params = random_variables(plain, x, method=MultiHeadAttention.to_self)
    run, run_grouped = (
        jax.jit(functools.partial(one.apply, method=MultiHeadAttention.to_self)) for one in (plain, grouped)
    )
    np.testing.assert_allclose(run_grouped(params, x, bias), run(params, x, bias), atol=1e-6)
    assert "tensor<3x2x2x5x2xf32>" in run_grouped.lower(params, x, bias).as_text()


def test_attention_divided_late_is_the_same_where_rows_are_masked():
    rng = np.random.default_rng(0)
    query, keys, values = (jnp.asarray(rng.normal(size=(2, 3, 5, 4)), jnp.float32) for _ in range(3))
    bias = padding_bias(jnp.array([[True, False, True, False, False], [False] * 5]))
    for scale in (1.0, 50.0):
        wanted = attention.mix(scale * query, keys, values, bias)
        found = jax.jit(attention.mix_on_cpu)(scale * query, keys, values, bias)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_attention_equals_a_loop_over_heads(random_variables):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6)), jnp.float32)
    module = MultiHeadAttention(num_heads=2, head_width=3, features=4, use_bias=True, scaled=True)
    params = random_variables(module, x, method=MultiHeadAttention.to_self)
    kernel = {name: np.asarray(value["kernel"], np.float64) for name, value in params["params"].items()}
    bias = {name: np.asarray(value["bias"], np.float64) for name, value in params["params"].items()}
    wanted = np.zeros((2, 5, 4))
    for b in range(2):
        mixed = np.zeros((5, 6))
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            q, k, v = (
                np.asarray(x[b], np.float64) @ kernel[n][:, part] + bias[n][None, part]
                for n in ("query", "key", "value")
            )
            weights = np.exp(q @ k.T / np.sqrt(3))
            mixed[:, part] = weights / weights.sum(1, keepdims=True) @ v
        wanted[b] = mixed @ kernel["out"] + bias["out"][None]
    np.testing.assert_allclose(module.apply(params, x, method=MultiHeadAttention.to_self), wanted, atol=1e-5)


def test_fresh_unscaled_attention_starts_with_logits_of_order_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 256)), jnp.float32)
    module = MultiHeadAttention(num_heads=4, head_width=64, features=256, use_bias=False, scaled=False)
    params = nn.unbox(module.init(jax.random.key(1), x, method=MultiHeadAttention.to_self))["params"]
    query, key = (np.asarray(x[0]) @ np.asarray(params[n]["kernel"])[:, :64] for n in ("query", "key"))
    assert 0.5 < (query @ key.T).std() < 2


def test_neighbour_heads_start_by_looking_at_the_token_before_and_after():
    bias = neighbour_bias(3, 2, bidirectional=True, buckets=32, max_distance=128)
    distance = np.arange(6)[None] - np.arange(6)[:, None]
    bucket = relative_position_buckets(distance, bidirectional=True, buckets=32, max_distance=128)
    by_head = bias[bucket]
    np.testing.assert_array_equal(by_head[1:, :, 0].argmax(1), np.arange(5))
    np.testing.assert_array_equal(by_head[:-1, :, 1].argmax(1), np.arange(1, 6))
    assert by_head[1:, :, 0].max() == 0
    assert not by_head[..., 2].any()


def test_no_neighbour_heads_is_t5():
    bias = neighbour_bias(4, 0, bidirectional=False, buckets=32, max_distance=128)
    assert not bias.any()
