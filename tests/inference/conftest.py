"""A folder of images with prompts, a vocabulary, and a stand-in for a model that is quick to compute."""

import numpy as np
import pytest
from PIL import Image

from richhf.data.synthetic.vocabulary import train_vocabulary
from richhf.inference.encoder import Encoder
from richhf.inference.vocabulary import Vocabulary

WORDS = ("a", "red", "cat", "on", "blue", "mat")
SIDE = 8


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    file = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    train_vocabulary(file, [" ".join(WORDS)] * 9, [[0] * len(WORDS)] * 9, size=300)
    return Vocabulary.read(file)


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
