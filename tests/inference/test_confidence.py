import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from richhf.data.targets import KeywordTarget
from richhf.data.words import mark_misaligned
from richhf.inference.confidence import NOWHERE, confidences_of, suffix_probabilities, word_choices
from tests.identity_vocabulary import IdentityVocabulary

EOS = 1
PIECES = ("a", "red", "cat", "_", "0", "_0", "red_0", ",", " ")


def in_pieces(*multiple):
    """A vocabulary that takes the longest of its pieces first."""
    pieces = [piece for piece in PIECES if len(piece) == 1 or piece in ("red", "cat", *multiple)]
    pieces.sort(key=len, reverse=True)

    def encode(text):
        ids = []
        while text:
            piece = next(piece for piece in pieces if text.startswith(piece))
            ids.append(2 + PIECES.index(piece))
            text = text[len(piece) :]
        return ids

    return encode


def target_of(prompt, encode):
    return KeywordTarget(prompt, IdentityVocabulary(encode, eos_id=EOS))


@pytest.mark.parametrize("encode", [in_pieces(), in_pieces("_0"), in_pieces("_0", "red_0")])
@given(
    words=st.lists(st.sampled_from(["a", "red", "cat"]), min_size=1, max_size=5),
    comma=st.booleans(),
    data=st.data(),
)
def test_two_texts_part_where_the_decoder_decides_on_a_word(encode, words, comma, data):
    prompt = (", " if comma else " ").join(words)
    flags = [data.draw(st.booleans()) for _ in words]
    choices = word_choices(target_of(prompt, encode), flags, length=60)
    decided = [*encode(mark_misaligned(prompt, flags)), EOS]
    assert list(choices.inputs[1 : len(decided) + 1]) == decided
    assert choices.inputs[0] == 0
    assert list(choices.places[len(words) :]) == [NOWHERE] * (60 - len(words))
    for word, flag in enumerate(flags):
        place = choices.places[word]
        for mark, token in ((True, choices.marked[word]), (False, choices.plain[word])):
            text = mark_misaligned(prompt, [mark if i == word else other for i, other in enumerate(flags)])
            target = [*encode(text), EOS]
            assert target[:place] == decided[:place]
            assert target[place] == token
        assert choices.marked[word] != choices.plain[word]
        assert (choices.marked if flag else choices.plain)[word] == decided[place]


def test_words_beyond_the_length_are_nowhere():
    choices = word_choices(target_of("a red cat", in_pieces("_0")), [False] * 3, length=3)
    assert list(choices.inputs) == [0, *in_pieces()("a ")]
    assert [place != NOWHERE for place in choices.places] == [True, False, False]
    assert confidences_of(5, np.array([0, 2, NOWHERE]), np.array([0.5, 0.25, 0.0])) == (
        *(0.5, 0.25),
        *(None, None, None),
    )
    assert confidences_of(1, np.array([0, NOWHERE]), np.array([0.5, 0.0])) == (0.5,)


def test_words_that_were_not_read_are_nowhere():
    choices = word_choices(target_of("a red cat", in_pieces("_0")), [False] * 3, length=9, words_read=2)
    assert [place != NOWHERE for place in choices.places[:3]] == [True, True, False]


def test_a_confidence_is_the_share_of_the_marked_token_among_the_two():
    logits = np.random.default_rng(0).normal(size=(2, 3, 9)).astype(np.float32)
    places = np.array([[0, 2, NOWHERE], [1, 1, 2]], np.int32)
    marked = np.array([[4, 5, 0], [3, 7, 8]], np.int32)
    plain = np.array([[2, 3, 0], [8, 1, 0]], np.int32)
    found = suffix_probabilities(jnp.asarray(logits), tuple(map(jnp.asarray, (places, marked, plain))))
    odds = np.exp(logits)
    for row in range(2):
        for word in range(3):
            place = places[row, word]
            a, b = odds[row, place, marked[row, word]], odds[row, place, plain[row, word]]
            assert float(found[row, word]) == pytest.approx(
                0.0 if place == NOWHERE else a / (a + b), abs=1e-6
            )
