"""The author's own size once: ViT-L/16 at 384 px, T5-base, six heads. Takes minutes and 10 GB."""

import dataclasses
import pathlib

import jax
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import gin
from launch import configurables, gin_config
from richhf.models import RichFeedbackModel
from tests.parity.test_rahf import (
    TOKENS,
    compare_encoder,
    compare_logits,
    compare_text,
    make_batch,
    make_pair,
    run_theirs,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config():
    """As shipped, in float32."""
    files = ("gin/models/large384_multi_head.gin", "gin/data/richhf18k.gin", "gin/runs/eval.gin")
    flags = [f"--gin_file={ROOT / file}" for file in files]
    flags += [f"--gin_search_paths={ROOT}", "--gin.MODEL_DIR=x"]
    gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
    made = configurables.CONFIGURABLES["models.RichFeedbackModel"]().config
    gin.clear_config()
    return dataclasses.replace(made, dtype="float32")


@pytest.mark.timeout(3000)
def test_whole(config, measure):
    pair = make_pair("ViT-L/384, T5-base", config)
    batch = make_batch(config, (17,))
    compare_encoder(pair, batch, measure)
    wanted = run_theirs(pair.theirs, *batch)
    compare_logits(pair, batch, wanted, measure)
    model = RichFeedbackModel(config, keyword_length=TOKENS)
    features = {"image": batch[0], "encoder_input_tokens": batch[1]}

    def decode(params, features):
        return model.predict_batch(params, features, outputs=("keywords",))

    compare_text(jax.jit(decode)(pair.params, features), wanted)
