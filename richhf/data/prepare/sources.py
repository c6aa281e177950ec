"""Recognising a source of images and prompts."""

import pathlib
from typing import Any

from richhf.data.prepare import arrow, files, images
from richhf.data.prepare.columns import Overrides, nearest
from richhf.data.prepare.folder import Folder
from richhf.data.prepare.mirror import Mirror
from richhf.data.prepare.pickapic import COLUMNS, PickAPic
from richhf.data.prepare.source import Source
from richhf.data.prepare.tables import tables_of

SOURCES = (PickAPic.name, Mirror.name, Folder.name)
_EXPECTED = {
    PickAPic.name: "Pick-a-Pic v1's parquet files",
    Mirror.name: "parquet files, or a data set saved to disk by Hugging Face `datasets`",
    None: "Pick-a-Pic v1, a mirror of RichHF-18K, or images named by uid with a table of prompts",
}


def open_source(
    path: pathlib.Path,
    *,
    name: str | None = None,
    overrides: Overrides | None = None,
    table: pathlib.Path | None = None,
) -> Source:
    """Finds out what `path` holds, by its files and the columns of the first that can be read.

    Args:
        path: a folder, or one parquet or Arrow file.
        name: of `SOURCES`; None: whatever it looks like. Tables come before images.
        overrides: columns given by the user.
        table: of uid and prompt, for a folder of images.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it holds nothing usable, or something else than `name`, or options do not fit.
        OSError: if the system cannot read it.
        ImportError: if it holds tables and pyarrow is missing.
    """
    overrides = overrides or Overrides()
    if name is not None and name not in SOURCES:
        raise ValueError(f"no source is called {name!r}{nearest(name, SOURCES)}")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a folder of images, parquet or Arrow files")
    if name == Folder.name or (name is None and table is not None):
        return Folder(path, table, overrides)
    if table is not None:
        raise ValueError(f"--table is for a folder of images (--source folder), not for --source {name}")
    root, names = tables_of(path)
    if not names:
        if name is None and files.list_files(path, images.SUFFIXES):
            return Folder(path, table, overrides)
        wanted = "parquet or Arrow file" if name else "parquet, Arrow or image file"
        raise ValueError(f"{path} holds no {wanted}; expected {_EXPECTED[name]}")
    files.refuse_pointers(root, names)
    where, schema = _first_schema(root, names)
    if name == PickAPic.name or (name is None and set(COLUMNS) <= set(schema.names)):
        if overrides.given():
            options = ", ".join(f"--{what}-column" for what in overrides.given())
            raise ValueError(f"{options}: Pick-a-Pic's columns are known; with --source mirror they are not")
        return PickAPic(root, names, schema.names, where=where)
    return Mirror(root, names, schema, overrides, where=where)


def _first_schema(root: pathlib.Path, names: list[str]) -> tuple[str, Any]:
    """The first file that can be read, and its columns and types."""
    first: Exception | None = None
    for name in names:
        try:
            return str(root / name), arrow.read_schema(root / name)
        except arrow.unreadable() as error:
            arrow.check_damage(error)
            first = first or error
    raise ValueError(f"none of the {len(names)} tables in {root} can be read; {names[0]}: {first}") from first
