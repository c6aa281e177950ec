import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from richhf.data.words import (
    DELIMITERS,
    LabelMismatch,
    mark_misaligned,
    match_labels_to_words,
    misaligned_words,
    parse_labels,
    read_marks,
    split_words,
    word_spans,
)
from richhf.feedback import MISALIGNED_SUFFIX

CHARACTERS = st.one_of(st.sampled_from(DELIMITERS + "ab_0é猫"), st.characters(codec="utf-8"))
PROMPTS = st.text(CHARACTERS, max_size=60)


def pieces(text: str) -> list[str]:
    """The words by another road."""
    for delimiter in DELIMITERS:
        text = text.replace(delimiter, " ")
    return [piece for piece in text.split(" ") if piece]


# Without its prompt, a marked text does not tell a word that itself ends in the suffix from a marked one.
UNMARKED = PROMPTS.filter(lambda text: not any(w.endswith(MISALIGNED_SUFFIX) for w in pieces(text)))


@st.composite
def prompts_and_flags(draw, prompts=UNMARKED):
    prompt = draw(prompts)
    count = len(pieces(prompt))
    return prompt, tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count)))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a yellow cat", ("a", "yellow", "cat")),
        ('"Hi!", he said: why? a;b.c', ("Hi", "he", "said", "why", "a", "b", "c")),
        (" ,. ", ()),
        ("", ()),
        ("an (oil) painting, 4k - by van-gogh's", ("an", "(oil)", "painting", "4k", "-", "by", "van-gogh's")),
        ("tab\tand\nline", ("tab\tand\nline",)),
    ],
)
def test_only_the_listed_delimiters_split(prompt, words):
    assert split_words(prompt) == words


@given(PROMPTS)
def test_spans_are_the_words_and_leave_only_delimiters(prompt):
    spans = word_spans(prompt)
    assert tuple(prompt[start:end] for start, end in spans) == split_words(prompt) == tuple(pieces(prompt))
    rest = list(prompt)
    for start, end in spans:
        rest[start:end] = " " * (end - start)
    assert set(rest) <= set(DELIMITERS)


def test_labels_belong_to_words_in_order_and_zero_is_misaligned():
    expected = (("a", False), ("yellow", True), ("cat", False))
    assert match_labels_to_words("a yellow, cat.", "1 0 1") == expected
    assert match_labels_to_words("a yellow, cat.", [1, 0, 1]) == expected


@pytest.mark.parametrize("label", ["1 0", "1 0 1 1", ""])
def test_another_number_of_labels_is_a_mismatch_that_says_both(label):
    with pytest.raises(LabelMismatch, match="3 words but") as caught:
        match_labels_to_words("a yellow cat", label)
    assert (caught.value.words, caught.value.labels) == (3, len(label.split()))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("label", "bad"), [("1 2 1", "'2'"), ("1 x 0", "'x'"), ([1, 2], "2"), ("1,0", "'1,0'")]
)
def test_labels_are_0_or_1(label, bad):
    with pytest.raises(ValueError, match="expected 0") as caught:
        parse_labels(label)
    assert bad in str(caught.value)


def test_the_suffix_stands_directly_after_the_word():
    assert mark_misaligned('a "yellow", cat.', (False, True, True)) == 'a "yellow_0", cat_0.'


@given(prompts_and_flags())
def test_marking_then_reading_gives_back_words_and_flags(case):
    prompt, flags = case
    text = mark_misaligned(prompt, flags)
    words = split_words(prompt)
    assert read_marks(text) == tuple(zip(words, flags, strict=True))
    assert misaligned_words(text) == tuple(w for w, flag in zip(words, flags, strict=True) if flag)
    assert len(text) == len(prompt) + len(MISALIGNED_SUFFIX) * sum(flags)


@given(prompts_and_flags(PROMPTS))
def test_without_flags_nothing_changes_and_delimiters_always_stay(case):
    prompt, flags = case
    assert mark_misaligned(prompt, (False,) * len(flags)) == prompt
    delimiters = [c for c in mark_misaligned(prompt, flags) if c in DELIMITERS]
    assert delimiters == [c for c in prompt if c in DELIMITERS]


@given(prompts_and_flags(), st.integers(1, 3))
def test_the_flags_must_be_as_many_as_the_words(case, extra):
    prompt, flags = case
    with pytest.raises(LabelMismatch):
        mark_misaligned(prompt, flags + (True,) * extra)


def test_a_lone_suffix_is_no_word_and_repeats_are_kept():
    assert misaligned_words("a_0 _0 cat, a_0 a") == ("a", "a")
