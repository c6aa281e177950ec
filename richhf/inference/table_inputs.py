"""Inputs from a table of prompts: each row is an input, or is listed with what is wrong with it.

A row that cannot be used is a failed input of its own. If it names an image of a folder, that image fails
instead, and its failure names the row's line.
"""

import dataclasses
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from richhf.data.prepare.columns import LIKELY, Overrides, find_column
from richhf.data.prepare.problems import Kind
from richhf.data.prepare.prompt_table import (
    best_name_column,
    check_line_breaks,
    name_columns,
    name_in,
    read_prompt_table,
)
from richhf.data.prepare.uids import to_uid
from richhf.data.readers import Row, TextTable
from richhf.inference.inputs import Failure, Input, checked_prompt, file_input

Note = Callable[[str], Any] | None

_Rank = tuple[bool, int, bool]
"""How well a row fits an image: the exact path, the number of folders shared, the whole file name."""
_PATHS = (
    *("image_path", "img_path", "file_path", "filepath", "path", "file_name", "filename", "image_file"),
    *("image_filename", "image_name", "file"),
)
"""Columns that usually hold paths of images, after those of `LIKELY`."""


def table_inputs(path: Path, columns: Overrides, note: Note = None) -> Iterator[Input]:
    """Lists the rows of a table of image paths and prompts.

    Args:
        path: the table; paths of images are relative to its folder.
        columns: those that are given by the user.
        note: called with how the table was read.

    Yields:
        an input for each row, in order.

    Raises:
        ValueError: if the table cannot be read, or lacks a column.
    """
    table = read_prompt_table(path, columns)
    prompt_column = find_column("prompt", table.columns, columns, str(path), "PROMPT_COLUMN")

    def is_image(text: str) -> bool:
        return _is_file(_locate(path.parent, text)[1])

    image_column, _ = _image_column(table, columns, prompt_column, is_image)
    id_column = next((name for name in table.columns if name.lower() in ("id", "uid", "key")), None)
    if columns.uid is not None:
        id_column = find_column("uid", table.columns, columns, str(path), "ID_COLUMN")
    table = check_line_breaks(table, image_column, prompt_column, is_image)
    _describe(table, {"image": image_column, "prompt": prompt_column, "id": id_column}, note)
    for row in table.rows:
        name, image = _locate(path.parent, name_in(row, image_column))
        if row.fault or not name:
            value = row.get(image_column)
            yield _failed(table, row, row.fault or f"found {value!r:.80} as {image_column}; expected a path")
            continue
        label = name_in(row, id_column).strip() if id_column else ""
        one = file_input(name, image, row.get(prompt_column), label)
        yield _placed(one, table, row)


def folder_inputs(
    root: Path, names: Sequence[str], path: Path, columns: Overrides, note: Note = None
) -> Iterator[Input]:
    """Lists the images of a folder with their prompts in a table, and the rows that cannot be used.

    A row with the path of an image, relative to the folder, is about that image alone. Any other row is about
    the images whose path ends in the row's path or ends the row's path, in whole components; the extension
    may be missing or another one. Of several rows about one image, the one that shares the most of its path
    counts. An image fails if rows with different prompts fit it equally well.

    Args:
        root: the folder.
        names: its images, relative to it.
        path: the table.
        columns: those that are given by the user.
        note: called with how the table was read, and with rows that are not used.

    Yields:
        an input for each image, in order, then one for each faulty row that names none of them.

    Raises:
        ValueError: if the table cannot be read, lacks a column or names no image.
    """
    table = read_prompt_table(path, columns)
    prompt_column = find_column("prompt", table.columns, columns, str(path), "PROMPT_COLUMN")
    images = _Images(root, names)

    def is_image(text: str) -> bool:
        return bool(images.named_by(text))

    column, named = _image_column(table, columns, prompt_column, is_image)
    usable = [row for row in table.rows if not row.fault]
    if not named and (usable or not table.rows):
        found = f"{usable[0].get(column)!r:.80}" if usable else "no line"
        raise ValueError(
            f"no line of {path} names an image of {root}: found {found} as {column}, but images such as "
            f"{names[0]!r}. Name the column with IMAGE_COLUMN, or another table as TABLE."
        )
    table = check_line_breaks(table, column, prompt_column, is_image)
    _describe(table, {"image": column, "prompt": prompt_column}, note)
    rows_of: dict[str, list[tuple[_Rank, Row]]] = {}
    unlisted: dict[int, Row] = {}
    strangers = []
    for row in table.rows:
        cells = row.cells if row.fault else (name_in(row, column),)
        ranks = next(filter(None, map(images.named_by, cells)), {})
        if row.fault:
            unlisted[row.line] = row
        elif not cells[0].strip():
            fault = f"found {row.get(column)!r:.80} as {column}; expected the name of an image"
            unlisted[row.line] = dataclasses.replace(row, fault=fault)
        elif not ranks:
            strangers.append(row)
        for name, rank in ranks.items():
            rows_of.setdefault(name, []).append((rank, row))
    inputs, used = [], set[int]()
    unused: dict[int, Row] = {}
    for name in names:
        ranked = rows_of.get(name, [])
        best = max((rank for rank, _ in ranked), default=None)
        fitting = [row for rank, row in ranked if rank == best]
        one = _with_prompt(table, file_input(name, root / name, None), fitting, prompt_column)
        if fitting and all(row.fault for row in fitting):
            unlisted.pop(fitting[0].line, None)
        if one.failure is None:
            others = [
                row
                for _, row in ranked
                if not row.fault and _prompt(row, prompt_column) != one.prompt.strip()
            ]
            unused |= {row.line: row for row in others}
            used |= {row.line for row in fitting if _prompt(row, prompt_column) == one.prompt.strip()}
        inputs.append(one)
    _note_unused(table, root, strangers, [unused[line] for line in sorted(unused.keys() - used)], note)
    yield from inputs
    for row in unlisted.values():
        yield _failed(table, row, row.fault)


class _Images:
    """The images of a folder, by how the rows of a table may name them."""

    def __init__(self, root: Path, names: Sequence[str]):
        self._names = frozenset(names)
        self._folder = _parts(str(root.absolute()))
        self._depth = max(name.count("/") for name in names) + 1
        # By whether the extension is part of the key, and by path.
        self._whole: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
        self._endings: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
        for name in names:
            for full, parts in _forms(name):
                self._whole.setdefault((full, parts), []).append(name)
                for start in range(len(parts)):
                    self._endings.setdefault((full, parts[start:]), []).append(name)

    def named_by(self, text: str) -> dict[str, _Rank]:
        """Returns the images that a text names, each with how well the text fits it."""
        exact = next((spelling for spelling in _spellings(text) if spelling in self._names), None)
        if exact is not None:
            return {exact: (True, 0, True)}
        for full, parts in _forms(text):
            starts = range(max(1, len(parts) - self._depth), len(parts))
            shorter = (self._whole.get((full, parts[start:])) for start in starts)
            named = self._endings.get((full, parts)) or next(filter(None, shorter), [])
            if named:
                return {name: (False, self._shared(parts[:-1], name), full) for name in named}
        return {}

    def _shared(self, parents: tuple[str, ...], name: str) -> int:
        """Counts the folders, from the last, that a path shares with an image's absolute path."""
        folders = zip(reversed(parents), reversed((*self._folder, *_parts(name)[:-1])), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], folders))


def _parts(text: str) -> tuple[str, ...]:
    """Splits a path into components, written in one way."""
    clean = unicodedata.normalize("NFC", text.strip().replace("\\", "/"))
    return tuple(part for part in clean.split("/") if part not in ("", "."))


def _forms(text: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Yields a path's components, with (True) and without (False) the extension."""
    if parts := _parts(text):
        yield True, parts
        yield False, (*parts[:-1], to_uid(parts[-1]))


def _image_column(
    table: TextTable, columns: Overrides, prompt_column: str, is_image: Callable[[str], bool]
) -> tuple[str, int]:
    """Finds the column that names images; returns it and how many rows name an image by it.

    Columns that usually hold paths come first. If none of them names an image, all columns are tried.
    """
    if columns.image is not None:
        given = find_column("image", table.columns, columns, str(table.path), "IMAGE_COLUMN")
        return best_name_column(table, [given], is_image)
    by_name = {name.lower(): name for name in table.columns if name != prompt_column}
    paths = [by_name[name] for name in dict.fromkeys((*LIKELY["image"], *_PATHS)) if name in by_name]
    uids = [name for name in name_columns(table) if name not in (*paths, prompt_column)]
    others = [name for name in by_name.values() if name not in (*paths, *uids)]
    for candidates in (paths, others + uids):
        if candidates:
            column, named = best_name_column(table, candidates, is_image)
            if named:
                return column, named
    if paths or uids:
        return (paths + uids)[0], 0
    return find_column("image", table.columns, columns, str(table.path), "IMAGE_COLUMN"), 0


def _describe(table: TextTable, columns: dict[str, str | None], note: Note) -> None:
    """Notes how a table was read, in one line, and then what looks odd."""
    if note is None:
        return
    listed = ", ".join(f"{what} in column {name!r}" for what, name in columns.items() if name)
    faulty = sum(bool(row.fault) for row in table.rows)
    count = f"{_rows(len(table.rows))}{f', {faulty:,} of them faulty' if faulty else ''}"
    note(f"{table.path}: {table.form}; {listed}; {count}")
    for remark in table.remarks:
        note(f"{table.path}: {remark}")


def _note_unused(
    table: TextTable, root: Path, strangers: Sequence[Row], second: Sequence[Row], note: Note
) -> None:
    if note and strangers:
        where = f"the first is line {strangers[0].line}"
        note(f"{table.path}: {len(strangers):,} of {_rows(len(table.rows))} name no image of {root}; {where}")
    if note and second:
        note(
            f"{table.path}: another prompt for an image that has one: {_rows(len(second))}, the first in "
            f"line {second[0].line}; the row that fits the image's path best and has a prompt is used"
        )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _prompt(row: Row, prompt_column: str) -> str:
    """Returns a row's prompt on one line, to compare it; "" if it cannot be used."""
    text, failure = checked_prompt(row.get(prompt_column))
    return "" if failure else text.strip()


def _with_prompt(table: TextTable, image: Input, fitting: Sequence[Row], prompt_column: str) -> Input:
    """Gives an image the prompt of the rows that fit it best, or says what is wrong with them."""
    usable = [row for row in fitting if not row.fault]
    first_rows: dict[str, Row] = {}
    for row in usable:
        if text := _prompt(row, prompt_column):
            first_rows.setdefault(text, row)
    if len(first_rows) > 1:
        lines = " and ".join(str(row.line) for row in first_rows.values())
        found = " and ".join(repr(text[:40]) for text in list(first_rows)[:2])
        detail = (
            f"{table.path.name}, lines {lines}: found different prompts for {image.image!r}, {found}; "
            "expected one. Name the image by its path relative to the folder in one row only"
        )
        return dataclasses.replace(image, failure=Failure(Kind.TABLE, detail))
    if usable:
        row = next(iter(first_rows.values()), usable[0])
        return _placed(file_input(image.image, image.path, row.get(prompt_column)), table, row)
    if fitting:
        return dataclasses.replace(image, failure=_row_failure(table, fitting[0], fitting[0].fault))
    return image


def _failed(table: TextTable, row: Row, fault: str) -> Input:
    name = f"{table.path.name}:{row.line}"
    return Input(name, "", "", table.path, failure=_row_failure(table, row, fault))


def _row_failure(table: TextTable, row: Row, fault: str) -> Failure:
    return Failure(Kind.TABLE, f"{table.place(row)}: {fault}")


def _placed(one: Input, table: TextTable, row: Row) -> Input:
    """Adds the row's place to an input's failure."""
    if one.failure is None:
        return one
    detail = f"{table.place(row)}: {one.failure.detail}"
    return dataclasses.replace(one, failure=Failure(one.failure.kind, detail))


def _spellings(name: str) -> Iterator[str]:
    """Yields a name as given, then as other systems and people would write it."""
    yield name
    stripped = name.strip()
    yield stripped
    for clean in (stripped, stripped.replace("\\", "/")):
        clean = re.sub(r"^(\./+)+", "", clean)
        yield clean
        yield unicodedata.normalize("NFC", clean)
        yield unicodedata.normalize("NFD", clean)


def _locate(folder: Path, name: str) -> tuple[str, Path]:
    """Returns the spelling of a name that a file has, and its path; without a file, the name stripped."""
    for spelling in dict.fromkeys(_spellings(name)):
        path = folder / spelling
        if spelling and _is_file(path):
            return spelling, path
    return name.strip(), folder / name.strip()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a null character
        return False
