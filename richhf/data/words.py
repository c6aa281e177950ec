"""Words of a prompt and their labels, both ways.

A prompt is split on any of `, . ? ! " : ;` and space, empty pieces dropped; the i-th label of a record
belongs to the i-th word; 0 = misaligned, 1 = aligned. The keyword target is the prompt again with the suffix
`_0` directly after each misaligned word (paper, sections 3 and 4.1).

A marked text alone does not say whether a word that ends in `_0` is marked or was written so in the prompt.
Where the prompt is at hand, `richhf.data.targets` tells the two apart.
"""

import re
from collections.abc import Sequence

from richhf.feedback import MISALIGNED_SUFFIX

DELIMITERS = ',.?!":; '

_WORD = re.compile(f"[^{re.escape(DELIMITERS)}]+")


class LabelMismatch(ValueError):
    """The prompt and its labels have different lengths; some records of RichHF-18K do.

    Attributes:
        words: number of words in the prompt.
        labels: number of labels given.
    """

    def __init__(self, prompt: str, words: int, labels: int):
        super().__init__(prompt, words, labels)
        self.prompt, self.words, self.labels = prompt, words, labels

    def __str__(self) -> str:
        return (
            f"the prompt has {self.words} words but {self.labels} labels: {self.prompt!r}. "
            "Expected one label for each word; leave this record out of the keyword target."
        )


def word_spans(prompt: str) -> tuple[tuple[int, int], ...]:
    """Returns (start, end) of each word, so that `prompt[start:end]` is the word."""
    return tuple(match.span() for match in _WORD.finditer(prompt))


def split_words(prompt: str) -> tuple[str, ...]:
    """Returns the prompt's words in order, as labels are attached to them."""
    return tuple(_WORD.findall(prompt))


def parse_labels(label: str | Sequence[int]) -> tuple[int, ...]:
    """Reads labels from a record's string (`"1 1 0 1"`) or a sequence of 0 and 1.

    Raises:
        ValueError: if a label is neither 0 nor 1.
    """
    pieces = label.split() if isinstance(label, str) else tuple(label)
    for position, piece in enumerate(pieces):
        if piece not in (("0", "1") if isinstance(label, str) else (0, 1)):
            raise ValueError(f"label {position} is {piece!r}; expected 0 (misaligned) or 1 (aligned)")
    return tuple(int(piece) for piece in pieces)


def match_labels_to_words(prompt: str, label: str | Sequence[int]) -> tuple[tuple[str, bool], ...]:
    """Pairs each word of the prompt with whether it is misaligned (label 0).

    Example: `match_labels_to_words("a yellow cat", "1 0 1")` is
    `(("a", False), ("yellow", True), ("cat", False))`.

    Raises:
        LabelMismatch: if there are not as many labels as words.
        ValueError: if a label is neither 0 nor 1.
    """
    labels, words = parse_labels(label), split_words(prompt)
    if len(words) != len(labels):
        raise LabelMismatch(prompt, len(words), len(labels))
    return tuple((word, value == 0) for word, value in zip(words, labels, strict=True))


def mark_misaligned(prompt: str, flags: Sequence[bool]) -> str:
    """Returns the prompt with `_0` directly after each flagged word; everything else is kept as it was.

    Example: `mark_misaligned("a yellow, cat", (False, True, False))` is `"a yellow_0, cat"`.

    Raises:
        LabelMismatch: if there are not as many flags as words.
    """
    spans = word_spans(prompt)
    if len(spans) != len(flags):
        raise LabelMismatch(prompt, len(spans), len(flags))
    pieces, done = [], 0
    for (_, end), flag in zip(spans, flags, strict=True):
        pieces += [prompt[done:end], MISALIGNED_SUFFIX if flag else ""]
        done = end
    return "".join([*pieces, prompt[done:]])


def read_marks(text: str) -> tuple[tuple[str, bool], ...]:
    """Reads a marked text back: each word without its suffix, and whether it had one.

    A suffix that stands alone belongs to no word and is dropped.
    """
    pairs = (
        (word.removesuffix(MISALIGNED_SUFFIX), word.endswith(MISALIGNED_SUFFIX)) for word in split_words(text)
    )
    return tuple((word, flag) for word, flag in pairs if word)


def misaligned_words(text: str) -> tuple[str, ...]:
    """Returns the marked words of a target or generated text, in order, suffix removed, repeats kept."""
    return tuple(word for word, flag in read_marks(text) if flag)
