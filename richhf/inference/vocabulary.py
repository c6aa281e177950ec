"""A SentencePiece vocabulary without SeqIO: the same ids and texts."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from richhf.data.targets import PAD_ID, UNKNOWN, Segmentation

_SPACE = "\u2581"  # how SentencePiece writes a space


class Vocabulary:
    """Text to token ids and back, as `seqio.SentencePieceVocabulary` does it.

    Example: `richhf.load_vocabulary("vocabulary.model").encode("a red cat")`.

    Attributes:
        eos_id: the end mark.
        size: number of pieces.
        digest: the SHA-256 checksum of the model file.
    """

    def __init__(self, model: bytes):
        """Reads the content of a SentencePiece model file.

        Raises:
            ValueError: the content is not a SentencePiece model.
        """
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ValueError(f"These {len(model):,} bytes are not a SentencePiece model: {error}") from error
        self.eos_id, self.size = int(self._pieces.eos_id()), int(self._pieces.GetPieceSize())
        self.digest = hashlib.sha256(model).hexdigest()
        self._adds_space = self._pieces.Normalize("a").startswith(_SPACE)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Vocabulary":
        """Reads a model file, such as the `vocabulary.model` that training keeps in its folder.

        Raises:
            ValueError: the file is not a SentencePiece model.
            OSError: the file cannot be read.
        """
        model = Path(path).read_bytes()
        try:
            return cls(model)
        except ValueError as error:
            raise ValueError(f"{path} is not a SentencePiece model: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of a text, without end mark.

        Raises:
            ValueError: the text has half of a surrogate pair, which is not a character.
            TypeError: it is not a string.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"A text has the lone surrogate {text[error.start]!r} at character {error.start}, which is "
                "not a character. Decode the text again with its right encoding."
            ) from error
        except AttributeError:
            raise TypeError(f"A text is {type(text).__name__}; expected a string.") from None
        return self._pieces.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of token ids up to the first end mark or padding, for people to read.

        Ids beyond the vocabulary are unknown.
        """
        ends = (self.eos_id, PAD_ID)
        return self._pieces.DecodeIds(self._known(itertools.takewhile(lambda i: i not in ends, ids)))

    def segment(self, text: str) -> Segmentation:
        """Returns a text as the vocabulary sees it; see `Segmentation`.

        The space that SentencePiece puts before a text is left out.
        """
        ids = self.encode(text)
        normalised, offsets = self._pieces.Normalize(text, with_offsets=True)
        pieces = self._pieces.EncodeAsPieces(text)
        if any(map(self._pieces.IsByte, ids)):
            pieces = _join_bytes(pieces, [self._pieces.IsByte(i) for i in ids])
        unknown = self._pieces.unk_id()
        masked = "".join(
            UNKNOWN * len(piece) if i == unknown else piece for i, piece in zip(ids, pieces, strict=True)
        )
        lengths = [len(piece) for piece in pieces]
        if self._adds_space and normalised.startswith(_SPACE):
            normalised, masked, offsets = normalised[1:], masked[1:], offsets[1:]
            lengths[0] -= 1
        return Segmentation(
            ids=ids,
            text=normalised.replace(_SPACE, " "),
            masked=masked.replace(_SPACE, " "),
            offsets=list(offsets),
            lengths=lengths,
        )

    def surface(self, ids: Sequence[int]) -> str:
        """Returns the normalised text that tokens stand for, with `UNKNOWN` for each unknown token."""
        known = self._known(ids)
        is_byte = [self._pieces.IsByte(i) for i in known]
        pieces = [
            UNKNOWN
            if self._pieces.IsUnknown(i)
            else ""
            if self._pieces.IsControl(i)
            else self._pieces.IdToPiece(i)
            for i in known
        ]
        text = "".join(_join_bytes(pieces, is_byte) if any(is_byte) else pieces).replace(_SPACE, " ")
        return text[1:] if self._adds_space and text.startswith(" ") else text

    def _known(self, ids: Iterable[int]) -> list[int]:
        return [i if 0 <= i < self.size else self._pieces.unk_id() for i in map(int, ids)]


def _join_bytes(pieces: Sequence[str], is_byte: Sequence[bool]) -> list[str]:
    """Returns pieces with each run of byte pieces (`<0xE7>`) decoded, its text at the run's last piece."""
    joined, run = [], bytearray()
    for index, (piece, byte) in enumerate(zip(pieces, is_byte, strict=True)):
        if not byte:
            joined.append(piece)
            continue
        run.append(int(piece[3:5], 16))
        last = index + 1 == len(pieces) or not is_byte[index + 1]
        joined.append(run.decode("utf-8", errors="replace") if last else "")
        if last:
            run.clear()
    return joined
