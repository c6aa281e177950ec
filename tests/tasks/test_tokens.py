import numpy as np
import pytest
import seqio

from richhf.data import words
from tasks.tokens import WordTokenizer, label_tokens

PROMPTS = (
    "a red square, above a star",
    "  a  red   square ,above a star.",
    "red,blue;green star",
    'a "yellow" star!',
    "a mauve rhombus, 日本",
    "",
)


@pytest.fixture(scope="module")
def vocabulary(folder):
    return seqio.SentencePieceVocabulary(str(folder / "vocabulary.model"))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_chunks_give_the_pieces_of_the_whole(vocabulary, prompt):
    tokenizer = WordTokenizer(vocabulary)
    chunks = [i for chunk in prompt.split() for i in vocabulary.encode(chunk)]
    ids, spans = tokenizer.encode(prompt)
    assert ids == list(vocabulary.encode(prompt)) == chunks
    assert len(spans) == len(ids)
    assert all(start <= end <= len(prompt) for start, end in spans)
    assert tokenizer.encode(prompt) == (ids, spans)  # from the cache


def labels_of(vocabulary, prompt, flags):
    ids, spans = WordTokenizer(vocabulary).encode(prompt)
    return ids, label_tokens(prompt, spans, flags, len(ids))


def test_each_piece_has_the_flag_of_its_word(vocabulary):
    prompt, flags = "a red square, above", (False, True, False, True)
    ids, labels = labels_of(vocabulary, prompt, flags)
    expected = []
    for chunk, flag in zip(("a", "red", "square", "above"), flags, strict=True):
        expected += [int(flag)] * len(vocabulary.encode(chunk)) + [-1] * (chunk == "square")
    assert vocabulary.decode(ids) == prompt
    np.testing.assert_array_equal(labels, expected)


def test_words_of_one_chunk_keep_their_own_flags():
    prompt = "red,blue star"
    _, labels = labels_of(seqio.ByteVocabulary(), prompt, (True, False, True))
    np.testing.assert_array_equal(labels, [1] * 3 + [-1] + [0] * 4 + [-1] + [1] * 4)


def test_a_vocabulary_that_gives_back_another_text_labels_nothing():
    class Lower(seqio.ByteVocabulary):
        def _encode(self, s):
            return super()._encode(s.lower())

    ids, spans = WordTokenizer(Lower()).encode("A B")
    assert spans is None
    assert (label_tokens("A B", spans, (True, True), len(ids)) == -1).all()


@pytest.mark.parametrize("flags", [(True, False, False, True, False, True), (False,) * 6])
def test_flags_come_back_from_the_labels(vocabulary, flags):
    prompt = PROMPTS[0]
    ids, spans = WordTokenizer(vocabulary).encode(prompt)
    labels = label_tokens(prompt, spans, flags, len(ids))
    for (start, end), flag in zip(words.word_spans(prompt), flags, strict=True):
        inside = [
            label for label, (first, last) in zip(labels, spans, strict=True) if first < end and last > start
        ]
        assert inside
        assert set(inside) == {int(flag)}
