import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.models import T5, T5Config

CONFIG = T5Config(
    vocab_size=20,
    d_model=8,
    num_heads=2,
    d_kv=3,
    d_ff=12,
    encoder_layers=2,
    decoder_layers=2,
    relative_buckets=8,
    relative_max_distance=6,
)
V1_1 = dataclasses.replace(CONFIG, mlp="gated_gelu", tied_logits=False)


def run(module, tokens, mask, targets):
    memory = module.encode(module.embed(tokens), mask)
    return module.decode(targets, memory, mask)


TOKENS = jnp.array([[3, 4, 5, 6], [7, 8, 0, 0]])
TARGETS = jnp.array([[0, 3, 9, 4, 1], [0, 8, 8, 1, 0]])
MEMORY = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 8)), jnp.float32)


@pytest.fixture(scope="module", params=[CONFIG, V1_1], ids=["v1.0", "v1.1"])
def t5(request, random_variables):
    module = T5(request.param)
    return module, random_variables(module, TOKENS, TOKENS > 0, TARGETS, method=run)


def test_decoder_is_causal_by_gradient(t5):
    module, variables = t5

    def decode(embedded):
        return module.apply(variables, embedded, method=lambda t5, x: t5.decoder(x, MEMORY, TOKENS > 0)).sum(
            axis=(0, 2)
        )

    embedded = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 8)), jnp.float32)
    jacobian = jax.jit(jax.jacrev(decode))(embedded)
    reach = np.abs(jacobian).max(axis=(1, 3))
    assert (reach[np.triu_indices(5, 1)] == 0).all()
    assert (reach[np.tril_indices(5)] > 0).all()


def test_unseen_tokens_have_no_gradient_and_no_effect(t5):
    module, variables = t5

    @jax.jit
    def encode(embedded, mask):
        return module.apply(variables, embedded, mask, method=T5.encode)

    def seen_energy(embedded):
        return (jnp.where((TOKENS > 0)[..., None], encode(embedded, TOKENS > 0), 0.0) ** 2).sum()

    gradient = np.abs(jax.jit(jax.grad(seen_energy))(MEMORY))
    unseen = np.asarray(TOKENS == 0)
    assert (gradient[unseen] == 0).all()
    assert (gradient[~unseen] > 0).any(-1).all()
    shorter = encode(MEMORY[1:, :2], jnp.ones((1, 2), bool))
    np.testing.assert_allclose(encode(MEMORY, TOKENS > 0)[1:, :2], shorter, atol=1e-5)


def test_cached_steps_equal_teacher_forcing(t5):
    module, variables = t5
    mask = TOKENS > 0
    wanted = jax.jit(lambda: module.apply(variables, TARGETS, MEMORY, mask, method=T5.decode))()
    cache = jax.jit(lambda: module.apply(variables, MEMORY, mask, 5, method=T5.start_decoding))()
    step = jax.jit(lambda *args: module.apply(variables, *args, method=T5.decode_step))
    for position in range(5):
        logits, cache = step(TARGETS[:, position], jnp.array(position), cache)
        np.testing.assert_allclose(logits, wanted[:, position], atol=1e-5)


def test_tied_logits_are_rescaled(random_variables):
    module = T5(CONFIG)
    variables = random_variables(module, TOKENS, TOKENS > 0, TARGETS, method=run)

    def both(t5):
        memory = MEMORY, TOKENS > 0
        return t5.decoder(t5.embed(TARGETS), *memory), t5.decode(TARGETS, *memory)

    hidden, logits = jax.jit(lambda: module.apply(variables, method=both))()
    table = np.asarray(variables["params"]["embedding"]["embedding"])
    np.testing.assert_allclose(logits, np.asarray(hidden) @ table.T / np.sqrt(8), rtol=1e-4, atol=1e-5)


def test_unknown_mlp_names_the_near_miss():
    with pytest.raises(ValueError, match=r"'gated-gelu'.*Did you mean 'gated_gelu'"):
        T5Config(mlp="gated-gelu")
