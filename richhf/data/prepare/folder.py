"""A folder of images named by uid, and a table of uid and prompt."""

import pathlib
from collections.abc import Iterator, Set
from typing import Any

from richhf.data.dataset_info import sha256
from richhf.data.prepare import files, images
from richhf.data.prepare.columns import Overrides, find_column
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.prompt_table import (
    best_name_column,
    check_line_breaks,
    name_columns,
    name_in,
    read_prompt_table,
)
from richhf.data.prepare.source import Item, Piece, Source
from richhf.data.prepare.uids import to_uid
from richhf.data.readers import TABLES, TextTable

_IMAGES = 64  # images of a piece


class Folder(Source):
    """Images `<uid>.png` (or another common format) anywhere under a folder.

    Attributes:
        table: the file of prompts.
        prompts: by wanted uid, once planned.
        wanted_names: the images of wanted uids, once planned.
    """

    name = "folder"

    def __init__(self, root: pathlib.Path, table: pathlib.Path | None, overrides: Overrides):
        """Finds images and table.

        Args:
            root: the folder.
            table: None: the only CSV, TSV or JSONL file under `root`.
            overrides: columns given by the user.

        Raises:
            FileNotFoundError: if there is no such folder or table.
            ValueError: if there are no images, several tables or none, or the table cannot be read.
        """
        if overrides.image is not None:
            raise ValueError("--image-column is for tables that hold images; here images are named by uid")
        self.root = root
        self.names = files.list_files(root, images.SUFFIXES)
        if not self.names:
            raise ValueError(f"{root} holds no image ({', '.join(sorted(images.SUFFIXES))})")
        self.table = table or _only_table(root)
        if not self.table.is_file():
            raise FileNotFoundError(f"{self.table} is not a file; expected a table of uid and prompt")
        self._overrides = overrides
        read, self._columns = self._read_table()
        self._form, self._remarks = read.form, read.remarks
        self.prompts: dict[str, str] = {}
        self.wanted_names: list[str] = []

    def describe(self) -> dict[str, Any]:
        """See `Source`; the table decides too, and which of its columns."""
        table: dict[str, Any] = {"name": self.table.name, "sha256": sha256(self.table), "form": self._form}
        table |= {"remarks": list(self._remarks)} if self._remarks else {}
        columns = dict(zip(("uid", "prompt"), self._columns, strict=True))
        return super().describe() | {"table": table, "columns": columns}

    def example(self) -> str:
        """See `Source`."""
        return f"found {to_uid(self.names[0])!r}, from {self.names[0]}"

    def plan(self, wanted: Set[str], note: Note) -> list[Piece]:
        """See `Source`; images of other uids are left out, and never read."""
        self.prompts = _read_prompts(*self._read_table(), wanted, note)
        self.wanted_names = [name for name in self.names if to_uid(name) in wanted]
        pieces = []
        for start in range(0, len(self.wanted_names), _IMAGES):
            part = self.wanted_names[start : start + _IMAGES]
            size = sum((self.root / name).stat().st_size for name in part)
            pieces.append(Piece("", 0, start, start + len(part), size))
        return pieces

    def files_of(self, piece: Piece) -> list[str]:
        """See `Source`."""
        return self.wanted_names[piece.start : piece.stop]

    def read(self, piece: Piece, wanted: Set[str]) -> Iterator[Item | Problem]:
        """See `Source`."""
        for name in self.files_of(piece):
            uid = to_uid(name)
            yield Item(uid, name, 0, (self.root / name).read_bytes(), self.prompts.get(uid))

    def _read_table(self) -> tuple[TextTable, tuple[str, str]]:
        """Reads the table; returns it and its columns of uids and prompts."""
        table = read_prompt_table(self.table, self._overrides)
        uids = {to_uid(name) for name in self.names}

        def is_image(text: str) -> bool:
            return to_uid(text) in uids

        candidates = name_columns(table, "uid") if self._overrides.uid is None else []
        if candidates:
            uid, _ = best_name_column(table, candidates, is_image)
        else:
            uid = find_column("uid", table.columns, self._overrides, str(self.table))
        prompt = find_column("prompt", table.columns, self._overrides, str(self.table))
        return check_line_breaks(table, uid, prompt, is_image), (uid, prompt)


def _only_table(root: pathlib.Path) -> pathlib.Path:
    tables = files.list_files(root, TABLES)
    if len(tables) != 1:
        found = f"the tables {', '.join(tables)}" if tables else "no table"
        expected = f"one of uid and prompt ({', '.join(TABLES)})"
        raise ValueError(f"{root} holds {found}; expected {expected}: name it with --table")
    return root / tables[0]


def _read_prompts(table: TextTable, columns: tuple[str, str], wanted: Set[str], note: Note) -> dict[str, str]:
    """Reads the prompts of wanted uids; of rows that disagree the first counts."""
    prompts: dict[str, str] = {}
    for row in table.rows:
        name, prompt = (row.get(column) for column in columns)
        uid, detail = to_uid(name_in(row, columns[0])), row.fault
        if not detail and not uid:
            detail = f"found {name!r:.80} as {columns[0]}; expected the name of an image"
        elif not detail and (not isinstance(prompt, str) or not prompt.strip()):
            detail = f"found {prompt!r:.80} as {columns[1]}; expected a prompt"
        elif not detail and "\0" in prompt:
            detail = f"found a null character in {prompt!r:.80}; expected text"
        elif not detail and uid in wanted and prompts.setdefault(uid, prompt) != prompt:
            detail = f"found {prompt!r:.80}; expected {prompts[uid]!r:.80} as in an earlier row"
        if detail:
            named = next((found for cell in row.cells if (found := to_uid(cell)) in wanted), "")
            note(Problem(Kind.TABLE, table.path.name, row.line, detail, uid or named))
    return prompts
