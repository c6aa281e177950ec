"""Recomputing and scanning layers change memory and compile time, and nothing that is computed."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.feedback import MULTI_HEAD
from richhf.models import stack_layers, unstack_layers
from richhf.models.layers import with_axes
from richhf.models.stack import StackOptions, make_layers, run_layers
from richhf.training.partitioning import DEFAULT_RULES

TOLERANCE = {"rtol": 2e-4, "atol": 2e-6}


@pytest.fixture(scope="module")
def deep(model):
    """The tiny model with stacks of two layers each; multi-head alone, the stacks are the variants' own."""
    if model.config.variant != MULTI_HEAD:
        pytest.skip("the stacks of both variants are the same")
    config = dataclasses.replace(
        model.config,
        vit=dataclasses.replace(model.config.vit, depth=2),
        t5=dataclasses.replace(model.config.t5, encoder_layers=2, decoder_layers=2),
    )
    return dataclasses.replace(model, config=config)


def with_config(model, **changes):
    return dataclasses.replace(model, config=dataclasses.replace(model.config, **changes))


@pytest.fixture(scope="module")
def deep_params(deep, batch, fill):
    shapes = {name: value.shape for name, value in batch.items()}
    boxed = jax.eval_shape(lambda key: deep.get_initial_variables(key, shapes), jax.random.key(0))
    return nn.unbox(fill(boxed))["params"]


@pytest.fixture(scope="module")
def gradients(batch, fast_jit):
    def compute(model, params):
        function = jax.value_and_grad(lambda p, b: model.loss_fn(p, b, None)[0])
        return jax.device_get(fast_jit(function)(params, batch))

    return compute


@pytest.fixture(scope="module")
def plain(deep, deep_params, gradients):
    return gradients(deep, deep_params)


def assert_close(one, other):
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE, err_msg=jax.tree_util.keystr(path))


def test_recomputed_blocks_give_the_same_loss_and_gradients(deep, deep_params, gradients, plain, batch):
    recomputing = with_config(deep, remat="blocks")
    assert_close(plain, gradients(recomputing, deep_params))
    jaxprs = [
        str(jax.make_jaxpr(jax.grad(lambda p, m=m: m.loss_fn(p, batch, None)[0]))(deep_params))
        for m in (deep, recomputing)
    ]
    assert ["prevent_cse" in jaxpr for jaxpr in jaxprs] == [False, True]


def test_scanned_layers_give_the_same_loss_and_gradients(deep, deep_params, gradients, plain):
    scanned = with_config(deep, scan_layers=True, remat="blocks")
    loss, gradient = gradients(scanned, stack_layers(deep_params))
    assert_close(plain, (loss, unstack_layers(gradient)))


def test_stacking_is_undone_by_unstacking(deep_params):
    stacked = stack_layers(deep_params)
    assert stacked["vit"]["blocks"]["mlp_in"]["kernel"].shape == (2, 16, 24)
    assert not [name for name in stacked["t5"]["encoder"] if name.startswith("layers_")]
    assert_close(deep_params, unstack_layers(stacked))


def test_stacked_parameters_are_named(deep, batch):
    shapes = {name: value.shape for name, value in batch.items()}
    loop, scanned = (
        jax.eval_shape(lambda key, m=m: m.get_initial_variables(key, shapes), jax.random.key(0))["params"]
        for m in (deep, with_config(deep, scan_layers=True))
    )
    kernel = scanned["t5"]["encoder"]["layers"]["mlp"]["inward"]["kernel"]
    assert kernel.names == ("layers", "embed", "mlp")
    assert ("layers", None) in DEFAULT_RULES
    one, other = (jax.eval_shape(f, nn.unbox(t)) for f, t in ((stack_layers, loop), (dict, scanned)))
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, other)


def test_scanned_decoding_with_a_cache_equals_the_loops(deep, deep_params, batch, fast_jit):
    scanned = with_config(deep, scan_layers=True)
    one = fast_jit(lambda p, b: deep.predict_batch_with_aux(p, b, outputs=("keywords",)))(deep_params, batch)
    other = fast_jit(lambda p, b: scanned.predict_batch_with_aux(p, b, outputs=("keywords",)))(
        stack_layers(deep_params), batch
    )
    np.testing.assert_array_equal(one[0]["keyword_tokens"], other[0]["keyword_tokens"])
    assert_close(one[1], other[1])


class Noisy(nn.Module):
    """Three layers of a product and dropout, which say what they let through."""

    options: StackOptions

    def setup(self):
        self.layers = make_layers(lambda _: DroppingDense(), 3, self.options)

    def __call__(self, x):
        def drop(layer, x, entry):
            del entry
            return x, layer(x)

        return run_layers(self.layers, drop, x, depth=3, options=self.options)[1]


class DroppingDense(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", with_axes(nn.initializers.normal(), ("embed",)), x.shape)
        return kernel, nn.Dropout(0.5, deterministic=False)(x)


@pytest.mark.parametrize("scan", [False, True])
def test_each_layer_starts_and_drops_out_by_itself_and_recomputes_what_it_dropped(scan):
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    first, again = (
        Noisy(StackOptions(remat, scan)).init_with_output(rngs, jnp.ones(64))[0] for remat in (False, True)
    )
    layers = [jax.tree.map(lambda x, i=i: x[i], first) if scan else first[i] for i in range(3)]
    for values in zip(*layers, strict=True):
        assert len({tuple(map(float, value)) for value in values}) == 3
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_unknown_remat_names_the_near_miss(deep):
    with pytest.raises(ValueError, match=r"'block'; expected one of .*Did you mean 'blocks'"):
        with_config(deep, remat="block")
