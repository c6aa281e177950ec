import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from richhf.training.optimizers import adafactor, adamw, decay_mask, muon

# Adam's first step with Nesterov momentum and b1 = 0.9, in learning rates.
NESTEROV = 0.9 * (0.1 / (1 - 0.9**2)) + 1.0


def params():
    return {
        "mlp": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
        "pre_norm": {"scale": jnp.ones((2, 2))},
        "position_bias": {"embedding": jnp.ones((4, 2))},
        "embedding": jnp.ones((5, 4)),
        "temperature": jnp.ones(()),
    }


def test_only_matrices_that_are_no_norm_bias_or_position_decay():
    mask = decay_mask(params())
    decayed = [jax.tree_util.keystr(path, simple=True, separator="/") for path, on in _flat(mask) if on]
    assert decayed == ["embedding", "mlp/kernel"]


@pytest.mark.parametrize("make", [adamw, adafactor])
def test_decay_moves_the_masked_parameters_only(make):
    before = params()
    optimizer = make(0.1, weight_decay=0.5)
    zeros = jax.tree.map(jnp.zeros_like, before)
    updates, _ = optimizer.transformation.update(zeros, optimizer.transformation.init(before), before)
    moved = [bool(jnp.any(update != 0)) for _, update in _flat(updates)]
    assert moved == [on for _, on in _flat(decay_mask(before))]


@pytest.mark.parametrize(("clip_norm", "factor"), [(1.0, 0.1), (100.0, 1.0), (None, 1.0)])
def test_gradients_are_clipped_by_their_global_norm(clip_norm, factor):
    values = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(1)}
    gradients = {"a": jnp.full((2, 2), 4.0), "b": jnp.full(1, 6.0)}
    optimizer = adamw(1.0, b1=0.0, b2=0.999, clip_norm=clip_norm)
    _, state = optimizer.transformation.update(gradients, optimizer.transformation.init(values), values)
    mean = optax.tree.get(state, "mu")
    np.testing.assert_allclose(mean["a"], 4.0 * factor, rtol=1e-6)
    np.testing.assert_allclose(mean["b"], 6.0 * factor, rtol=1e-6)


def test_first_adamw_step_is_the_learning_rate_in_the_gradients_direction():
    values = {"w": jnp.array([[1.0, -2.0]])}
    optimizer = adamw(0.01, clip_norm=None)
    gradients = {"w": jnp.array([[3.0, -0.5]])}
    updates, _ = optimizer.transformation.update(gradients, optimizer.transformation.init(values), values)
    np.testing.assert_allclose(updates["w"], [[-0.01, 0.01]], rtol=1e-5)


def test_muon_moves_every_direction_of_a_matrix_as_far_and_the_rest_by_adam():
    """Also where one direction's gradient is a hundred times the others'."""
    rng = np.random.default_rng(0)
    values = {"conv": {"kernel": jnp.zeros((3, 3, 2, 8))}, **params()}
    gradients = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), values)
    loud = np.outer(np.ones(18), np.ones(8)).reshape(3, 3, 2, 8)
    gradients["conv"]["kernel"] += 100 * loud
    optimizer = muon(0.01, rms=1.0)
    updates, _ = optimizer.transformation.update(gradients, optimizer.transformation.init(values), values)
    for update, shape in ((updates["conv"]["kernel"], (18, 8)), (updates["mlp"]["kernel"], (4, 3))):
        singular = np.linalg.svd(np.reshape(update, shape), compute_uv=False)
        even = 0.01 * np.sqrt(max(shape))
        # Five Newton-Schulz steps bring singular values to 0.7 .. 1.2, and no closer.
        assert 0.6 * even < singular.min() <= singular.max() < 1.3 * even
    for update, gradient in (
        (updates["embedding"], gradients["embedding"]),
        (updates["mlp"]["bias"], gradients["mlp"]["bias"]),
    ):
        np.testing.assert_allclose(update, NESTEROV * -0.01 * np.sign(gradient), rtol=1e-4)


def test_muon_leaves_what_is_named_to_adam():
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 2.0), params())
    optimizer = muon(0.01, by_adam="mlp")
    updates, _ = optimizer.transformation.update(gradients, optimizer.transformation.init(params()), params())
    np.testing.assert_allclose(updates["mlp"]["kernel"], NESTEROV * -0.01, rtol=1e-4)


@pytest.mark.parametrize("make", [adamw, muon])
def test_stacked_layers_are_stepped_as_if_they_were_apart(make):
    rng = np.random.default_rng(0)
    layers = [{"kernel": rng.normal(size=(4, 6)), "scale": rng.normal(size=4)} for _ in range(3)]
    apart = jax.tree.map(jnp.float32, {f"layers_{i}": layer for i, layer in enumerate(layers)})
    stacked = {"layers": jax.tree.map(lambda *x: jnp.stack(x), *apart.values())}
    optimizer = make(0.1, weight_decay=0.5, clip_norm=None)
    steps = [
        optimizer.transformation.update(values, optimizer.transformation.init(values), values)[0]
        for values in (apart, stacked)
    ]
    for i in range(3):
        one = jax.tree.map(lambda x, i=i: x[i], steps[1]["layers"])
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), one, steps[0][f"layers_{i}"])


def test_clip_norm_must_be_positive():
    with pytest.raises(ValueError, match=r"clip_norm must be positive, got 0\.0"):
        adamw(0.1, clip_norm=0.0)


def _flat(tree):
    return jax.tree_util.tree_flatten_with_path(tree)[0]
