"""Every shipped model file, at its real size, without computing anything."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

import gin
from launch import configurables, gin_config
from richhf.models import parameter_counts
from richhf.training.partitioning import Partitioner
from richhf.training.train import initializer
from richhf.training.train_step import train_step

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = sorted(path.stem for path in (ROOT / "gin/models").glob("*.gin") if "MODEL =" in path.read_text())


@pytest.fixture(params=MODELS)
def model(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = [f"gin/models/{request.param}.gin", "gin/data/synthetic.gin", "gin/runs/train.gin"]
    flags = [*(f"--gin_file={file}" for file in files), "--gin.MODEL_DIR=x", "--gin.TRAIN_STEPS=1000"]
    gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
    yield configurables.CONFIGURABLES["models.RichFeedbackModel"]()
    gin.clear_config()


def batch_shapes(model, b=8, length=40, k=40):
    side, rows = model.config.vit.image_size, model.config.rows
    return {
        "image": ((b, side, side, 3), jnp.uint8),
        "encoder_input_tokens": ((b, rows, length), jnp.int32),
        "heatmaps": ((b, 2, side, side), jnp.uint8),
        "heatmap_weights": ((b, 2), jnp.float32),
        "scores": ((b, 4), jnp.float32),
        "score_weights": ((b, 4), jnp.float32),
        "decoder_input_tokens": ((b, k), jnp.int32),
        "decoder_target_tokens": ((b, k), jnp.int32),
        "decoder_loss_weights": ((b, k), jnp.float32),
        "word_labels": ((b, length), jnp.int32),
        "shown_tokens": ((b, length), jnp.int32),
    }


def test_whole_step_traces_and_every_axis_has_a_rule(model):
    shapes = batch_shapes(model)
    optimizer = gin.query_parameter("training.train.optimizer").scoped_configurable_fn()
    sizes, types = ({name: spec[i] for name, spec in shapes.items()} for i in (0, 1))
    _, target = initializer(model, optimizer, Partitioner(fsdp=2, model=2), sizes, types, ema_decay=0.9)
    batch = {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
    after, metrics = jax.eval_shape(
        lambda state, batch: train_step(
            state, batch, jax.random.key(0), loss_fn=model.loss_fn, optimizer=optimizer,
            num_microbatches=2, ema_decay=0.9,
        ),
        target, batch,
    )  # fmt: skip
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), target
    )
    losses = ("misalignment", "overall", "keywords", "words", "image_words")
    assert {"loss", *(f"loss/{name}" for name in losses)} <= metrics.keys()
    split = [x for x in jax.tree.leaves(target.params) if not x.sharding.is_fully_replicated]
    total = sum(x.size for x in jax.tree.leaves(target.params))
    assert sum(x.size for x in split) > 0.95 * total


def test_tiny_models_are_tiny(model):
    variables = jax.eval_shape(
        lambda: model.get_initial_variables(
            jax.random.key(0), {name: shape for name, (shape, _) in batch_shapes(model).items()}
        )
    )
    assert 0.5e6 < sum(parameter_counts(variables).values()) < 2e6
