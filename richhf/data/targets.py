"""The keyword target as tokens, both ways: the one rule of training, evaluation and prediction.

The target of a prompt is the prompt again with the suffix `_0` directly after each misaligned word (paper,
section 4.1). A vocabulary does not give back every text that it encodes: SentencePiece normalises it (NFKC;
invisible characters become spaces) and writes one unknown token for whatever it has no pieces for. Flags are
therefore never searched for in decoded text. Both the prompt and the tokens are taken as the vocabulary sees
them, character by character, and compared there; every character of that form knows the word of the original
prompt that it comes from.

Two kinds of words cannot carry a mark: those that leave no visible character (such as a lone zero-width
space) and those of unknown characters alone, which a model cannot tell apart. They are never marked in a
target, and reading gives None for them.
"""

import bisect
import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from richhf.data.word_alignment import align_words
from richhf.data.words import DELIMITERS, LabelMismatch, word_spans
from richhf.feedback import MISALIGNED_SUFFIX

PAD_ID = 0
UNKNOWN = "\uffff"
"""Stands for a character, or a token, that a vocabulary has no piece for."""

_UNIT = re.compile(f"[^{re.escape(DELIMITERS)}]+")


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A text as a vocabulary sees it.

    Attributes:
        ids: the token ids, without end mark.
        text: the normalised text.
        masked: `text` with `UNKNOWN` in place of each character that is part of an unknown token.
        offsets: for each character of `text` the index of the character of the original that it comes from,
            ascending, and at the end the length of the original.
        lengths: for each token, how many characters of `text` it stands for.
    """

    ids: list[int]
    text: str
    masked: str
    offsets: list[int]
    lengths: list[int]


@runtime_checkable
class TargetVocabulary(Protocol):
    """What targets need of a vocabulary; `richhf.load_vocabulary` returns one."""

    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of a text, without end mark."""

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids up to the first end mark or padding, for people to read."""

    def segment(self, text: str) -> Segmentation:
        """Returns a text as the vocabulary sees it."""

    def surface(self, ids: Sequence[int]) -> str:
        """Returns the normalised text that tokens stand for, with `UNKNOWN` for each unknown token."""


class KeywordTarget:
    """The keyword targets of one prompt.

    Example: `KeywordTarget("a yellow cat", vocabulary).encode((False, True, False))`.

    Attributes:
        prompt: the prompt.
        segmentation: the prompt as the vocabulary sees it.
        readable: for each word of the prompt, whether the vocabulary has a piece for some of it, so that it
            can carry a mark.
    """

    def __init__(self, prompt: str, vocabulary: TargetVocabulary):
        """Prepares the targets of a prompt, whose words are those of `split_words`."""
        self.prompt, self._vocabulary = prompt, vocabulary
        self.segmentation = vocabulary.segment(prompt)
        spans = word_spans(prompt)
        starts = [start for start, _ in spans]
        readable, ends = [False] * len(spans), [-1] * len(spans)
        # The word of each character of the normalised text; None for delimiters.
        self._word_of: list[int | None] = []
        shown = self.segmentation.masked
        for index, (character, offset) in enumerate(zip(shown, self.segmentation.offsets, strict=False)):
            word = bisect.bisect_right(starts, offset) - 1
            inside = word >= 0 and offset < spans[word][1]
            self._word_of.append(word if inside else None)
            if inside and character != " ":
                ends[word] = index + 1
                readable[word] = readable[word] or character != UNKNOWN
        self.readable = tuple(readable)
        self._ends = tuple(ends)
        self._word_ending = {end: word for word, end in enumerate(ends) if end >= 0}

    def encode(self, flags: Sequence[bool]) -> list[int]:
        """Returns the target's token ids, with the end mark.

        Args:
            flags: for each word of the prompt, whether it is misaligned. Words that are not `readable` are
                not marked.

        Raises:
            LabelMismatch: there are not as many flags as words.
        """
        if len(flags) != len(self.readable):
            raise LabelMismatch(self.prompt, len(self.readable), len(flags))
        marked = zip(self._ends, flags, self.readable, strict=True)
        places = sorted(self._original_end(end) for end, flag, readable in marked if flag and readable)
        if not places:
            return [*self.segmentation.ids, self._vocabulary.eos_id]
        # In the prompt itself: normalising a normalised text may change it.
        pieces = [self.prompt[start:end] for start, end in itertools.pairwise([0, *places])]
        text = "".join(piece + MISALIGNED_SUFFIX for piece in pieces) + self.prompt[places[-1] :]
        return [*self._vocabulary.encode(text), self._vocabulary.eos_id]

    def read(self, tokens: Sequence[int]) -> tuple[bool | None, ...]:
        """Reads the flags back from a target, or from what a model wrote in its place.

        Args:
            tokens: token ids. What follows the first end mark or padding is ignored. Without either, the
                text is taken as broken off, and the word that it breaks off in is not decided.

        Returns:
            For each word of the prompt whether it is marked as misaligned; None where that is unknown: the
            vocabulary cannot read the word, or the tokens leave it out. If the tokens are not an exact copy
            of the prompt, their words are aligned with the prompt's by the fewest edits.
        """
        ids = [int(token) for token in tokens]
        end = next((i for i, token in enumerate(ids) if token in (self._vocabulary.eos_id, PAD_ID)), None)
        return self.read_surface(self._vocabulary.surface(ids[:end]), ended=end is not None)

    def read_surface(self, copy: str, *, ended: bool = True) -> tuple[bool | None, ...]:
        """Reads flags as `read` does, from the text that tokens stand for in the vocabulary.

        Args:
            copy: the text, as the vocabulary's `surface` gives it.
            ended: whether it is whole; otherwise the word that it breaks off in is not decided.
        """
        flags = self._read_exact(copy, ended)
        if flags is None:
            flags = self._read_similar(copy, ended)
        return tuple(flag if known else None for flag, known in zip(flags, self.readable, strict=True))

    def label_tokens(self, flags: Sequence[bool]) -> list[int]:
        """Labels each token of the prompt: 1 in a misaligned word, 0 in an aligned one, -1 in no word.

        A token over two words is misaligned if one of them is.

        Args:
            flags: for each word of the prompt, whether it is misaligned.
        """
        shown, labels, end = self.segmentation.text, [], 0
        for length in self.segmentation.lengths:
            start, end = end, end + length
            words = {self._word_of[i] for i in range(start, end) if shown[i] != " "} - {None}
            labels.append(max((int(flags[word]) for word in words if word is not None), default=-1))
        return labels

    def words_within(self, count: int) -> int:
        """Returns how many words of the prompt its first `count` tokens hold whole."""
        end = sum(self.segmentation.lengths[:count])
        return next((word for word, stop in enumerate(self._ends) if stop > end), len(self._ends))

    def _original_end(self, end: int) -> int:
        """Returns where in the prompt the first `end` characters of the normalised text end."""
        offsets = self.segmentation.offsets
        return next((offset for offset in offsets[end:] if offset > offsets[end - 1]), offsets[-1])

    def _read_exact(self, copy: str, ended: bool) -> list[bool | None] | None:
        """Reads a copy without any slip, as far as it goes; None if it has one."""
        # Where a mark may be that of a word or the next word itself, the other reading waits here.
        waiting: list[tuple[int, int, list[bool | None]]] = [(0, 0, [None] * len(self.readable))]
        while waiting:
            flags = self._read_from(copy, ended, *waiting.pop(), waiting)
            if flags is not None:
                return flags
        return None

    def _read_from(
        self, copy: str, ended: bool, i: int, j: int, flags: list[bool | None], waiting: list
    ) -> list[bool | None] | None:
        text = self.segmentation.masked
        while True:
            if (word := self._word_ending.get(i)) is not None:
                if copy.startswith(MISALIGNED_SUFFIX, j):
                    flags[word] = True
                    j += len(MISALIGNED_SUFFIX)
                elif ended or not MISALIGNED_SUFFIX.startswith(copy[j:]):
                    flags[word] = False
                else:  # The text breaks off where a mark may begin.
                    return flags
            if j == len(copy):
                return flags if i == len(text) or not ended else None
            if i == len(text) or copy[j] != text[i]:
                return None
            j += 1
            if text[i] != UNKNOWN:
                i += 1
                continue
            end, inner = self._end_of_unknown(i)
            if inner is not None:
                place, passed = inner
                without = [False if index == passed else flag for index, flag in enumerate(flags)]
                if copy.startswith(MISALIGNED_SUFFIX, j):
                    waiting.append((end, j, without))
                    end = place
                elif ended or not MISALIGNED_SUFFIX.startswith(copy[j:]):
                    flags = without
            i = end

    def _end_of_unknown(self, start: int) -> tuple[int, tuple[int, int] | None]:
        """Returns where a run of unknown characters ends, and the end of a readable word inside it.

        One unknown token stands for the whole run, which may reach over delimiters that are unknown too,
        unless a mark parts it. That can only be the mark of the word that the run begins in: no other word
        that ends in the run is readable.
        """
        text, end = self.segmentation.masked, start
        while end < len(text) and text[end] == UNKNOWN:
            end += 1
        for place in range(start + 1, end):
            word = self._word_ending.get(place)
            if word is not None and self.readable[word]:
                return end, (place, word)
        return end, None

    def _read_similar(self, copy: str, ended: bool) -> list[bool | None]:
        """Reads a copy with slips: aligns its pieces between delimiters with those of the prompt."""
        units = self._units()
        copies = [match.group() for match in _UNIT.finditer(copy)]
        if MISALIGNED_SUFFIX not in (unit for unit, _ in units):
            copies = [unit for unit in copies if unit != MISALIGNED_SUFFIX]
        unfinished = len(copies) - 1 if not ended and _UNIT.match(copy[-1:]) else None
        flags: list[bool | None] = [None] * len(self.readable)
        for (_, word), place in zip(units, align_words([unit for unit, _ in units], copies), strict=True):
            found = place and (True if place.marked else None if place.position == unfinished else False)
            # A word of several pieces is marked by any of them, and otherwise decided by its last.
            flags[word] = flags[word] or found
        return flags

    def _units(self) -> list[tuple[str, int]]:
        """Returns the prompt's pieces between delimiters and spaces, and the word that each belongs to."""
        text, units = self.segmentation.masked, []
        for match in _UNIT.finditer(text):
            words = ((self._word_of[i], i) for i in range(*match.span()))
            for word, group in itertools.groupby(words, key=lambda pair: pair[0]):
                if word is not None:
                    units.append(("".join(text[i] for _, i in group), word))
        return units


def encode_target(prompt: str, flags: Sequence[bool], vocabulary: TargetVocabulary) -> list[int]:
    """Returns the keyword target of a prompt as the model is trained on it.

    Args:
        prompt: the prompt.
        flags: for each of its words (`split_words`), whether it is misaligned.
        vocabulary: the model's; see `richhf.load_vocabulary`.

    Returns:
        Token ids, the end mark included. `read_flags` gives the flags back.

    Raises:
        LabelMismatch: there are not as many flags as words.
    """
    return KeywordTarget(prompt, vocabulary).encode(flags)


def read_flags(prompt: str, tokens: Sequence[int], vocabulary: TargetVocabulary) -> tuple[bool | None, ...]:
    """Reads which words of a prompt a keyword sequence marks as misaligned.

    Args:
        prompt: the prompt that the sequence was written for.
        tokens: token ids, as a model decodes them or `encode_target` gives them; what follows the end mark
            is ignored.
        vocabulary: the model's.

    Returns:
        For each word of the prompt True (misaligned), False (aligned) or None (uncovered: the vocabulary
        cannot read the word, or the sequence leaves it out).
    """
    return KeywordTarget(prompt, vocabulary).read(tokens)


def find_marks(prompt: str, text: str) -> tuple[bool | None, ...]:
    """Reads which words of a prompt a marked text marks as misaligned.

    This is for texts that were never tokens, such as labels. What a model wrote is read by `read_flags`.

    Args:
        prompt: the prompt.
        text: the prompt again with `_0` directly after each misaligned word; it need not be an exact copy.

    Returns:
        For each word of the prompt whether it is marked; None where the text leaves it out.
    """
    return KeywordTarget(prompt, _Characters()).read_surface(text)


class _Characters:
    """A vocabulary of characters, which changes nothing."""

    eos_id = 1

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def segment(self, text: str) -> Segmentation:
        return Segmentation(self.encode(text), text, text, [*range(len(text) + 1)], [1] * len(text))

    def surface(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    decode = surface
