"""A model reads prompts in the form, and with the task strings, that it was trained with."""

import dataclasses
import json

import numpy as np
import pytest

from richhf.data import encode_target, split_words
from richhf.data.prompts import AUTHOR_TASK_STRINGS, PLAIN, PROMPT_FORMS, TASK_STRINGS, WORDS, row_prefixes
from richhf.feedback import AUGMENTED_PROMPT, KEYWORDS, MULTI_HEAD, OUTPUTS
from richhf.inference.encoder import Encoder
from richhf.inference.predictions import read_prediction
from richhf.inference.predictor import Predictor
from richhf.pretrained.native import CONFIG, read_model, write_model

PROMPT, CLEANED = 'a red,  cat; "on" blue\nmat.', "a red cat on blue mat"
IMAGE = np.zeros((8, 8, 3), np.uint8)
FLAGS = (False, True, False, True, True, False)


def encoder_of(vocabulary, variant=MULTI_HEAD, **settings):
    return Encoder(vocabulary, variant=variant, image_size=8, prompt_length=60, **settings)


def test_words_alone_are_what_the_model_reads(vocabulary):
    example = encoder_of(vocabulary, prompt_form=WORDS)(IMAGE, PROMPT)
    np.testing.assert_array_equal(example.tokens, encoder_of(vocabulary)(IMAGE, CLEANED).tokens)
    assert example.written == CLEANED
    assert example.prompt == PROMPT.replace("\n", " ")


@pytest.mark.parametrize("form", PROMPT_FORMS)
def test_flags_are_those_of_the_original_words(vocabulary, form):
    example = encoder_of(vocabulary, prompt_form=form)(IMAGE, PROMPT)
    target = encode_target(example.written, FLAGS, vocabulary)
    feedback = read_prediction({"keyword_tokens": np.array([target])}, 0, example, vocabulary)
    assert feedback.words == split_words(CLEANED)
    assert feedback.misaligned == FLAGS
    assert all(feedback.covered)
    assert feedback.prompt == example.prompt


def test_task_strings_stand_before_the_prompt(vocabulary):
    encoder = encoder_of(vocabulary, AUGMENTED_PROMPT, task_strings=AUTHOR_TASK_STRINGS)
    rows = encoder.encode_prompt("a red cat")
    prompt = vocabulary.encode("a red cat")
    for name, row in zip(OUTPUTS, rows.tolist(), strict=True):
        expected = [*vocabulary.encode(AUTHOR_TASK_STRINGS[name]), *prompt, vocabulary.eos_id]
        assert row[: len(expected)] == expected
    assert rows[OUTPUTS.index(KEYWORDS)].tolist()[: len(prompt)] == prompt
    assert row_prefixes(AUGMENTED_PROMPT)[0] == "implausibility heatmap: "


def test_a_predictor_follows_its_settings(native):
    settings = dataclasses.replace(native.settings, prompt_form=WORDS)
    plain, words = Predictor(native), Predictor(dataclasses.replace(native, settings=settings))
    assert words(IMAGE, PROMPT)[0].scores == plain(IMAGE, CLEANED)[0].scores
    np.testing.assert_array_equal(words.encode_prompts(PROMPT), plain.encode_prompts(CLEANED))
    assert words.identity != plain.identity


def test_a_model_folder_states_both(native, tmp_path):
    settings = dataclasses.replace(native.settings, prompt_form=WORDS, task_strings=AUTHOR_TASK_STRINGS)
    write_model(tmp_path, dataclasses.replace(native, settings=settings), card="")
    stated = json.loads((tmp_path / CONFIG).read_text())
    assert (stated["prompt_form"], stated["task_strings"]) == (WORDS, AUTHOR_TASK_STRINGS)
    assert read_model(tmp_path).settings == settings
    write_model(tmp_path, native, card="")
    stated = json.loads((tmp_path / CONFIG).read_text())
    assert (stated["prompt_form"], stated["task_strings"]) == (PLAIN, TASK_STRINGS)
    for name in ("prompt_form", "task_strings"):
        del stated[name]
    (tmp_path / CONFIG).write_text(json.dumps(stated))
    assert read_model(tmp_path).settings == native.settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("prompt_form", "clean", "prompt_form is 'clean'; expected one of plain, words"),
        ("task_strings", {"overall": "x"}, "task_strings has texts for overall; expected them for"),
        ("task_strings", ["x"], "expected a text for each output"),
    ],
)
def test_others_are_refused(native, vocabulary, tmp_path, name, value, message):
    if not isinstance(value, list):  # A wrong type that run-time type checks find first.
        with pytest.raises(ValueError, match=message):
            encoder_of(vocabulary, **{name: value})
    write_model(tmp_path, native, card="")
    stated = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(stated | {name: value}))
    with pytest.raises(ValueError, match=message):
        read_model(tmp_path)
