"""Inference, which knows no TensorFlow, sees what the input pipeline sees."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from richhf import feedback
from richhf.data import records, words
from richhf.data.datasets import DatasetConfig, eval_batches
from richhf.inference.encoder import Encoder, stack_examples
from richhf.inference.vocabulary import Vocabulary
from tasks import richhf18k

PROMPTS = (
    "a red square, above a star",
    "  a  red \t square ,\n above a star. ",
    'red,blue;green "star"!?',
    "a mauve rhombus, 日本 \u200b ½ ﬁ ☃ 🦊 Ⅷ",
    "E\u0301te\u0301 ÀÉ <extra_id_0> </s> <pad> _0",
    "a red_0 square_0",
    "...",
    "a yellow star above a blue circle " * 20,
)
LENGTHS = {"image": 24, "heatmaps": 16, "inputs": 30, "targets": 30}


@pytest.fixture(scope="module")
def odd_records(prepared, tmp_path_factory):
    """Images of several sizes and formats with prompts that are hard to tokenise."""
    folder = tmp_path_factory.mktemp("odd")
    made = list(records.read_records(sorted(prepared.glob("train-*"))))
    odd = [
        dataclasses.replace(record, prompt=prompt, labels=(1,) * len(words.split_words(prompt)))
        for record, prompt in zip(made, PROMPTS * 2, strict=False)
    ]
    records.write_records(folder / "test-00000-of-00001.tfrecord", odd)
    return folder, odd


@pytest.mark.parametrize("variant", feedback.VARIANTS)
def test_features_are_those_of_the_task(odd_records, folder, vocabulary, variant):
    data_dir, odd = odd_records
    richhf18k.register(data_dir, vocabulary=vocabulary)
    cfg = DatasetConfig(f"richhf18k_{variant}", LENGTHS, "test", batch_size=len(odd))
    (batch,) = eval_batches(cfg)
    own = Vocabulary.read(folder / "vocabulary.model")
    encoder = Encoder(own, variant=variant, image_size=24, prompt_length=30)
    examples = [encoder(record.image, record.prompt) for record in odd]
    for name, values in stack_examples(examples, len(odd)).items():
        np.testing.assert_array_equal(values, batch.features[name], err_msg=name)
        assert values.dtype == batch.features[name].dtype
    assert [example.image_size for example in examples] == [r.decode_image().shape[:2] for r in odd]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_vocabulary_is_seqios(folder, vocabulary, prompt):
    own = Vocabulary.read(folder / "vocabulary.model")
    ids = own.encode(prompt)
    assert ids == list(vocabulary.encode(prompt))
    assert (own.eos_id, own.size) == (vocabulary.eos_id, vocabulary.vocab_size)
    for tokens in (ids, [*ids, own.eos_id, 5, 6], [own.size + 3, *ids, 2], []):
        assert own.decode(tokens) == vocabulary.decode(tokens)


def test_something_else_is_no_vocabulary(tmp_path):
    (tmp_path / "vocabulary.model").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"vocabulary\.model is not a SentencePiece model: These 5 bytes"):
        Vocabulary.read(tmp_path / "vocabulary.model")


def test_files_pictures_and_pixels_are_alike(odd_records, folder):
    encoder = Encoder(
        Vocabulary.read(folder / "vocabulary.model"), variant="multi_head", image_size=24, prompt_length=30
    )
    encoded = odd_records[1][1].image
    with Image.open(io.BytesIO(encoded)) as picture:
        examples = [encoder(one, "a star") for one in (encoded, picture, np.asarray(picture))]
    for example in examples[1:]:
        np.testing.assert_array_equal(example.image, examples[0].image)


def test_a_model_without_prompts_gets_none(folder, vocabulary):
    own = Vocabulary.read(folder / "vocabulary.model")
    blind = Encoder(own, variant="multi_head", image_size=8, prompt_length=6, see_prompt=False)
    image = np.zeros((8, 8, 3), np.uint8)
    assert blind(image, "a red square").tokens.tolist() == [[own.eos_id, 0, 0, 0, 0, 0]]
