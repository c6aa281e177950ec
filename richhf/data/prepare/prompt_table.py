"""Tables of images and prompts: which columns are used, and rows that a line break may have cut."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from richhf.data.prepare.columns import LIKELY, Overrides
from richhf.data.prepare.files import refuse_pointers
from richhf.data.prepare.images import SUFFIXES
from richhf.data.readers import Row, TextTable, read_text_table

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
    cell of several rows. And a line with too few cells may be a part of the prompt in the row beside it.

    Args:
        table: as read.
        image_column: the column that names images.
        prompt_column: the column of prompts.
        is_image: whether text in the table names an image.

    Returns:
        the table. A row whose prompt may go on in a line with too few cells is faulty, unless that line names
        an image.

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
    if prompt_column not in (table.header[0], table.header[-1]):
        return table
    before = prompt_column == table.header[-1]
    rows = list(table.rows)
    for index, stray in _strays(rows, is_image, before):
        row = rows[index]
        text = table.delimiter.join(stray.cells)
        fault = (
            f"the prompt {row.get(prompt_column)!r:.80} may {'go on' if before else 'begin'} in line "
            f"{stray.line}, which has too few cells: {text!r:.80}"
        )
        cells = tuple(row.values.values())
        rows[index] = dataclasses.replace(row, values={}, fault=fault, cells=cells)
    return dataclasses.replace(table, rows=tuple(rows))


def _strays(rows: Sequence[Row], is_image: IsImage, before: bool) -> Iterator[tuple[int, Row]]:
    """Yields the index of each good row beside lines with too few cells that name no image."""
    order: Iterable[int] = range(len(rows)) if before else reversed(range(len(rows)))
    good: int | None = None
    for index in order:
        row = rows[index]
        if not row.fault:
            good = index
            continue
        if row.too_short and good is not None and not any(_names(cell, is_image) for cell in row.cells):
            yield good, row
        good = None


def _names(cell: str, is_image: IsImage) -> bool:
    return bool(cell.strip()) and (_looks_like_image(cell) or is_image(cell))


def _looks_like_image(cell: str) -> bool:
    return pathlib.PurePath(cell.strip()).suffix.lower() in SUFFIXES
