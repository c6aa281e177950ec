"""Tables as text: CSV, TSV, and JSON objects one a line."""

import csv
import json
import pathlib
from collections.abc import Iterator
from typing import Any, TextIO

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of such files, in lower case."""


def column_names(table: pathlib.Path) -> list[str]:
    """The columns by the head of a table, or by the first line that is an object.

    Raises:
        ValueError: if there are none.
    """
    there: list[str] = []
    with _open(table) as lines:
        if _is_json(table):
            objects = (value for value in map(_parse_json, lines) if isinstance(value, dict))
            there = list(next(objects, {}))
        else:
            there = next(csv.reader(lines, delimiter=_delimiter(table)), [])
    if not there:
        kind = "JSON objects, one a line" if _is_json(table) else "columns named in its first line"
        raise ValueError(f"{table} has no {kind}; expected an image and its prompt in each line")
    return there


def read_lines(table: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """Yields the index of each line (from 0, without the head of a table) and its values."""
    with _open(table) as lines:
        if _is_json(table):
            for index, line in enumerate(lines):
                if line.strip():
                    yield index, _parse_json(line)
            return
        rows = csv.reader(lines, delimiter=_delimiter(table))
        head = next(rows)
        for index, row in enumerate(rows):
            if row:
                yield index, dict(zip(head, row, strict=False))


def _open(table: pathlib.Path) -> TextIO:
    """Opens a table; bytes that are not UTF-8 give text that no record takes."""
    csv.field_size_limit(1 << 30)
    return table.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _parse_json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line.rstrip()


def _is_json(table: pathlib.Path) -> bool:
    return table.suffix.lower() in (".jsonl", ".ndjson")


def _delimiter(table: pathlib.Path) -> str:
    return "\t" if table.suffix.lower() == ".tsv" else ","
