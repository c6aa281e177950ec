import numpy as np
import pytest

from richhf.data.words import split_words
from richhf.feedback import HEATMAPS, OUTPUTS, SCORES, VARIANTS
from richhf.inference.encoder import Encoder, Example
from richhf.inference.predictions import asked_outputs, output_names, read_prediction
from tests.identity_vocabulary import IdentityVocabulary


def told(text, eos_id=1):
    """A vocabulary in which any tokens stand for one text."""
    return IdentityVocabulary(surface=lambda ids: text, eos_id=eos_id)


def test_kinds_of_outputs_are_the_models():
    assert set(output_names(("keywords", "heatmaps", "scores"))) == set(OUTPUTS)
    assert output_names(("heatmaps",)) == HEATMAPS
    with pytest.raises(ValueError, match=r"'heatmap'.*Did you mean 'heatmaps'"):
        output_names(("scores", "heatmap"))
    for nothing in ((), "scores"):
        with pytest.raises(ValueError, match="expected a tuple of some of scores, heatmaps, keywords"):
            output_names(nothing)


@pytest.mark.parametrize("outputs", [None, 5, b"scores"])
def test_what_names_no_outputs(outputs):
    with pytest.raises(ValueError, match=r"expected some of scores, heatmaps, keywords, implausibility"):
        asked_outputs(outputs)


def test_a_row_becomes_feedback():
    """The text need not be a copy of the prompt: flags are the prompt's words'."""
    example = Example(np.zeros((4, 4, 3), np.uint8), np.zeros((1, 3), np.int32), "a big red cat", (6, 9))
    prediction = {
        "scores": np.array([[0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]], np.float32),
        "heatmaps": np.random.default_rng(0).random((2, 2, 4, 4), np.float32),
        "keyword_tokens": np.array([[9, 0, 0], [5, 6, 0]]),
    }
    feedback = read_prediction(prediction, 1, example, told("a red_0 cat", eos_id=9))
    assert feedback.keywords_text == "a red_0 cat"
    assert feedback.misaligned == (False, False, True, False)
    assert feedback.words == ("a", "big", "red", "cat")
    assert feedback.uncovered_words == ("big",)
    assert list(feedback.scores) == list(SCORES)
    assert feedback.scores["overall"] == pytest.approx(0.4)
    assert {name: value.shape for name, value in feedback.heatmaps.items()} == dict.fromkeys(HEATMAPS, (6, 9))

    alone = read_prediction({"scores": prediction["scores"]}, 0, example, told(""))
    assert (alone.keywords_text, alone.misaligned, alone.heatmaps) == (None, (), {})
    assert alone.image_size == (6, 9)


@pytest.mark.parametrize(
    ("text", "ended", "words_read", "covered", "flags"),
    [
        ("a big red_0 cat", True, None, "1111", "0010"),
        ("a big red_0 cat", True, 2, "1100", "0000"),  # what it did not read it can only guess
        ("a big red", False, None, "1100", "0000"),  # a suffix might have followed
        ("a big red_0", False, None, "1110", "0010"),
        ("a big red_0 c", True, None, "1110", "0010"),
        ("dogs everywhere", True, None, "0000", "0000"),
        ("", True, None, "0000", "0000"),
    ],
)
def test_words_that_were_not_read_or_not_written_are_not_covered(text, ended, words_read, covered, flags):
    image, rows = np.zeros((4, 4, 3), np.uint8), np.zeros((1, 3), np.int32)
    example = Example(image, rows, "a big red cat", (6, 9), words_read)
    tokens = {"keyword_tokens": np.array([[5, 6, 9 if ended else 7]])}
    feedback = read_prediction(tokens, 0, example, told(text, eos_id=9))
    assert "".join(str(int(one)) for one in feedback.covered) == covered
    assert "".join(str(int(one)) for one in feedback.misaligned) == flags
    assert feedback.keywords_text == text
    unasked = read_prediction({"scores": np.zeros((1, 4))}, 0, example, told(""))
    assert unasked.covered.count(True) == (4 if words_read is None else words_read)


@pytest.mark.parametrize("variant", VARIANTS)
def test_words_that_are_read_are_in_every_row(vocabulary, variant):
    encoder = Encoder(vocabulary, variant=variant, image_size=4, prompt_length=60)
    image = np.zeros((4, 4, 3), np.uint8)
    example = encoder(image, "a red cat on a blue mat, " * 9)
    texts = [encoder.vocabulary.decode(row.tolist()).split(": ")[-1] for row in example.tokens]
    # The last word of a row may be cut.
    least = min(len(split_words(text)) for text in texts)
    assert example.words_read in (least - 1, least)
    assert 0 < example.words_read < 63
    assert encoder(image, "a red cat").words_read is None
