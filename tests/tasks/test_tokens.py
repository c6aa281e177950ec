import pytest
import seqio

from richhf.data.targets import KeywordTarget
from richhf.inference.vocabulary import Vocabulary
from tasks.tokens import ExactVocabulary, target_vocabulary

PROMPTS = (
    "a red square, above a star",
    "  a  red   square ,above a star.",
    "red,blue;green star",
    'a "yellow" star!',
    "a mauve rhombus, 日本",
    "a red\u200b \ufb01ne star…",
    "",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_tokens_are_those_of_seqio(vocabulary, prompt):
    ours = target_vocabulary(vocabulary)
    assert isinstance(ours, Vocabulary)
    assert ours.encode(prompt) == list(vocabulary.encode(prompt)) == ours.segment(prompt).ids
    assert ours.eos_id == vocabulary.eos_id
    assert ours.decode(ours.encode(prompt)) == vocabulary.decode(ours.encode(prompt))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_vocabulary_of_bytes_reads_flags_too(prompt):
    ours = target_vocabulary(seqio.ByteVocabulary())
    assert isinstance(ours, ExactVocabulary)
    target = KeywordTarget(prompt, ours)
    flags = tuple(index % 2 == 0 for index in range(len(target.readable)))
    assert target.read(target.encode(flags)) == flags


def test_words_of_one_chunk_keep_their_own_flags():
    target = KeywordTarget("red,blue star", target_vocabulary(seqio.ByteVocabulary()))
    assert target.label_tokens((True, False, True)) == [1] * 3 + [-1] + [0] * 4 + [-1] + [1] * 4


def test_a_vocabulary_that_gives_back_another_text_is_refused():
    class Lower(seqio.ByteVocabulary):
        def _encode(self, s):
            return super()._encode(s.lower())

    with pytest.raises(ValueError, match="Lower decodes 'A B' to 'a b'"):
        KeywordTarget("A B", target_vocabulary(Lower()))
