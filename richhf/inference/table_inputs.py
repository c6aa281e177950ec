"""Inputs from a table of prompts: each row is an input, or is listed with what is wrong with it.

A row that cannot be used is a failed input of its own. If it names an image of a folder, that image fails
instead, and its failure names the row's line.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from richhf.data.prepare.columns import Overrides, find_column
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

    candidates = name_columns(table) if columns.image is None else []
    image_column = candidates[0] if candidates else ""
    if len(candidates) > 1:
        image_column, _ = best_name_column(table, candidates, is_image)
    elif not candidates:
        image_column = find_column("image", table.columns, columns, str(path), "IMAGE_COLUMN")
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

    A row with the path of an image in the folder is about that image alone, any other about all images with
    its uid (`to_uid`). Of several columns that could name images, the one that names the most is taken. Of
    rows with different prompts for one image the first with a prompt counts.

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
    known = {*names, *map(to_uid, names)}

    def key(text: str) -> str:
        spellings = list(_spellings(text))
        return next((name for name in (*spellings, *map(to_uid, spellings)) if name in known), "")

    def is_image(text: str) -> bool:
        return bool(key(text))

    candidates = name_columns(table) if columns.image is None else []
    candidates = candidates or [find_column("image", table.columns, columns, str(path), "IMAGE_COLUMN")]
    column, named = best_name_column(table, candidates, is_image)
    usable = [row for row in table.rows if not row.fault]
    if not named and (usable or not table.rows):
        found = f"{usable[0].get(column)!r:.80}" if usable else "no line"
        raise ValueError(
            f"no line of {path} names an image of {root}: found {found} as {column}, but images such as "
            f"{names[0]!r}. Name the column with IMAGE_COLUMN, or another table as TABLE."
        )
    table = check_line_breaks(table, column, prompt_column, is_image)
    _describe(table, {"image": column, "prompt": prompt_column}, note)
    rows: dict[str, Row] = {}
    faulty: dict[str, Row] = {}
    unlisted: dict[int, Row] = {}
    strangers, second = [], []
    for row in table.rows:
        name = key(name_in(row, column))
        if row.fault:
            unlisted[row.line] = row
            if name := next(filter(None, map(key, row.cells)), ""):
                faulty.setdefault(name, row)
        elif not name_in(row, column).strip():
            fault = f"found {row.get(column)!r:.80} as {column}; expected the name of an image"
            unlisted[row.line] = dataclasses.replace(row, fault=fault)
        elif not name:
            strangers.append(row)
        else:
            first = rows.setdefault(name, row)
            if _has_prompt(row, prompt_column) and not _has_prompt(first, prompt_column):
                rows[name], row = row, first
            if rows[name].get(prompt_column) != row.get(prompt_column):
                second.append(row)
    _note_unused(table, root, strangers, second, note)
    for name in names:
        used, bad = rows.get(name), faulty.get(name)
        if not used and not bad:
            used, bad = rows.get(to_uid(name)), faulty.get(to_uid(name))
        one = file_input(name, root / name, used.get(prompt_column) if used else None)
        if used:
            one = _placed(one, table, used)
        elif bad:
            one = dataclasses.replace(one, failure=_row_failure(table, bad, bad.fault))
            unlisted.pop(bad.line, None)
        yield one
    for row in unlisted.values():
        yield _failed(table, row, row.fault)


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
            f"line {second[0].line}; each image's first prompt is used"
        )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _has_prompt(row: Row, prompt_column: str) -> bool:
    return checked_prompt(row.get(prompt_column))[1] is None


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
