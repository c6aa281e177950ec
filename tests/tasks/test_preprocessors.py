import numpy as np
import pytest
import seqio

from richhf import feedback
from richhf.data.prompts import AUTHOR_TASK_STRINGS, TASK_STRINGS, WORDS, row_prefixes
from richhf.inference.encoder import Encoder
from tasks.preprocessors import PromptEncoder
from tasks.tokens import target_vocabulary

PROMPT, LABEL = b"a red square", b"1 0 1"


@pytest.fixture(scope="module")
def encoder(vocabulary):
    features = {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}

    def make(variant, see_prompt=True, **lengths):
        return PromptEncoder(row_prefixes(variant), features, lengths, see_prompt)

    return make


def test_rows_ask_for_the_outputs_in_order(encoder, vocabulary):
    inputs, *_ = encoder(feedback.AUGMENTED_PROMPT, inputs=40, targets=40)(PROMPT, LABEL, False)
    assert inputs.shape == (7, 40)
    for row, output in zip(inputs, feedback.OUTPUTS, strict=True):
        text = f"{feedback.TASK_STRINGS[output]}: a red square"
        ids = [*vocabulary.encode(text), 1]
        np.testing.assert_array_equal(row, ids + [0] * (40 - len(ids)))


def test_the_plain_prompt_is_the_only_row_of_multi_head(encoder, vocabulary):
    inputs, labels, targets, marked, valid, shown = encoder(feedback.MULTI_HEAD, inputs=12, targets=12)(
        PROMPT, LABEL, False
    )
    ids = list(vocabulary.encode("a red square"))
    np.testing.assert_array_equal(inputs, [[*ids, 1] + [0] * (11 - len(ids))])
    assert labels.shape == (12,)
    assert vocabulary.decode(targets.tolist()) == "a red_0 square" == marked.decode()
    assert targets[-1] == 1
    assert valid
    assert vocabulary.decode(shown.tolist()) == "a square"


def test_word_labels_stand_over_the_keywords_row(encoder, vocabulary):
    plain = encoder(feedback.MULTI_HEAD, inputs=30, targets=30)(PROMPT, LABEL, False)[1]
    labels = encoder(feedback.AUGMENTED_PROMPT, inputs=30, targets=30)(PROMPT, LABEL, False)[1]
    before = len(vocabulary.encode(TASK_STRINGS[feedback.KEYWORDS]))
    assert (labels[:before] == -1).all()
    np.testing.assert_array_equal(labels[before:], plain[: 30 - before])
    assert 1 in plain
    assert 0 in plain


def test_a_cut_prompt_keeps_its_end_mark_and_trains_no_keywords(encoder):
    full = encoder(feedback.MULTI_HEAD)(PROMPT, LABEL, False)
    length = full[0].shape[1]
    fitting = encoder(feedback.MULTI_HEAD, inputs=length, targets=40)(PROMPT, LABEL, False)
    assert fitting[2].size
    cut = encoder(feedback.MULTI_HEAD, inputs=length - 1, targets=40)
    inputs, labels, targets, marked, valid, shown = cut(PROMPT, LABEL, False)
    np.testing.assert_array_equal(inputs[0], [*full[0][0, : length - 2], 1])
    np.testing.assert_array_equal(labels, [*full[1][: length - 2], -1])
    assert not targets.size
    assert valid
    assert marked == b"a red_0 square"
    assert shown.size


def test_a_target_that_does_not_fit_trains_no_keywords(encoder):
    length = len(encoder(feedback.MULTI_HEAD)(PROMPT, LABEL, False)[2])
    assert len(encoder(feedback.MULTI_HEAD, targets=length)(PROMPT, LABEL, False)[2]) == length
    assert not encoder(feedback.MULTI_HEAD, targets=length - 1)(PROMPT, LABEL, False)[2].size


def test_labels_that_do_not_fit_the_words_train_nothing(encoder):
    _, labels, targets, marked, valid, shown = encoder(feedback.MULTI_HEAD, inputs=12, targets=12)(
        PROMPT, b"1 0", False
    )
    assert (labels == -1).all()
    assert not targets.size
    assert marked == PROMPT
    assert not valid
    assert not shown.size


def test_what_is_shown_is_told_by_the_prompt_before_it_was_corrupted(encoder, vocabulary):
    encode = encoder(feedback.MULTI_HEAD, inputs=12, targets=12)
    _, labels, _, marked, _, shown = encode(b"a red heart", b"1 0 0", False, PROMPT, LABEL)
    assert marked == b"a red_0 heart_0"
    assert labels.max() == 1
    assert vocabulary.decode(shown.tolist()) == "a square"


def test_copy_target_is_the_bare_prompt_but_words_stay_labelled(encoder, vocabulary):
    _, labels, targets, marked, *_ = encoder(feedback.MULTI_HEAD, inputs=12, targets=12)(PROMPT, LABEL, True)
    assert vocabulary.decode(targets.tolist()) == "a red square"
    assert marked == b"a red_0 square"
    assert 1 in labels


def test_a_hidden_prompt_leaves_the_task_strings_and_the_target(encoder, vocabulary):
    seen = encoder(feedback.AUGMENTED_PROMPT, inputs=40, targets=40)(PROMPT, LABEL, False)
    hidden = encoder(feedback.AUGMENTED_PROMPT, see_prompt=False, inputs=40, targets=40)(PROMPT, LABEL, False)
    for row, output in zip(hidden[0], feedback.OUTPUTS, strict=True):
        ids = [*vocabulary.encode(f"{feedback.TASK_STRINGS[output]}: "), 1]
        np.testing.assert_array_equal(row, ids + [0] * (40 - len(ids)))
    assert (hidden[1] == -1).all()
    for a, b in zip(seen[2:], hidden[2:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("variant", feedback.VARIANTS)
def test_training_reads_words_alone_as_prediction_does(vocabulary, variant):
    prompt, label = 'a red,  square; "above" a star.', b"1 0 1 0 1 1"
    features = {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}
    prefixes = row_prefixes(variant, AUTHOR_TASK_STRINGS)
    encode = PromptEncoder(prefixes, features, {"inputs": 80, "targets": 40}, prompt_form=WORDS)
    inputs, _, targets, marked, valid, _ = encode(prompt.encode(), label, False)
    ours = target_vocabulary(vocabulary)
    encoder = Encoder(
        ours,
        variant=variant,
        image_size=4,
        prompt_length=80,
        prompt_form=WORDS,
        task_strings=AUTHOR_TASK_STRINGS,
    )
    np.testing.assert_array_equal(inputs, encoder.encode_prompt(prompt))
    assert ours.decode(targets.tolist()) == "a red_0 square above_0 a star"
    assert marked.decode() == 'a red_0,  square; "above_0" a star.'
    assert valid
