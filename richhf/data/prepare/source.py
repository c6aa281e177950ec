"""What a source of images and prompts is, whatever its form."""

import abc
import dataclasses
import pathlib
from collections.abc import Iterator, Set
from typing import Any, ClassVar

from richhf.data.prepare import files
from richhf.data.prepare.problems import Note, Problem


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a source that one process reads in one go.

    Attributes:
        file: relative to the source; "" if it spans several.
        number: position of the file in the source.
        start: the first row group, image or the like.
        stop: behind the last.
        size: bytes, about, for the progress bar.
    """

    file: str
    number: int
    start: int
    stop: int
    size: int

    @property
    def key(self) -> str:
        """A name that no other piece has; it does not depend on which other files can be read."""
        return f"{self.number:06d}-{self.start:06d}"


@dataclasses.dataclass(frozen=True)
class Item:
    """One place where an image is.

    Attributes:
        uid: which image.
        file: where, relative to the source.
        index: row of the file, from 0.
        image: encoded, as found; None if there is none.
        prompt: None if there is none.
        detail: why there is no image.
    """

    uid: str
    file: str
    index: int
    image: bytes | None = dataclasses.field(repr=False)
    prompt: str | None
    detail: str = ""


class Source(abc.ABC):
    """Images and prompts by uid, read piece by piece. It can be sent to another process."""

    name: ClassVar[str]
    root: pathlib.Path
    names: list[str]
    """Its files, relative to `root`, in order."""
    next_move: ClassVar[str] = "; is it another column? Name it with --uid-column"
    """What to try where no uid is a label's."""
    repeats: ClassVar[bool] = False
    """Whether a uid belongs into several places; otherwise all but the first are a problem."""

    def describe(self) -> dict[str, Any]:
        """What decides on the records made from it, as JSON values; images go by their names and sizes."""
        return {"kind": self.name, **files.describe_files(self.root, self.names)}

    @abc.abstractmethod
    def example(self) -> str:
        """What one of its uids looks like, for an error."""

    @abc.abstractmethod
    def plan(self, wanted: Set[str], note: Note) -> list[Piece]:
        """Cuts the source into pieces, in order; files that cannot be read at all are noted."""

    @abc.abstractmethod
    def files_of(self, piece: Piece) -> list[str]:
        """The files that a piece is read from, relative to `root`."""

    @abc.abstractmethod
    def read(self, piece: Piece, wanted: Set[str]) -> Iterator[Item | Problem]:
        """Reads what a piece has of the wanted uids, in order, and what is damaged of it.

        Raises:
            OSError: if the system cannot read it; that says nothing of the files.
        """
