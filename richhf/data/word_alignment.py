"""Which word of a generated copy is which word of its original: the alignment with the fewest edits.

A language model that copies a prompt may leave a word out, repeat one, put one in or misspell it. Unlike
`difflib`, whose longest common blocks need not be an optimal alignment, fewest edits cannot give a word's
mark to another one when one edit explains the copy (but for a word beside its equal, where nobody can tell).
"""

import difflib
from collections.abc import Sequence

SIMILAR = 0.6
"""The ratio of `difflib` from which on a word may be the misspelling of another."""
_EDIT = 1.0
_UNLIKELY = 1e9


def align_words(words: Sequence[str], copies: Sequence[str]) -> tuple[int | None, ...]:
    """For each word the index of its copy, or None where it was left out.

    A word left out or put in costs 1; a misspelling the less, the more similar it is; words that are not
    similar are never taken for each other.

    Args:
        words: the original.
        copies: what was generated.
    """
    before = 0
    while before < min(len(words), len(copies)) and words[before] == copies[before]:
        before += 1
    after, most = 0, min(len(words), len(copies)) - before
    while after < most and words[-1 - after] == copies[-1 - after]:
        after += 1
    inner = _align(words[before : len(words) - after], copies[before : len(copies) - after])
    shift = len(copies) - len(words)
    return (
        *range(before),
        *(None if index is None else before + index for index in inner),
        *(index + shift for index in range(len(words) - after, len(words))),
    )


def _align(words: Sequence[str], copies: Sequence[str]) -> list[int | None]:
    # costs[i][j]: of the words from i on and the copies from j on.
    costs = [[0.0] * (len(copies) + 1) for _ in range(len(words) + 1)]
    pairs = [[_difference(word, copy) for copy in copies] for word in words]
    for i in range(len(words), -1, -1):
        for j in range(len(copies), -1, -1):
            ways = [_EDIT + costs[i + 1][j]] if i < len(words) else []
            ways += [_EDIT + costs[i][j + 1]] if j < len(copies) else []
            ways += [pairs[i][j] + costs[i + 1][j + 1]] if i < len(words) and j < len(copies) else []
            costs[i][j] = min(ways, default=0.0)
    found: list[int | None] = [None] * len(words)
    i = j = 0
    while i < len(words) and j < len(copies):
        if costs[i][j] == pairs[i][j] + costs[i + 1][j + 1]:
            found[i] = j
            i, j = i + 1, j + 1
        elif costs[i][j] == _EDIT + costs[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _difference(word: str, copy: str) -> float:
    if word == copy:
        return 0.0
    ratio = difflib.SequenceMatcher(None, word, copy, autojunk=False).ratio()
    return _EDIT * 2 * (1 - ratio) + 0.1 if ratio >= SIMILAR else _UNLIKELY
