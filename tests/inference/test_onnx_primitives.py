"""Each rule against JAX itself, at a batch size that the graph does not know."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import lax

from richhf.inference.export_onnx import convert_function

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
KERNEL = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float32)


def convolve(x):
    return lax.conv_general_dilated(
        x[:, None],
        KERNEL,
        (1, 2),
        ((1, 1), (0, 1)),
        rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def count(x):
    """A loop whose number of rounds depends on what it computes."""

    def advance(state):
        i, total, kept = state
        return i + 1, total + jnp.abs(x).sum(), lax.dynamic_update_slice_in_dim(kept, total[None], i, axis=0)

    start = jnp.int32(0), jnp.float32(0), jnp.zeros(9)
    return lax.while_loop(lambda state: (state[0] < 9) & (state[1] < 100), advance, start)


# Functions of x, float32 [b 4 5], and y, int32 [b 4] from -1 to 5.
FUNCTIONS = {
    "arithmetic": lambda x, y: [x + 1, x * x, x / 3, -x, abs(x), jnp.sign(x), y * 2 - 1],
    "functions": lambda x, y: [jnp.exp(x), jnp.tanh(x), jax.nn.sigmoid(x), jnp.sqrt(abs(x)), lax.erf(x)],
    "powers": lambda x, y: [x**3, x**-2, lax.square(x), lax.rsqrt(abs(x) + 1), lax.pow(abs(x), 0.3)],
    "logarithms": lambda x, y: [jax.nn.logsumexp(x * 99, axis=-1), jax.nn.softmax(x), lax.erfc(x)],
    "comparisons": lambda x, y: [x < 0, x <= 0, x > 0, x >= 0, y == 1, y != 1, ~((x > 0) | (x < -1))],
    "choices": lambda x, y: [jnp.where(x > 0, x, 7), jnp.where(x > 0, x > 1, x < -1), jnp.maximum(x, 0)],
    "bounds": lambda x, y: [lax.clamp(-0.5, x, 0.5), jnp.minimum(x, 0), lax.is_finite(jnp.log(x - 1e9))],
    "reductions": lambda x, y: [x.sum(1), x.max((0, 2)), x.min(), (x > -1).all(1), (x > 1).any(1), x.mean()],
    "argmax": lambda x, y: [jnp.argmax(x, axis=1), jnp.argmax(jnp.minimum(x, 0), axis=-1)],
    "shapes": lambda x, y: [x.reshape(-1, 20), x.reshape(2 * x.shape[0], 10), x.transpose(2, 0, 1)],
    "copies": lambda x, y: [jnp.broadcast_to(x[:, None], (x.shape[0], 3, 4, 5)), jnp.tile(x, (1, 2, 3))],
    "new": lambda x, y: [jnp.zeros((x.shape[0], 2), int), jnp.ones((3, 2 * x.shape[0]))],
    "pieces": lambda x, y: [
        lax.slice_in_dim(x[:, 1:3], 0, 5, stride=2, axis=2),
        lax.dynamic_slice_in_dim(x, (y > 9).sum() + 1, 2, axis=1),
    ],
    "joined": lambda x, y: [jnp.concatenate([x, x[:, :2]], 1), jnp.stack([x, -x], 2)],
    "padded": lambda x, y: [jnp.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=3)],
    "lookup": lambda x, y: [jnp.asarray(TABLE).at[y].get(mode="clip", wrap_negative_indices=False)],
    "products": lambda x, y: [x @ TABLE[:, :1].repeat(5, 1).T[:, :2], jnp.einsum("bij,bkj->bik", x, -x)],
    "other products": lambda x, y: [jnp.einsum("bij,kj->kbi", x, KERNEL[0, 0].T), (x * x).sum((1, 2))],
    "sums of products": lambda x, y: [jnp.einsum("bij,bij->b", x, -x), x.reshape(-1, 20) @ np.ones(20, 'f')],
    "convolution": lambda x, y: [convolve(x)],
    "loop": lambda x, y: count(x),
    "types": lambda x, y: [x.astype(int), y.astype(jnp.float32), (x > 0).astype(jnp.uint8)],
    "sizes": lambda x, y: [jnp.float32(1) * x.shape[0] * x, lax.optimization_barrier(x)],
    "calls": lambda x, y: [jax.nn.relu(x), jax.nn.gelu(x), jax.checkpoint(jnp.tanh)(x)],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_rule_computes_what_jax_does(name):
    function = FUNCTIONS[name]
    (batch,) = jax.export.symbolic_shape("b")
    specs = {
        "x": jax.ShapeDtypeStruct((batch, 4, 5), jnp.float32),
        "y": jax.ShapeDtypeStruct((batch, 4), jnp.int32),
    }
    count = len(jax.eval_shape(function, *specs.values()))
    model = convert_function(function, specs, [f"out{i}" for i in range(count)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for size in (1, 3):
        x = rng.normal(size=(size, 4, 5)).astype(np.float32)
        y = rng.integers(-1, 6, (size, 4)).astype(np.int32)
        for found, expected in zip(
            session.run(None, {"x": x, "y": y}), function(jnp.asarray(x), jnp.asarray(y)), strict=True
        ):
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: [jnp.sort(x)], "the primitive sort"),
        (lambda x: [lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1)))], "pad between"),
    ],
)
def test_what_has_no_rule_is_named(function, message):
    (batch,) = jax.export.symbolic_shape("b")
    with pytest.raises(NotImplementedError, match=message):
        convert_function(function, {"x": jax.ShapeDtypeStruct((batch, 4), jnp.float32)}, ["out"])
