"""A tiny network of both variants, and batches for it."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.feedback import VARIANTS
from richhf.models import (
    HeatmapHeadConfig,
    RAHFConfig,
    RichFeedbackModel,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
)

LENGTH, KEYWORD_LENGTH, VOCABULARY = 6, 5, 40


def make_config(variant: str, **changes) -> RAHFConfig:
    config = RAHFConfig(
        variant=variant,
        vit=ViTConfig(
            image_size=16, patch_size=4, width=16, depth=1, num_heads=2, mlp_width=24, stem_widths=(4,)
        ),
        t5=T5Config(
            vocab_size=VOCABULARY,
            d_model=16,
            num_heads=2,
            d_kv=6,
            d_ff=24,
            encoder_layers=1,
            decoder_layers=1,
        ),
        heatmap_head=HeatmapHeadConfig(conv_widths=(8,), deconv_widths=(6,), residual_convs=1, final_width=4),
        score_head=ScoreHeadConfig(conv_widths=(6,), dense_widths=(5,)),
        word_head=True,
        image_word_head=True,
    )
    return dataclasses.replace(config, **changes)


def make_batch(config: RAHFConfig, *, batch: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    side, rows = config.vit.image_size, config.rows
    lengths = rng.integers(2, LENGTH, (batch, rows, 1))
    keyword_lengths = rng.integers(2, KEYWORD_LENGTH + 1, (batch, 1))
    tokens = rng.integers(2, VOCABULARY, (batch, rows, LENGTH))
    keywords = rng.integers(2, VOCABULARY, (batch, KEYWORD_LENGTH))
    shown = np.arange(KEYWORD_LENGTH) < keyword_lengths
    prompts = np.where(np.arange(LENGTH) < lengths, tokens, 0).astype(np.int32)
    targets = np.where(shown, keywords, 0).astype(np.int32)
    labels = np.where(prompts[:, -1] > 0, rng.integers(0, 2, (batch, LENGTH)), -1)
    return {
        "image": rng.integers(0, 256, (batch, side, side, 3), dtype=np.uint8),
        "encoder_input_tokens": prompts,
        "heatmaps": rng.integers(0, 256, (batch, 2, side, side), dtype=np.uint8),
        "heatmap_weights": np.ones((batch, 2), np.float32),
        "scores": rng.uniform(size=(batch, 4)).astype(np.float32),
        "score_weights": np.ones((batch, 4), np.float32),
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": shown.astype(np.float32),
        "word_labels": labels.astype(np.int32),
        "shown_tokens": np.where(labels == 0, prompts[:, -1], 0).astype(np.int32),
    }


@pytest.fixture(scope="session", params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def model(variant) -> RichFeedbackModel:
    return RichFeedbackModel(make_config(variant), keyword_length=KEYWORD_LENGTH)


@pytest.fixture(scope="session")
def batch(model) -> dict[str, np.ndarray]:
    return make_batch(model.config)


def fill_shapes(boxed):
    """Puts random numbers of a trained network's size into shapes, biases and norm scales too."""
    rng = np.random.default_rng(0)

    def number(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        name = jax.tree_util.keystr(path)
        if "kernel" in name:
            noise *= math.prod(leaf.shape[:-1]) ** -0.5
        elif "['embedding']" not in name:
            noise = 0.1 * noise + ("scale" in name)
        return jnp.asarray(noise)

    return jax.tree_util.tree_map_with_path(number, boxed)


@pytest.fixture(scope="session")
def fill():
    return fill_shapes


@pytest.fixture(scope="session")
def random_variables():
    """Makes unboxed variables of a module without compiling its initialisation."""

    def make(module, *args, **kwargs):
        shapes = jax.eval_shape(lambda rng: module.init(rng, *args, **kwargs), jax.random.key(0))
        return fill_shapes(nn.unbox(shapes))

    return make


@pytest.fixture(scope="session")
def variables(model, batch):
    shapes = {name: value.shape for name, value in batch.items()}
    return fill_shapes(
        jax.eval_shape(lambda rng: model.get_initial_variables(rng, shapes), jax.random.key(0))
    )


@pytest.fixture(scope="session")
def fast_jit():
    """`jax.jit` that compiles in half the time, for networks whose running time does not matter."""
    return functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
