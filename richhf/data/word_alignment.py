"""Which word of a generated copy is which word of its original: the alignment with the fewest edits.

A language model that copies a prompt may leave a word out, repeat one, insert one or misspell it. Unlike
`difflib`, whose longest common blocks need not be an optimal alignment, the fewest edits cannot give a word's
mark to another word when one edit explains the copy (except next to an equal word, where nobody can tell).
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from richhf.feedback import MISALIGNED_SUFFIX

SIMILAR = 0.6
"""The ratio of `difflib` from which on a word may be the misspelling of another."""
_REACH = 60
"""How many places further than the copy is longer or shorter a word may have moved."""
_EDIT = 1.0
_UNLIKELY = 1e9


class Copy(NamedTuple):
    """Where a word was copied to.

    Attributes:
        position: its index among the copies.
        marked: whether the copy has the suffix `_0` after the word.
    """

    position: int
    marked: bool


def align_words(words: Sequence[str], copies: Sequence[str]) -> tuple[Copy | None, ...]:
    """Finds the copy of each word.

    A word left out or inserted costs 1; a misspelling costs less the more similar it is; words that are not
    similar are never taken for each other.

    Args:
        words: the original. A word may itself end in `_0`.
        copies: what was generated, each word with or without a mark.

    Returns:
        For each word its copy, or None where it was left out.
    """
    before = 0
    while before < min(len(words), len(copies)) and _is_copy(words[before], copies[before]):
        before += 1
    after, most = 0, min(len(words), len(copies)) - before
    while after < most and _is_copy(words[-1 - after], copies[-1 - after]):
        after += 1
    inner = _align(words[before : len(words) - after], copies[before : len(copies) - after])
    shift = len(copies) - len(words)
    indices = (
        *range(before),
        *(None if index is None else before + index for index in inner),
        *(index + shift for index in range(len(words) - after, len(words))),
    )
    return tuple(
        None if index is None else Copy(index, _compare(word, copies[index])[1])
        for word, index in zip(words, indices, strict=True)
    )


def _is_copy(word: str, copy: str) -> bool:
    return copy == word or copy == word + MISALIGNED_SUFFIX


def _align(words: Sequence[str], copies: Sequence[str]) -> list[int | None]:
    # costs[i][j]: of the words from i on and the copies from j on.
    costs = [[0.0] * (len(copies) + 1) for _ in range(len(words) + 1)]
    known: dict[tuple[str, str], float] = {}
    pairs = [[_UNLIKELY] * len(copies) for _ in words]
    reach = abs(len(words) - len(copies)) + _REACH
    for i, word in enumerate(words):
        for j in range(max(0, i - reach), min(len(copies), i + reach + 1)):
            copy = copies[j]
            if (word, copy) not in known:
                known[word, copy] = _compare(word, copy)[0]
            pairs[i][j] = known[word, copy]
    for i in range(len(words), -1, -1):
        for j in range(len(copies), -1, -1):
            if i == len(words) or j == len(copies):
                costs[i][j] = _EDIT * (len(words) - i + len(copies) - j)
                continue
            edited = _EDIT + min(costs[i + 1][j], costs[i][j + 1])
            costs[i][j] = min(edited, pairs[i][j] + costs[i + 1][j + 1])
    indices: list[int | None] = [None] * len(words)
    i = j = 0
    while i < len(words) and j < len(copies):
        if costs[i][j] == pairs[i][j] + costs[i + 1][j + 1]:
            indices[i] = j
            i, j = i + 1, j + 1
        elif costs[i][j] == _EDIT + costs[i + 1][j]:
            i += 1
        else:
            j += 1
    return indices


def _compare(word: str, copy: str) -> tuple[float, bool]:
    """Returns the cost of taking `copy` for `word`, and whether the copy is marked."""
    plain = _difference(word, copy)
    if plain == 0 or not copy.endswith(MISALIGNED_SUFFIX):
        return plain, False
    marked = _difference(word, copy.removesuffix(MISALIGNED_SUFFIX))
    return (marked, True) if marked <= plain else (plain, False)


def _difference(word: str, copy: str) -> float:
    if word == copy:
        return 0.0
    if 2 * min(len(word), len(copy)) < SIMILAR * (len(word) + len(copy)):
        return _UNLIKELY
    matcher = difflib.SequenceMatcher(None, word, copy, autojunk=False)
    ratio = matcher.ratio() if matcher.quick_ratio() >= SIMILAR else 0.0
    return _EDIT * 2 * (1 - ratio) + 0.1 if ratio >= SIMILAR else _UNLIKELY
