"""A folder of images with prompts, a vocabulary, and a stand-in for a model that is quick to compute."""

import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from richhf.data.synthetic.vocabulary import train_vocabulary
from richhf.inference.encoder import Encoder
from richhf.inference.predictor import Predictor
from richhf.inference.vocabulary import Vocabulary
from richhf.models import (
    HeatmapHeadConfig,
    RAHFConfig,
    RichFeedbackModel,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
)
from richhf.pretrained.native import NativeModel, Settings, parameter_shapes

WORDS = ("a", "red", "cat", "on", "blue", "mat")
SIDE = 8


@pytest.fixture(scope="session")
def vocabulary_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    train_vocabulary(file, [" ".join(WORDS)] * 9, [[0] * len(WORDS)] * 9, size=300)
    return file


@pytest.fixture(scope="session")
def vocabulary(vocabulary_file):
    return Vocabulary.read(vocabulary_file)


@pytest.fixture
def encoder(vocabulary):
    return Encoder(vocabulary, variant="multi_head", image_size=SIDE, prompt_length=24)


@pytest.fixture
def pictures(tmp_path):
    """Ten images of several sizes, each with its prompt in a text file; three of them cannot be used."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        height, width = rng.integers(3, 30, 2)
        path = folder / ("sub" if number % 3 == 0 else "") / f"{number}.{'jpg' if number % 2 else 'png'}"
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(path)
        path.with_suffix(".txt").write_text(" ".join(rng.permutation(WORDS)))
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:50])
    (folder / "5.txt").unlink()
    (folder / "7.jpg").write_bytes(b"")
    return folder


def predict_rows(features):
    """Feedback that depends on image and prompt, row by row."""
    image, tokens = features["image"], features["encoder_input_tokens"][:, 0]
    grey = image.astype(np.float32).mean(-1) / 255
    scores = np.stack([grey.mean((1, 2)), grey[:, 0, 0], grey[:, -1, -1], (tokens % 7).mean(1) / 7], 1)
    return {
        "scores": scores.astype(np.float32),
        "heatmaps": np.stack([grey, 1 - grey], 1),
        "keyword_tokens": tokens,
    }


@pytest.fixture
def predict():
    return predict_rows


@pytest.fixture(scope="session")
def native(vocabulary_file):
    """A tiny model of both kinds of heads for words, with random parameters."""
    config = RAHFConfig(
        vit=ViTConfig(image_size=SIDE, patch_size=4, width=8, depth=1, num_heads=2, mlp_width=8),
        t5=T5Config(
            vocab_size=300, d_model=8, num_heads=2, d_kv=4, d_ff=8, encoder_layers=1, decoder_layers=1
        ),
        heatmap_head=HeatmapHeadConfig(conv_widths=(4,), deconv_widths=(4,), residual_convs=0, final_width=4),
        score_head=ScoreHeadConfig(conv_widths=(16,), dense_widths=(16,)),
        word_head=True,
    )
    rng = np.random.default_rng(0)
    flat = {
        name: rng.normal(name.endswith("scale"), 0.5, shape).astype("f4")
        for name, shape in parameter_shapes(config).items()
    }
    return NativeModel(
        RichFeedbackModel(config, keyword_length=12),
        traverse_util.unflatten_dict(flat, sep="/"),
        vocabulary_file.read_bytes(),
        Settings(prompt_length=24, thresholds={"implausibility": 0.5, "plausibility": 0.5}),
    )


@pytest.fixture(scope="session")
def predictor(native):
    return Predictor(native)
