"""SeqIO's vocabularies as `richhf.data.targets` takes them."""

import itertools
from collections.abc import Sequence

import seqio

from richhf.data.targets import PAD_ID, Segmentation, TargetVocabulary
from richhf.inference.vocabulary import Vocabulary


def target_vocabulary(vocabulary: seqio.Vocabulary) -> TargetVocabulary:
    """Returns the same vocabulary in the form that keyword targets are written and read with."""
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return Vocabulary(vocabulary.sp_model)
    return ExactVocabulary(vocabulary)


class ExactVocabulary:
    """A vocabulary that gives back every text that it encodes, such as `seqio.ByteVocabulary`.

    Attributes:
        eos_id: the end mark.
    """

    def __init__(self, vocabulary: seqio.Vocabulary):
        self._vocabulary, self.eos_id = vocabulary, int(vocabulary.eos_id)

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of a text, without end mark."""
        return [int(i) for i in self._vocabulary.encode(text)]

    def segment(self, text: str) -> Segmentation:
        """Returns a text as the vocabulary sees it.

        Raises:
            ValueError: decoding the tokens gives another text.
        """
        ids = self.encode(text)
        if self.surface(ids) != text:
            raise ValueError(
                f"{type(self._vocabulary).__name__} decodes {text!r} to {self.surface(ids)!r}. Use a "
                "SentencePiece vocabulary, or one that gives back every text."
            )
        ends = [len(self.surface(ids[:count])) for count in range(len(ids) + 1)]
        lengths = [max(0, end - start) for start, end in itertools.pairwise(ends)]
        return Segmentation(ids, text, text, list(range(len(text) + 1)), lengths)

    def surface(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids."""
        return self._vocabulary.decode(list(ids))

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids up to the first end mark or padding, for people to read."""
        ends = (i for i, token in enumerate(ids) if token in (self.eos_id, PAD_ID))
        return self.surface(list(ids)[: next(ends, None)])
