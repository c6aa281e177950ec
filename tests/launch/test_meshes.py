"""The real network, small, on one device and on eight: partitioning changes where numbers are."""

import jax
import numpy as np
import optax
import pytest

import gin
from launch import configurables, gin_config
from richhf.feedback import AUGMENTED_PROMPT, MULTI_HEAD, VARIANTS
from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_step, initializer

B, L, SIDE = 8, 12, 32
ALL = Partitioner(data=2, fsdp=2, model=2), 2
CASES = {MULTI_HEAD: [(Partitioner(fsdp=8), 1), ALL], AUGMENTED_PROMPT: [ALL]}


@pytest.fixture(params=VARIANTS)
def model(request, gin_files):
    flags = [*gin_files(f"tiny_{request.param}", "eval"), "--gin.MODEL_DIR=x"]
    gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
    yield configurables.CONFIGURABLES["models.RichFeedbackModel"]()
    gin.clear_config()


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


def two_steps(model, partitioner, num_microbatches):
    optimizer = Optimizer(optax.sgd(0.05), lambda step: 0.05)
    batch = make_batch(model.config.rows)
    shapes, types = ({k: getattr(v, field) for k, v in batch.items()} for field in ("shape", "dtype"))
    init, target = initializer(model, optimizer, partitioner, shapes, types)
    state = init(jax.random.key(0), None)
    step = compile_step(model, optimizer, partitioner, target, num_microbatches)
    for _ in range(2):
        state, metrics = step(state, partitioner.shard_batch(batch), jax.random.key(1))
    assert all(np.isfinite(metric) for metric in metrics.values()), metrics
    return jax.device_get((state.params, metrics))


def test_eight_devices_and_microbatches_agree_with_one_device(model):
    one = two_steps(model, Partitioner(num_devices=1), 1)
    for partitioner, num_microbatches in CASES[model.config.variant]:
        many = two_steps(model, partitioner, num_microbatches)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6, err_msg=str(partitioner.mesh))
