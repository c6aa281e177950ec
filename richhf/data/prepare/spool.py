"""What has been fetched so far, a pair of files for each piece of the source, until records are made of it.

OUT/.spool/000012-000128.bin   the images of a piece, one after the other
OUT/.spool/000012-000128.json  which they are, and what was wrong; where it stands, the piece is done
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from richhf.atomic import atomic_path
from richhf.data.dataset_info import write_json, write_text
from richhf.data.prepare.images import CheckedImage
from richhf.data.prepare.problems import Problem

NAME = ".spool"


@dataclasses.dataclass(frozen=True)
class Entry:
    """An image and its prompt, both usable.

    Attributes:
        uid: of the image.
        file: where it was found, relative to the source.
        index: position in that file.
        prompt: its text.
        format: of the image as it was found.
        width: in pixels.
        height: in pixels.
        converted: whether its bytes are no longer those found.
        checksum: of the image's bytes.
        offset: of the image in the piece's file.
        length: in bytes.
        piece: key of the piece.
    """

    uid: str
    file: str
    index: int
    prompt: str
    format: str
    width: int
    height: int
    converted: bool
    checksum: str
    offset: int
    length: int
    piece: str


class PieceWriter:
    """Takes what is found in one piece."""

    def __init__(self, key: str, images: BinaryIO):
        self._key, self._images = key, images
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []

    def add(self, uid: str, file: str, index: int, prompt: str, image: CheckedImage) -> None:
        """Adds an image and its prompt, found at `index` of `file`."""
        place = (self._images.tell(), len(image.encoded), self._key)
        found = (image.format, image.width, image.height, image.converted)
        checksum = hashlib.sha256(image.encoded).hexdigest()
        self.entries.append(Entry(uid, file, index, prompt, *found, checksum, *place))
        self._images.write(image.encoded)

    def note(self, problem: Problem) -> None:
        """Adds a problem."""
        self.problems.append(problem)


@dataclasses.dataclass(frozen=True)
class Spool:
    """The folder of all pieces."""

    folder: pathlib.Path

    def is_done(self, key: str, origin: str) -> bool:
        """Whether a piece has been fetched, and from the same; see `write_piece`."""
        index = _index_file(self.folder, key)
        return index.exists() and json.loads(index.read_text(encoding="utf-8"))["origin"] == origin

    def read_piece(self, key: str) -> tuple[list[Entry], list[Problem]]:
        """What a piece that is done holds."""
        found = json.loads(_index_file(self.folder, key).read_text(encoding="utf-8"))
        return [Entry(*entry) for entry in found["entries"]], list(map(Problem.from_json, found["problems"]))

    def read_image(self, entry: Entry) -> bytes:
        """The encoded image of an entry."""
        with _image_file(self.folder, entry.piece).open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.length)

    def plan(self) -> str:
        """What `set_plan` was told; "" before."""
        return self._plan.read_text(encoding="utf-8") if self._plan.exists() else ""

    def set_plan(self, plan: str) -> None:
        """Keeps a checksum of the records that are being written."""
        write_text(self._plan, plan)

    @property
    def _plan(self) -> pathlib.Path:
        return self.folder / "plan"

    def remove(self) -> None:
        """Removes all pieces."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


@contextlib.contextmanager
def write_piece(folder: pathlib.Path, key: str, origin: str) -> Iterator[PieceWriter]:
    """Writes one piece, done at the end of the block; an exception leaves nothing of it.

    Args:
        folder: the spool's.
        key: the piece's.
        origin: tells what it is made from; a piece of another origin is written over.
    """
    # Never the images of one origin beside the index of another.
    _index_file(folder, key).unlink(missing_ok=True)
    with atomic_path(_image_file(folder, key)) as temporary, temporary.open("wb") as images:
        writer = PieceWriter(key, images)
        yield writer
    entries = [dataclasses.astuple(entry) for entry in writer.entries]
    problems = [problem.to_json() for problem in writer.problems]
    write_json(_index_file(folder, key), {"origin": origin, "entries": entries, "problems": problems})


def _image_file(folder: pathlib.Path, key: str) -> pathlib.Path:
    """The file of a piece's images."""
    return folder / f"{key}.bin"


def _index_file(folder: pathlib.Path, key: str) -> pathlib.Path:
    """The file that says what they are."""
    return folder / f"{key}.json"
