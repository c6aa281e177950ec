"""Splits CSV and TSV into records that know their line, and refuses quotes that do not fit."""

import dataclasses
import re
from collections.abc import Iterator

from richhf.data.readers.encoding import LINE_BREAK

_EXCERPT = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """The cells of one record.

    Attributes:
        line: where it starts, from 1.
        cells: as text, quotes removed.
        quoted: whether each cell stood in quotes.
    """

    line: int
    cells: tuple[str, ...]
    quoted: tuple[bool, ...]

    def lines_in_quotes(self) -> Iterator[tuple[int, str]]:
        """Yields the lines of quoted cells that have several.

        Yields:
            the column in which the line begins, and the line. All lines but a cell's first begin in column 0.
        """
        for column, (cell, quoted) in enumerate(zip(self.cells, self.quoted, strict=True)):
            lines = LINE_BREAK.split(cell) if quoted else []
            if len(lines) > 1:
                yield column, lines[0]
                yield from ((0, line) for line in lines[1:])


class QuoteError(ValueError):
    """A quote after which the rest of a table cannot be read.

    Attributes:
        line: where the quoted cell begins, from 1.
        detail: what is wrong.
    """

    def __init__(self, line: int, detail: str):
        super().__init__(line, detail)
        self.line, self.detail = line, detail


def split_records(text: str, delimiter: str, *, quotes: bool, line: int = 1) -> Iterator[Record]:
    """Splits a table's text. Blank lines are left out.

    Args:
        text: any part of a table that begins with a record.
        delimiter: one character.
        quotes: whether a cell that begins with `"`, or with spaces and `"`, is quoted as in RFC 4180: it may
            contain delimiters and line breaks, and `""` stands for a quote. Otherwise quotes are text, as are
            quotes inside a cell that does not begin with one.
        line: the number of the text's first line.

    Yields:
        all records, with any number of cells.

    Raises:
        QuoteError: if a quoted cell has no end, or text follows its end.
    """
    start = 0
    cell_end = re.compile(rf"[{re.escape(delimiter)}\r\n]")
    blank = " \t".replace(delimiter, "")
    while start < len(text):
        line_break = LINE_BREAK.search(text, start)
        end, after = line_break.span() if line_break else (len(text), len(text))
        physical = text[start:end]
        if quotes and '"' in physical:
            record, end = _split_quoted(text, start, line, cell_end, blank)
            yield record
            line += len(LINE_BREAK.findall(text, start, end)) + 1
            line_break = LINE_BREAK.match(text, end)
            after = line_break.end() if line_break else len(text)
        else:
            if physical.strip(blank):
                cells = physical.split(delimiter)
                yield Record(line, tuple(cells), (False,) * len(cells))
            line += 1
        start = after


def _split_quoted(
    text: str, start: int, line: int, cell_end: re.Pattern[str], blank: str
) -> tuple[Record, int]:
    """Splits the record at `start`; returns it and where it ends."""
    cells, quoted = [], []
    blanks = re.compile(f"[{blank}]*")
    position = start
    while True:
        quote = _end(blanks, text, position)
        quoted.append(text.startswith('"', quote))
        if quoted[-1]:
            closing = _closing_quote(text, quote)
            here = line + len(LINE_BREAK.findall(text, start, quote))
            if closing < 0:
                excerpt = LINE_BREAK.split(text[quote : quote + _EXCERPT])[0]
                raise QuoteError(here, f"the quote at {excerpt!r} is never closed")
            end = _end(blanks, text, closing + 1)
            if end < len(text) and not cell_end.match(text, end):
                raise QuoteError(here, _text_after(text, start, quote, closing, end, line))
            cells.append(text[quote + 1 : closing].replace('""', '"'))
        else:
            found = cell_end.search(text, position)
            end = found.start() if found else len(text)
            cells.append(text[position:end])
        if end == len(text) or text[end] in "\r\n":
            return Record(line, tuple(cells), tuple(quoted)), end
        position = end + 1


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where a pattern that may be empty ends if it begins at `position`."""
    found = pattern.match(text, position)
    return found.end() if found else position


def _closing_quote(text: str, quote: int) -> int:
    """The place of the quote that closes the one at `quote`; -1 if there is none."""
    closing = text.find('"', quote + 1)
    while closing >= 0 and text.startswith('"', closing + 1):
        closing = text.find('"', closing + 2)
    return closing


def _text_after(text: str, start: int, quote: int, closing: int, end: int, line: int) -> str:
    cell = LINE_BREAK.split(text[quote : min(closing + 1, quote + _EXCERPT)])[0]
    rest = LINE_BREAK.split(text[end : end + _EXCERPT])[0]
    last = line + len(LINE_BREAK.findall(text, start, closing))
    first = line + len(LINE_BREAK.findall(text, start, quote))
    where = f" in line {last}" if last > first else ""
    return f"the quote at {cell!r} is closed{where} before {rest!r}, where the separator was expected"
