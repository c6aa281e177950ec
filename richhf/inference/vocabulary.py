"""A run's SentencePiece vocabulary, without SeqIO: the same ids and texts."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import sentencepiece


class Vocabulary:
    """Text to token ids and back, as `seqio.SentencePieceVocabulary` does it.

    Attributes:
      eos_id: the end mark.
      size: number of pieces.
      digest: a checksum of the model file.
    """

    def __init__(self, model: bytes):
        """A vocabulary from the content of a SentencePiece model file.

        Raises:
          ValueError: it is something else.
        """
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ValueError(f"{len(model):,} bytes are no SentencePiece model: {error}") from error
        self.eos_id, self.size = int(self._pieces.eos_id()), int(self._pieces.GetPieceSize())
        self.digest = hashlib.sha256(model).hexdigest()

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Vocabulary":
        """A vocabulary from a model file, such as the `vocabulary.model` that training keeps in its folder.

        Raises:
          ValueError: the file is no SentencePiece model.
          OSError: it cannot be read.
        """
        model = Path(path).read_bytes()
        try:
            return cls(model)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without end mark."""
        return self._pieces.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end mark; ids that no piece has are unknown."""
        tokens, unknown = [int(i) for i in ids], self._pieces.unk_id()
        tokens = [i if i < self.size else unknown for i in tokens]
        end = tokens.index(self.eos_id) if self.eos_id in tokens else None
        return self._pieces.DecodeIds(tokens[:end])
