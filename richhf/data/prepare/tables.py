"""Sources made of parquet or Arrow files: rows found by their uid first, images read for those alone."""

import dataclasses
import errno
import pathlib
from collections.abc import Iterator, Mapping, Set
from typing import Any

from richhf.data.prepare import arrow
from richhf.data.prepare.files import list_files
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.source import Item, Piece, Source
from richhf.data.prepare.uids import to_uid

_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Why a path that stands in a cell names no file."""


@dataclasses.dataclass(frozen=True)
class View:
    """The columns that hold one image of a row; `uid` may be a field, like `image.path`."""

    uid: str
    image: str
    prompt: str


class TableSource(Source):
    """Rows of tables, each with one image or more.

    Attributes:
        views: the images of a row.
    """

    views: tuple[View, ...]

    def example(self) -> str:
        """See `Source`."""
        name = self.views[0].uid
        for file in self.names:
            try:
                for part in arrow.read_parts(self.root / file):
                    for cell in arrow.column(part.read([name]), name):
                        return f"found {to_uid(cell_value(cell))!r}, from {file}, column {name}"
            except KeyError:
                continue
            except arrow.unreadable() as error:
                arrow.check_damage(error)
        return "found none"

    def files_of(self, piece: Piece) -> list[str]:
        """See `Source`; images that are files of their own, named in cells, are not among them."""
        return [piece.file]

    def plan(self, wanted: Set[str], note: Note) -> list[Piece]:
        """See `Source`; the wanted uids make no difference."""
        pieces = []
        needed = {name for view in self.views for name in dataclasses.astuple(view)}
        for number, name in enumerate(self.names):
            try:
                there = arrow.column_names(self.root / name)
                if missing := sorted(needed.difference(there)):
                    detail = f"found the columns {', '.join(there)}; expected also {', '.join(missing)}"
                    note(Problem(Kind.UNREADABLE, name, 0, detail))
                    continue
                pieces += [Piece(name, number, *part) for part in arrow.cut(self.root / name)]
            except arrow.unreadable() as error:
                note(unreadable_file(name, 0, error))
        return pieces

    def read(self, piece: Piece, wanted: Set[str]) -> Iterator[Item | Problem]:
        """See `Source`. Row groups without a wanted uid are left after their uid columns."""
        path, row = self.root / piece.file, 0
        parts = arrow.read_parts(path, piece.start, piece.stop)
        while True:
            try:
                part = next(parts, None)
            except arrow.unreadable() as error:
                yield unreadable_file(piece.file, row, error)
                return
            if part is None:
                return
            row = part.first_row
            try:
                yield from self._read_part(piece.file, part, wanted)
            except arrow.unreadable() as error:
                yield unreadable_file(piece.file, row, error)

    def _read_part(self, file: str, part: arrow.RowGroup | arrow.Batch, wanted: Set[str]) -> Iterator[Item]:
        uids = part.read([view.uid for view in self.views])
        matches: list[tuple[View, dict[int, str]]] = []
        for view in self.views:
            cells = enumerate(arrow.column(uids, view.uid))
            named = ((row, to_uid(cell_value(cell))) for row, cell in cells)
            if found := {row: uid for row, uid in named if uid in wanted}:
                matches.append((view, found))
        items = (item for view, found in matches for item in self._read_view(file, part, view, found))
        # One column of images after the other takes less memory than both side by side.
        yield from items if len(matches) < 2 else sorted(items, key=lambda item: item.index)

    def _read_view(
        self, file: str, part: arrow.RowGroup | arrow.Batch, view: View, uids: Mapping[int, str]
    ) -> Iterator[Item]:
        """Yields the images of the given rows (counted from the part's first), in order."""
        start, last = 0, max(uids)
        for batch in part.batches([view.image, view.prompt]):
            images, prompts = batch.column(view.image), batch.column(view.prompt)
            for row in range(start, start + batch.num_rows):
                if row in uids:
                    image, detail = self._load(file, cell_value(images[row - start]))
                    prompt = to_text(cell_value(prompts[row - start]))
                    yield Item(uids[row], file, part.first_row + row, image, prompt, detail)
            start += batch.num_rows
            if start > last:
                return

    def _load(self, file: str, value: Any) -> tuple[bytes | None, str]:
        """An image from a cell: bytes, `{bytes, path}`, or a path relative to the file or the source."""
        if isinstance(value, dict):
            value = value["bytes"] if value.get("bytes") is not None else value.get("path")
        if isinstance(value, bytes):
            return value, ""
        if not isinstance(value, str):
            return None, f"found {type(value).__name__}; expected bytes, {{bytes, path}} or a path"
        for folder in ((self.root / file).parent, self.root):
            try:
                return (folder / value).read_bytes(), ""
            except ValueError:  # a null byte in the path
                continue
            except OSError as error:
                if error.errno not in _NO_FILE:
                    raise
        return None, f"found the path {value!r}, where no file is; expected one relative to the table's file"


def cell_value(cell: Any) -> Any:
    """A cell of an Arrow table as a Python value; None for text that is not UTF-8."""
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return None


def to_text(value: object) -> str | None:
    """A cell's value as text, if it is UTF-8 text."""
    try:
        value = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return None
    return value if isinstance(value, str) else None


def unreadable_file(file: str, row: int, error: Exception) -> Problem:
    """The rows from `row` on, of the row group or the file, cannot be read.

    Raises:
        Exception: the error itself, if it is not about the file; see `arrow.check_damage`.
    """
    arrow.check_damage(error)
    detail = f"{' '.join(str(error).split()).rstrip('.')}; expected an intact file: copy it again"
    return Problem(Kind.UNREADABLE, file, row, detail)


def tables_of(path: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """The parquet and Arrow files of a folder, or the one given: (folder, names). Caches are left out."""
    if path.is_file() and path.suffix.lower() in arrow.SUFFIXES:
        return path.parent, [path.name]
    names = list_files(path, arrow.SUFFIXES)
    caches = ("cache-", "indices")  # of Hugging Face `datasets`
    return path, [name for name in names if not name.rsplit("/", 1)[-1].startswith(caches)]
