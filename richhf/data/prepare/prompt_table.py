"""Tables of images and prompts: which columns are used, and rows that a line break may have cut."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence

from richhf.data.prepare.columns import LIKELY, Overrides
from richhf.data.prepare.files import refuse_pointers
from richhf.data.prepare.images import SUFFIXES
from richhf.data.readers import Row, TextTable, read_text_table

_FILE = re.compile(r"\.\w{1,5}$|://|^\S*[/\\]\S*$")
_WORD = re.compile(r"[\w.-]*\w[\w.-]*")
IsImage = Callable[[str], bool]
"""Whether text in a table names an image that is there."""


def read_prompt_table(path: pathlib.Path, overrides: Overrides) -> TextTable:
    """Reads a table of prompts.

    Args:
        path: a CSV, TSV or JSON Lines file.
        overrides: columns given by the user.

    Raises:
        ValueError: if the table cannot be read, has no header or has one column.
    """
    refuse_pointers(path.parent, [path.name])
    names = {name for likely in LIKELY.values() for name in likely}
    table = read_text_table(path, names | {name.lower() for name in overrides.given().values()})
    if table.delimiter and len(table.header) == 1:
        raise ValueError(
            f"{path}, read as {table.form}, has one column, {table.header[0]!r}; expected an image and its "
            "prompt. Separate columns by commas or semicolons in .csv, and by tabs in .tsv."
        )
    heading = next((name for name in table.columns if _looks_like_image(name)), None)
    if table.delimiter and heading:
        raise ValueError(
            f"{path}: the first line holds {heading!r}, so it is a row and not the names of the columns; "
            "add a first line such as 'image,prompt'."
        )
    return table


def name_columns(table: TextTable, first: str = "image") -> list[str]:
    """Returns the columns that may name images, the likeliest first.

    Args:
        table: any.
        first: which names are likelier, those of `image` or those of `uid`.
    """
    by_name = {name.lower(): name for name in table.columns}
    likely = dict.fromkeys((*LIKELY[first], *LIKELY["image"], *LIKELY["uid"]))
    return [by_name[name] for name in likely if name in by_name]


def best_name_column(table: TextTable, candidates: Sequence[str], is_image: IsImage) -> tuple[str, int]:
    """Finds the column that names the most images that are there; of several, the first.

    Returns:
        the column, and how many of the table's rows name an image by it.
    """

    def count(column: str) -> int:
        return sum(is_image(name_in(row, column)) for row in table.rows)

    counts = {column: count(column) for column in candidates}
    column = max(candidates, key=counts.__getitem__)
    return column, counts[column]


def name_in(row: Row, column: str) -> str:
    """Returns the name in a cell; "" if the cell holds neither text nor a whole number."""
    value = row.get(column)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def check_line_breaks(
    table: TextTable, image_column: str, prompt_column: str, is_image: IsImage
) -> TextTable:
    """Checks for rows that were merged or cut at a line break.

    Text in quotes may contain line breaks, so a quote that is left open and another one lines below make one
    cell of several rows. Without quotes, the rest of a prompt is a line of its own. Such a line has
    another number of cells, or it has text where other rows have the name of a file.

    Args:
        table: as read.
        image_column: the column that names images.
        prompt_column: the column of prompts.
        is_image: whether text in the table names an image.

    Returns:
        the table. A row whose prompt may go on in the line beside it is faulty.

    Raises:
        ValueError: if a line inside a quoted cell looks like a row: it has several cells, and names an image
            where the table does.
    """
    position = table.header.index(image_column)
    for row in table.rows:
        for start, line in row.lines_in_quotes:
            cells = line.split(table.delimiter)
            index = position - start
            if len(cells) > 1 and 0 <= index < len(cells) and _names(cells[index].strip(' "'), is_image):
                raise ValueError(
                    f"{table.path}, line {row.line}: a quoted cell that begins in this row goes on over the "
                    f"row of {cells[index]!r}. Close the quote, or save the table as TSV, where quotes are "
                    "text."
                )
    if not table.delimiter or prompt_column not in (table.header[0], table.header[-1]):
        return table
    before = prompt_column == table.header[-1]
    strays = _strays(table, image_column, is_image)
    rows, good = list(table.rows), -1
    for index in range(len(rows)) if before else reversed(range(len(rows))):
        row = table.rows[index]
        if not row.fault and not strays[index]:
            good = index
            continue
        if strays[index] and good >= 0:
            rows[good] = _cut(rows[good], prompt_column, row, before)
        good = -1
    return dataclasses.replace(table, rows=tuple(rows))


def _strays(table: TextTable, image_column: str, is_image: IsImage) -> list[bool]:
    """Says of each row whether it may be a part of the prompt in the row beside it."""
    names = [row.cells if row.fault else (name_in(row, image_column).strip(),) for row in table.rows]
    share = sum(any(map(_looks_like_image, cells)) for cells in names) / max(len(names), 1)
    strays = []
    for row, cells in zip(table.rows, names, strict=True):
        if row.fault:
            strays.append(not any(_names(cell, is_image) for cell in cells))
            continue
        # One word may be a name without an ending, unless most others are files.
        like_text = share > 0.2 and (not _WORD.fullmatch(cells[0]) or share > 0.6)
        strays.append(bool(cells[0]) and like_text and not _FILE.search(cells[0]) and not is_image(cells[0]))
    return strays


def _cut(row: Row, prompt_column: str, stray: Row, before: bool) -> Row:
    text = " ".join(stray.cells or map(str, stray.values.values()))
    fault = (
        f"the prompt {row.get(prompt_column)!r:.80} may {'go on' if before else 'begin'} in line "
        f"{stray.line}, {text!r:.80}. Put a prompt that contains a line break in double quotes"
    )
    return dataclasses.replace(row, values={}, fault=fault, cells=tuple(row.values.values()))


def _names(cell: str, is_image: IsImage) -> bool:
    return bool(cell.strip()) and (_looks_like_image(cell) or is_image(cell))


def _looks_like_image(cell: str) -> bool:
    return pathlib.PurePath(cell.strip()).suffix.lower() in SUFFIXES
