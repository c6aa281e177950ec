"""A folder of images named by uid, and a table of uid and prompt."""

import pathlib
from collections.abc import Iterator, Set
from typing import Any

from richhf.data.dataset_info import sha256
from richhf.data.prepare import files, images
from richhf.data.prepare.columns import Overrides, find_column
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.source import Item, Piece, Source
from richhf.data.prepare.text_tables import TABLES, column_names, read_lines
from richhf.data.prepare.uids import to_uid

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
            ValueError: if there are no images, or several tables or none.
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
        self._columns = _columns_of(self.table, overrides)
        self.prompts: dict[str, str] = {}
        self.wanted_names: list[str] = []

    def describe(self) -> dict[str, Any]:
        """See `Source`; the table decides too, and which of its columns."""
        table = {"name": self.table.name, "sha256": sha256(self.table)}
        columns = dict(zip(("uid", "prompt"), self._columns, strict=True))
        return super().describe() | {"table": table, "columns": columns}

    def example(self) -> str:
        """See `Source`."""
        return f"found {to_uid(self.names[0])!r}, from {self.names[0]}"

    def plan(self, wanted: Set[str], note: Note) -> list[Piece]:
        """See `Source`; images of other uids are left out, and never read."""
        self.prompts = _read_prompts(self.table, self._columns, wanted, note)
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


def _only_table(root: pathlib.Path) -> pathlib.Path:
    tables = files.list_files(root, TABLES)
    if len(tables) != 1:
        found = f"the tables {', '.join(tables)}" if tables else "no table"
        expected = f"one of uid and prompt ({', '.join(TABLES)})"
        raise ValueError(f"{root} holds {found}; expected {expected}: name it with --table")
    return root / tables[0]


def _columns_of(table: pathlib.Path, overrides: Overrides) -> tuple[str, str]:
    there = column_names(table)
    uid, prompt = (find_column(what, there, overrides, str(table)) for what in ("uid", "prompt"))
    return uid, prompt


def _read_prompts(
    table: pathlib.Path, columns: tuple[str, str], wanted: Set[str], note: Note
) -> dict[str, str]:
    """Reads the prompts of wanted uids; of lines that disagree the first counts."""
    prompts: dict[str, str] = {}
    for index, row in read_lines(table):
        uid, prompt = (row.get(name) if isinstance(row, dict) else None for name in columns)
        uid = to_uid(uid)
        if not uid or not isinstance(prompt, str) or not prompt.strip():
            found = f"found {row!r:.80}"
            note(Problem(Kind.TABLE, table.name, index, f"{found}; expected {' and '.join(columns)}", uid))
        elif uid in wanted and prompts.setdefault(uid, prompt) != prompt:
            detail = f"found {prompt!r:.80}; expected {prompts[uid]!r:.80} as in an earlier line"
            note(Problem(Kind.TABLE, table.name, index, detail, uid))
    return prompts
