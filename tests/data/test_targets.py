"""Keyword targets come back as the flags that they were made of, whatever the vocabulary."""

import io
import os
import re
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

import richhf
from richhf.data import LabelMismatch, encode_target, find_marks, mark_misaligned, read_flags, split_words
from richhf.data.targets import KeywordTarget
from richhf.evaluation import flag_metrics
from richhf.inference.vocabulary import Vocabulary

T5 = Path(
    os.environ.get(
        "RICHHF_T5_VOCABULARY", Path(__file__).parents[3] / "shared/data/t5_cc_all.32000.100extra.model"
    )
)
FRAGMENTS = (
    *(
        "a cat",
        "red circle",
        "1girl",
        "masterpiece",
        "8k",
        "(best quality:1.2)",
        "[blurry]",
        "<lora:add_detail:0.8>",
    ),
    *(
        r"rem \(re:zero\)",
        "{{{epic}}}",
        "a dark forest… with mist",
        "red circle，blue star",
        "a ﬁre in a ﬂat",
    ),
    *(
        "ＡＩ art",
        "frame_0 of a cat",
        "_0",
        "a_0_0",
        "½ cup",
        "don´t",
        "it’s",
        "“quoted”",
        "naïve café",
        "e\u0301le\u0300ve",
    ),
    *(
        "красный круг",
        "赤い丸",
        "一只猫，坐着。",
        "고양이",
        "قطة سوداء",
        "חתול",
        "बिल्ली",
        "แมว",
        "🐱🐶",
        "👩‍👩‍👧",
        "C++ & C#",
    ),
    *(
        "a red\u200b circle",
        "\ufeffhi",
        "\u200e",
        "\u200b",
        "soft\u00adhyphen",
        "no\u00a0break",
        "x\u2028y",
        "tab\tline\n",
    ),
    *(
        "①②③",
        "㎏",
        "ﬀ",
        "Ω≈ç√",
        "~^_^~",
        "\\o/",
        "--ar 16:9 --v 5",
        "by greg rutkowski, trending on artstation",
    ),
    *(
        '"hello"',
        "U.S.A.",
        "3.5mm; f/1.8!",
        "?!",
        " ",
        ",",
        "\u0301",
        "İi",
        "ß",
        "﷽",
        "a▁b",
        "\x00",
        "\ue000",
        "\U0001f1e9\U0001f1ea",
    ),
)
PROMPTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), min_size=1, max_size=6
).flatmap(lambda parts: st.sampled_from((" ", ", ", "", ". ")).map(lambda joint: joint.join(parts)))


@pytest.fixture(scope="module", params=["synthetic", "t5", "bytes"])
def vocabulary(request):
    if request.param == "synthetic":
        return richhf.load_vocabulary("synthetic-tiny")
    if request.param == "bytes":
        return byte_vocabulary()
    if not T5.is_file():
        pytest.skip(f"T5's vocabulary is not at {T5}")
    return richhf.load_vocabulary(T5)


def byte_vocabulary() -> Vocabulary:
    """A small vocabulary that falls back to bytes for what it has no pieces for."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red circle_0 above a blue star"] * 50 + ["one cat", "two dogs_0"] * 50),
        model_writer=model,
        vocab_size=330,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return Vocabulary(model.getvalue())


@st.composite
def marked_prompts(draw):
    prompt = draw(PROMPTS)
    # Not by `split_words`: run-time type checks draw random numbers, which strategies must not.
    count = len([word for word in re.split(r'[,.?!":; ]', prompt) if word])
    return prompt, tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count)))


def known_to(vocabulary: Vocabulary, word: str) -> bool:
    """Whether a vocabulary has a piece for a visible character of a word, by its own pieces."""
    pieces = vocabulary._pieces
    return any(not pieces.IsUnknown(i) and pieces.IdToPiece(i) != "▁" for i in pieces.EncodeAsIds(word))


@settings(max_examples=150, deadline=None)
@given(case=marked_prompts())
@example(case=(r"rem \(re:zero\), 1girl", (False, False, True, False)))
@example(case=("a dark forest… with mist", (False, False, True, False, False)))
@example(case=("red circle，blue star", (False, True, False)))
@example(case=("a red\u200b circle", (False, True, False)))
@example(case=("frame_0 of a cat", (False, False, False, False)))
@example(case=('a日";本b c', (True, False, True)))
@example(case=("日;本 c", (True, True, False)))
@example(case=("A\u0344", (True,)))  # Normalising it twice is not normalising it once.
@example(case=("\ufb03\u0308， b", (True, False)))
@example(case=("x>?_0", (False, False)))  # With one unknown token for `>?`.
@example(case=("x>?_0", (True, False)))
@example(case=("x>?_0", (True, True)))
def test_flags_come_back_from_their_target(vocabulary, case):
    prompt, flags = case
    read = read_flags(prompt, encode_target(prompt, flags, vocabulary), vocabulary)
    assert len(read) == len(flags)
    for word, flag, back in zip(split_words(prompt), flags, read, strict=True):
        assert back is flag or (back is None and not known_to(vocabulary, word)), word


@settings(max_examples=60, deadline=None)
@given(prompts=st.lists(marked_prompts(), min_size=1, max_size=5))
def test_a_perfect_model_has_no_false_alarm_and_no_miss(vocabulary, prompts):
    texts = [prompt for prompt, _ in prompts]
    read = [read_flags(p, encode_target(p, flags, vocabulary), vocabulary) for p, flags in prompts]
    known = [
        tuple(
            flag if ok else None
            for flag, ok in zip(flags, KeywordTarget(p, vocabulary).readable, strict=True)
        )
        for p, flags in prompts
    ]
    expected = 1.0 if any(flag for row in known for flag in row) else 0.0
    assert flag_metrics(texts, read, known)["pooled"] == dict.fromkeys(
        ("precision", "recall", "f1"), expected
    )


@settings(max_examples=60, deadline=None)
@given(case=marked_prompts())
def test_a_target_that_breaks_off_decides_no_word_wrongly(vocabulary, case):
    prompt, flags = case
    target = encode_target(prompt, flags, vocabulary)[:-1]
    whole = read_flags(prompt, [*target, vocabulary.eos_id], vocabulary)
    for end in range(len(target)):
        for back, flag in zip(read_flags(prompt, target[:end], vocabulary), whole, strict=True):
            assert back in (None, flag) or not known_prefix(vocabulary, target, end)


def known_prefix(vocabulary, target, end):
    """Whether a beginning of a target is the beginning of its text too: a run of bytes may be cut."""
    return vocabulary.surface(target).startswith(vocabulary.surface(target[:end]))


@given(case=marked_prompts())
def test_marked_texts_are_read_as_targets_are(case):
    prompt, flags = case
    assert find_marks(prompt, mark_misaligned(prompt, flags)) == flags


@pytest.mark.parametrize(
    ("prompt", "flags"),
    [
        ("a yellow cat", (False, True, False)),
        ("two red squares, above a star", (False, True, True, False, False, True)),
    ],
)
def test_an_ordinary_target_is_the_marked_prompt(vocabulary, prompt, flags):
    expected = [*vocabulary.encode(mark_misaligned(prompt, flags)), vocabulary.eos_id]
    assert encode_target(prompt, flags, vocabulary) == expected
    assert vocabulary.decode(expected) == mark_misaligned(prompt, flags)


def test_no_mark_stands_alone(vocabulary):
    """An invisible character between a word and its mark would part them."""
    marked = vocabulary.surface(encode_target("a red\u200b circle", (False, True, False), vocabulary)[:-1])
    if not marked.startswith("a red\u200b"):
        assert marked == "a red_0 circle"


def test_words_that_a_vocabulary_cannot_read_are_not_covered():
    vocabulary = richhf.load_vocabulary("synthetic-tiny")
    prompt = "a \u200b star, 星 RED"
    for flag in (False, True):
        target = encode_target(prompt, (flag,) * 5, vocabulary)
        assert read_flags(prompt, target, vocabulary) == (flag, None, flag, None, None)
    assert KeywordTarget(prompt, vocabulary).readable == (True, False, True, False, False)


def test_a_prompt_of_other_words_gets_no_flags(vocabulary):
    target = encode_target("dogs everywhere", (True, True), vocabulary)
    assert read_flags("a red circle", target, vocabulary) == (None, None, None)
    assert read_flags("a red circle", [], vocabulary) == (None, None, None)
    assert read_flags("", target, vocabulary) == ()


@pytest.mark.parametrize(
    ("prompt", "text", "flags"),
    [
        ("a big red cat", "a red_0 cat", (False, None, True, False)),  # a word left out
        ("a big red cat", "a big big red cat_0", (False, False, False, True)),  # a word repeated
        ("a big red cat", "dog_0 dog_0", (None,) * 4),  # nothing of the prompt
        ("a cat and a dog", "a cat and a_0 dog", (False, False, False, True, False)),  # the second "a"
        ("frame_0 of a cat", "frame_0 of cat_0", (False, False, None, True)),
        ("frame_0 of a cat", "frame_0_0 of cat", (True, False, None, False)),
        ("frame_0 of a cat", "frme_0 of a cat", (False, False, False, False)),  # misspelt
        ("frame of a cat", "frme_0 of a cat", (True, False, False, False)),
        ("a cat", "", (None, None)),
        ("a cat", "a _0 cat", (False, False)),  # a mark of no word
    ],
)
def test_an_inexact_copy_flags_the_words_it_shares(prompt, text, flags):
    assert find_marks(prompt, text) == flags


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("a big red", (False, False, None, None)),  # a mark might have followed
        ("a big red_0", (False, False, True, None)),
        ("a big red_", (False, False, None, None)),
        ("a big red ", (False, False, False, None)),
        ("big red", (None, False, None, None)),
        ("", (None,) * 4),
    ],
)
def test_the_word_that_a_text_breaks_off_in_is_not_decided(text, flags):
    target = KeywordTarget("a big red cat", byte_vocabulary())
    assert target.read_surface(text, ended=False) == flags


def test_what_is_not_text_is_refused(vocabulary):
    with pytest.raises(ValueError, match=r"lone surrogate '\\ud800' at character 2"):
        encode_target("a \ud800", (True, False), vocabulary)


def test_a_long_prompt_with_slips_at_both_ends_is_read():
    words = [f"word{index % 400}" for index in range(1000)]
    copy = ["slip", *(f"{word}_0" for word in words[1:-1]), "slip"]
    flags = find_marks(" ".join(words), " ".join(copy))
    assert flags == (None, *[True] * 998, None)


def test_flags_must_be_as_many_as_the_words(vocabulary):
    with pytest.raises(LabelMismatch, match="3 words but 2 labels"):
        encode_target("a yellow cat", (True, False), vocabulary)


def test_tokens_are_labelled_by_their_words(vocabulary):
    prompt, flags = "a red, ﬁne  square\u200b", (False, True, False, True)
    target = KeywordTarget(prompt, vocabulary)
    labels = target.label_tokens(flags)
    assert len(labels) == len(target.segmentation.ids) == len(vocabulary.encode(prompt))
    text, end, found = target.segmentation.text, 0, {}
    for label, length in zip(labels, target.segmentation.lengths, strict=True):
        start, end = end, end + length
        for character in text[start:end].replace(" ", ""):
            found.setdefault(label, []).append(character)
    assert "".join(found[1]) == "redsquare"
    assert "".join(found[-1]) == ","
    assert "".join(found[0]) == "afine"


def test_a_vocabulary_that_is_not_there_or_damaged_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read.*vocabulary\.model in it"):
        richhf.load_vocabulary(tmp_path)
    (tmp_path / "vocabulary.model").write_bytes(b"\xff not a model")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        richhf.load_vocabulary(tmp_path)
