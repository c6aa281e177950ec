"""Tables as text: CSV, TSV, and JSON Lines. What is wrong with a row is said in that row."""

import dataclasses
import pathlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from richhf.data.readers.delimited import QuoteError, Record, split_records
from richhf.data.readers.encoding import LINE_BREAK, decode_table
from richhf.data.readers.json_lines import split_objects

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of such files, in lower case."""
JSON_TABLES = (".jsonl", ".ndjson")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What may separate the cells of a CSV file, the likeliest first."""

_EXCERPT = 80
_BLANK = "\ufeff\u200b\xa0 \t\r\n"
"""Around a column's name: what spreadsheets and web pages leave there, unseen."""
_STATED = re.compile(r'"?sep=(\\t|[^"\r\n])"?\1* *(?:\r\n|\r|\n|$)', re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        line: the physical line of the file in which the row begins, from 1.
        values: by column, text in CSV and TSV and any JSON value in JSON Lines; empty if the row is faulty.
            Rows of JSON Lines may lack some columns.
        fault: what was found and what was expected, or "".
        cells: of a faulty row of CSV or TSV, as found.
        lines_in_quotes: of a row with line breaks in quoted cells, see `Record.lines_in_quotes`.
    """

    line: int
    values: Mapping[str, Any]
    fault: str = ""
    cells: tuple[str, ...] = ()
    lines_in_quotes: tuple[tuple[int, str], ...] = ()

    def get(self, column: str | None) -> Any:
        """Returns the value in a column; None if there is none."""
        return None if column is None else self.values.get(column)


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table that was read whole.

    Attributes:
        path: its file.
        form: how it was read, such as "CSV separated by semicolons, UTF-16 LE".
        header: the names of all columns, stripped, in order; "" for a column without a name.
        rows: all rows, faulty ones too.
        delimiter: between cells; "" for JSON Lines.
        remarks: what looks odd and is no error, a sentence each.
    """

    path: pathlib.Path
    form: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    delimiter: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that have a name."""
        return tuple(name for name in self.header if name)

    def place(self, row: Row) -> str:
        """Returns where a row is, such as "prompts.csv, line 3"."""
        return f"{self.path.name}, line {row.line}"


def read_text_table(path: pathlib.Path, expected: Collection[str] = ()) -> TextTable:
    """Reads a table.

    In CSV, the separator is the one that a first line `sep=;` names, or else the one of `DELIMITERS` that
    splits the header into the most of the expected names, or else into the most columns. Quotes are those of
    RFC 4180; spaces before and after them are skipped. TSV has no quotes: they are part of the text, unless
    the whole file is written as `csv.writer` or pandas write TSV, with quoted cells where cells contain
    quotes. JSON Lines have the columns of all of their objects.

    A row whose cells differ in number from the header's is faulty, as is a line that is not a JSON object or
    that has a key twice.

    Args:
        path: of one of `TABLES`.
        expected: names of columns that are likely, in lower case.

    Raises:
        ValueError: if the table cannot be read at all: a binary file, another encoding than UTF-8 or UTF-16,
            a quote that is not closed, two columns of one name, no columns. The error names the line.
        OSError: if the system cannot read the file.
    """
    text, encoding = decode_table(path)
    if path.suffix.lower() in JSON_TABLES:
        table = _read_json(path, text, encoding)
    else:
        try:
            table = _read_delimited(path, text, encoding, expected)
        except QuoteError as error:
            move = "Write a quote inside a quoted cell twice, or save the table as TSV, where quotes are text"
            raise ValueError(f"{path}, line {error.line}: {error.detail}. {move}.") from error
    _check_names(table)
    return table


def _read_json(path: pathlib.Path, text: str, encoding: str) -> TextTable:
    columns: dict[str, str] = {}
    rows = []
    for line, value, fault in split_objects(text):
        stripped = {_name(key): item for key, item in (value or {}).items()}
        if len(stripped) < len(value or {}):
            fault, stripped = f"found two keys that differ in spaces only: {', '.join(value or ())!r:.80}", {}
        columns |= dict.fromkeys(stripped, "")
        rows.append(Row(line, stripped, fault))
    if not any(columns):
        found = f"; line {rows[0].line}: {rows[0].fault}" if rows and rows[0].fault else ""
        raise ValueError(
            f"{path} has no line with a JSON object{found}. Write one object with an image and its prompt in "
            "each line."
        )
    return TextTable(path, f"JSON Lines, {encoding}", tuple(columns), tuple(rows))


def _read_delimited(path: pathlib.Path, text: str, encoding: str, expected: Collection[str]) -> TextTable:
    stated, line = _stated_delimiter(text)
    if stated:
        text = LINE_BREAK.split(text, maxsplit=1)[1] if LINE_BREAK.search(text) else ""
    is_tsv = path.suffix.lower() == ".tsv" and stated in ("", "\t")
    delimiter = stated or ("\t" if is_tsv else _likeliest_delimiter(text, expected))
    quotes = True
    remarks: tuple[str, ...] = ()
    if is_tsv:
        quotes = _quotes_of_tsv(text, delimiter)
        remarks = () if quotes else _quoted_cells(text, delimiter, line)
    records = split_records(text, delimiter, quotes=quotes, line=line)
    header = next(records, Record(line, (), ()))
    names = [_name(cell) for cell in header.cells]
    if not any(names):
        raise ValueError(
            f"{path} has no columns named in its first line; expected an image and its prompt in each line."
        )
    spaced = len(names) > 1 and all(cell.startswith(" ") for cell in header.cells[1:])
    rows = tuple(_row(record, names, delimiter, spaced) for record in records)
    separated = DELIMITERS.get(delimiter, repr(delimiter))
    form = f"TSV{' with quotes' * quotes}" if is_tsv else f"CSV separated by {separated}"
    form = f"{form}, {encoding}"
    return TextTable(path, form, tuple(names), rows, delimiter, remarks)


def _row(record: Record, names: Sequence[str], delimiter: str, spaced: bool) -> Row:
    cells, inner = record.cells, tuple(record.lines_in_quotes())
    if len(cells) != len(names):
        found = f"found {len(cells)} cell{'s' * (len(cells) != 1)}, {delimiter.join(cells)!r:.{_EXCERPT}}"
        fault = f"{found}; expected {len(names)}, as in the header"
        if len(cells) == len(names) + 1 and not cells[-1].strip():
            fault += (
                f". The row ends in {delimiter!r}, but the header does not. Remove it from the row, add one "
                "to the header, or put a prompt that ends in it in double quotes"
            )
        elif len(cells) > len(names) and delimiter != "\t":
            fault += f". Put a prompt that contains {delimiter!r} in double quotes"
        elif len(cells) < len(names) and delimiter != "\t":
            fault += ". Put a prompt that contains a line break in double quotes"
        return Row(record.line, {}, fault, cells, inner)
    if spaced:  # the header shows that the separator is a comma and a space
        pairs = zip(cells, record.quoted, strict=True)
        cells = tuple(cell if quoted else cell.lstrip(" ") for cell, quoted in pairs)
    values = {name: cell for name, cell in zip(names, cells, strict=True) if name}
    return Row(record.line, values, lines_in_quotes=inner)


def _name(cell: str) -> str:
    return cell.strip(_BLANK)


def _stated_delimiter(text: str) -> tuple[str, int]:
    """The separator that Excel's first line `sep=;` names or "", and the line after it."""
    found = _STATED.match(text)
    return (found[1].replace("\\t", "\t"), 2) if found else ("", 1)


def _likeliest_delimiter(text: str, expected: Collection[str]) -> str:
    def fit(delimiter: str) -> tuple[int, int]:
        try:
            header = next(split_records(text, delimiter, quotes=True), Record(1, (), ()))
        except QuoteError:
            return 0, 0
        names = {_name(cell).lower() for cell in header.cells}
        return len(names.intersection(expected)), len(header.cells)

    return max(DELIMITERS, key=fit)


def _quotes_of_tsv(text: str, delimiter: str) -> bool:
    """Whether a TSV file was written with quoted cells, as `csv.writer` and pandas write it."""
    plain = split_records(text, delimiter, quotes=False)
    header = next(plain, Record(1, (), ()))
    if '"' not in text:
        return False
    if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in header.cells):
        return True
    fits_plain = all(len(record.cells) == len(header.cells) for record in plain)
    try:
        for record in split_records(text, delimiter, quotes=True):
            if len(record.cells) != len(header.cells):
                return False
            for cell, quoted in zip(record.cells, record.quoted, strict=False):
                spans = delimiter in cell or bool(LINE_BREAK.search(cell))
                if quoted != (spans or '"' in cell) or (quoted and spans and fits_plain):
                    return False
    except QuoteError:
        return False
    return True


def _quoted_cells(text: str, delimiter: str, line: int) -> tuple[str, ...]:
    """A remark on cells of a TSV file that stand in quotes."""
    lines = [
        record.line
        for record in split_records(text, delimiter, quotes=False, line=line)
        if any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in record.cells)
    ]
    if not lines:
        return ()
    return (
        f"{len(lines):,} row{'s' * (len(lines) != 1)} with a cell in quotes, the first in line {lines[0]}. "
        "In TSV the quotes are part of the text; save the table as CSV if they are not.",
    )


def _check_names(table: TextTable) -> None:
    """Raises ValueError if two columns have one name, in any letter case."""
    count = Counter(name.casefold() for name in table.columns)
    for name in table.columns:
        if count[name.casefold()] > 1:
            same = [other for other in table.columns if other.casefold() == name.casefold()]
            listed = " and ".join(map(repr, same))
            raise ValueError(
                f"{table.path} has {len(same)} columns of one name: {listed}. Rename or remove one of them."
            )
