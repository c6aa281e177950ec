"""The real network, small, on one device and on eight: partitioning changes where numbers are."""

import jax
import numpy as np
import optax
import pytest

from launch import configurables, gin_config
from richhf.feedback import AUGMENTED_PROMPT, MULTI_HEAD
from richhf.models.layers import BY_HEAD, constrain
from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_step, initializer

B, L, SIDE, STEPS = 16, 12, 32, 5
ONE = Partitioner(num_devices=1)
ALL = Partitioner(data=2, fsdp=2, model=2)
# Mesh, microbatches and what the widest matrix of a block, ("embed", "mlp"), is split into.
CASES = {
    "data": (MULTI_HEAD, Partitioner(data=8), 1, (1, 1)),
    "fsdp": (MULTI_HEAD, Partitioner(fsdp=8), 1, (8, 1)),
    "data-model": (MULTI_HEAD, Partitioner(data=2, model=4), 2, (1, 4)),
    "data-fsdp-model": (MULTI_HEAD, ALL, 4, (2, 2)),
    "augmented-prompt": (AUGMENTED_PROMPT, ALL, 2, (2, 2)),
}


@pytest.fixture
def make_model(gin_files):
    def make(variant):
        flags = [*gin_files(f"tiny_{variant}", "eval"), "--gin.MODEL_DIR=x"]
        gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
        return configurables.CONFIGURABLES["models.RichFeedbackModel"]()

    return make


def make_batch(rows):
    """Labels of unequal numbers, in some images none, as the real data has them."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 256, (B, L)).astype(np.int32)
    return {
        "image": rng.integers(0, 256, (B, SIDE, SIDE, 3)).astype(np.uint8),
        "encoder_input_tokens": np.repeat(tokens[:, None], rows, axis=1),
        "heatmaps": rng.integers(0, 256, (B, 2, SIDE, SIDE)).astype(np.uint8),
        "heatmap_weights": (rng.random((B, 2)) < 0.7).astype(np.float32),
        "scores": rng.random((B, 4)).astype(np.float32),
        "score_weights": (rng.random((B, 4)) < 0.7).astype(np.float32),
        "decoder_input_tokens": np.roll(tokens, 1, axis=1),
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": (np.arange(L) < rng.integers(0, L, (B, 1))).astype(np.float32),
        "word_labels": rng.integers(-1, 2, (B, L)).astype(np.int32),
        "shown_tokens": tokens * (rng.random((B, 1)) < 0.7),
    }


def some_steps(model, partitioner, num_microbatches):
    """The last state, the metrics of every step, and how often the step was compiled."""
    # Clipped, so that the loss falls smoothly: where it leaps about, roundings grow tenfold a step.
    transformation = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05, momentum=0.9))
    optimizer = Optimizer(transformation, lambda step: 0.05)
    batch = make_batch(model.config.rows)
    shapes, types = ({k: getattr(v, field) for k, v in batch.items()} for field in ("shape", "dtype"))
    init, target = initializer(model, optimizer, partitioner, shapes, types)
    state = init(jax.random.key(0), None)
    step = compile_step(model, optimizer, partitioner, target, num_microbatches)
    history = []
    for _ in range(STEPS):
        state, metrics = step(state, partitioner.shard_batch(batch), jax.random.key(1))
        history.append(metrics)
    assert step._cache_size() == 1, "compiled again after the first step"
    return state, jax.device_get(history)


@pytest.fixture(scope="module")
def on_one_device():
    known = {}

    def run(model):
        variant = model.config.variant
        if variant not in known:
            known[variant] = jax.device_get(some_steps(model, ONE, 1))
        return known[variant]

    return run


@pytest.mark.parametrize("case", CASES)
def test_devices_and_microbatches_agree_with_one_device(make_model, on_one_device, case):
    variant, partitioner, num_microbatches, parts = CASES[case]
    model = make_model(variant)
    one_state, one_history = on_one_device(model)
    state, history = some_steps(model, partitioner, num_microbatches)
    # The same sums in another order: after five steps within a few float32 roundings.
    for expected, found in zip(one_history, history, strict=True):
        assert expected.keys() == found.keys()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=5e-5, atol=1e-6, err_msg=name)
    for a, b in zip(jax.tree.leaves(one_state.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6)

    kernel = state.params["vit"]["block_0"]["mlp_in"]["kernel"]
    momentum = state.opt_state[1][0].trace["vit"]["block_0"]["mlp_in"]["kernel"]
    for array in (kernel, momentum):
        shapes = {shard.data.shape for shard in array.addressable_shards}
        assert shapes == {tuple(size // part for size, part in zip(kernel.shape, parts, strict=True))}


@pytest.mark.parametrize(
    ("rows", "heads", "expected"),
    [(8, 4, (("data", "fsdp"), "model", None, None)), (8, 5, (("data", "fsdp"), None, None, None)),
     (6, 4, (None, "model", None, None))],
)  # fmt: skip
def test_activations_are_split_by_the_same_rules_where_they_can_be(rows, heads, expected):
    def program(x):
        with ALL.activations():
            return constrain(x * 2, BY_HEAD)

    x = jax.device_put(np.zeros((rows, heads, 3, 2), np.float32), ALL.replicated)
    spec = jax.jit(program)(x).sharding.spec
    assert (*spec, *[None] * (4 - len(spec))) == expected
    assert constrain(x, BY_HEAD) is x
