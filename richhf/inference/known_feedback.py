"""What a folder of feedback holds already, so that only inputs that are new or changed are computed.

Each row carries the fingerprint of its input, in the finished table and in the shards of unfinished runs
alike: a row serves any later list of inputs in which an input has that fingerprint.
"""

import dataclasses
import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from richhf.data.checks import UNDECODABLE
from richhf.data.prepare.images import SUFFIXES
from richhf.feedback import HEATMAPS
from richhf.inference.inputs import Input, fingerprint
from richhf.inference.shards import MAP_FORMATS, Row

TABLE, MAPS = "feedback.jsonl", "maps"
_LONGEST = 120
"""Bytes of a map's name that come from its image's; file systems allow 255 in all."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What there is for a list of inputs, and what is to be computed.

    Attributes:
        fingerprints: of each input.
        rows: the rows that are there, by the input's index.
        todo: indices of the others.
        stems: names of each input's maps, unique also where case does not count.
        added: how many of `todo` are of images that had no row.
        changed: how many are of images that had a row for another content or prompt.
        removed: rows of images that are not among the inputs.
        damaged: rows that cannot be read, or whose maps are missing.
    """

    fingerprints: list[str]
    rows: dict[int, Row]
    todo: list[int]
    stems: list[str]
    added: int
    changed: int
    removed: int
    damaged: int

    @property
    def tag(self) -> str:
        """What tells shards of these `todo` from others."""
        digest = hashlib.sha256("".join(self.fingerprints[index] for index in self.todo).encode())
        return f"{digest.hexdigest()[:8]}-"


def make_plan(folder: Path, inputs: Sequence[Input], columns: Collection[str]) -> Plan:
    """Compares inputs with a folder's table and with the shards that an unfinished run left.

    Inputs that failed in a finished run are tried again.

    Args:
        folder: the output folder.
        inputs: all inputs.
        columns: names of a row's values; a row with others is not used.
    """
    finished, damaged = _read(folder, [folder / TABLE], columns)
    unfinished, lost = _read(folder, sorted(folder.glob("shard-*-of-*.jsonl")), columns)
    there: dict[str, list[Row]] = defaultdict(list)
    for row in (*finished, *unfinished):
        there[row["fingerprint"]].append(row)
    fingerprints = [fingerprint(one) for one in inputs]
    old = {id(row) for row in finished}
    rows: dict[int, Row] = {}
    retried = 0
    for index, mark in enumerate(fingerprints):
        if there[mark]:
            row = there[mark].pop()  # of an unfinished run if there is one
            if row["error"] and id(row) in old:
                retried += 1
            else:
                rows[index] = row
    images = {one.image for one in inputs}
    before = {row["image"] for left in there.values() for row in left if row["image"] in images}
    todo = [index for index in range(len(inputs)) if index not in rows]
    changed = sum(inputs[index].image in before for index in todo)
    gone = {row["image"] for left in there.values() for row in left if row["image"] not in images}
    return Plan(
        fingerprints=fingerprints,
        rows=rows,
        todo=todo,
        stems=_stems(inputs, rows),
        added=len(todo) - changed - retried,
        changed=changed,
        removed=len(gone),
        damaged=damaged + lost,
    )


def map_file(folder: Path, path: str) -> Path:
    """Returns where a row's map is: where the row says, or in `maps/` if it was moved there since."""
    there = folder / path
    return there if there.exists() else folder / MAPS / there.name


def map_columns(row: Row) -> list[str]:
    """Returns the columns of a row that name a map."""
    names = [f"{name}_{end}" for name in HEATMAPS for end in MAP_FORMATS]
    return [name for name in names if row.get(name)]


def _read(folder: Path, tables: Sequence[Path], columns: Collection[str]) -> tuple[list[Row], int]:
    """Returns the rows that can be used, and how many cannot."""
    rows, damaged = [], 0
    for table in tables:
        try:
            lines = table.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            try:
                row = json.loads(line)
            except UNDECODABLE:
                row = None
            if not isinstance(row, dict) or {*columns} != {*row}:
                damaged += 1
            elif all(map_file(folder, row[name]).is_file() for name in map_columns(row)):
                rows.append(row)
            else:
                damaged += 1
    return rows, damaged


def _stems(inputs: Sequence[Input], rows: dict[int, Row]) -> list[str]:
    stems = {index: stem for index, row in rows.items() if (stem := _stem_of_row(row))}
    taken = {stem.casefold() for stem in stems.values()}
    for index, one in enumerate(inputs):
        if index in stems:
            continue
        plain, number = _plain_stem(one.image or one.id), 1
        marked = f"{plain}-{hashlib.sha256(repr(one.image).encode()).hexdigest()[:8]}"
        stem = plain
        while stem.casefold() in taken:
            stem = marked if number == 1 else f"{marked}-{number}"
            number += 1
        taken.add(stem.casefold())
        stems[index] = stem
    return [stems[index] for index in range(len(inputs))]


def _stem_of_row(row: Row) -> str | None:
    for column in map_columns(row):
        name, _, end = column.rpartition("_")
        return Path(row[column]).name.removesuffix(f"-{name}.{end}")
    return None


def _plain_stem(image: str) -> str:
    """Returns an image's path as a part of a file name that every file system takes."""
    path = Path(image)
    if path.is_absolute() or ".." in path.parts:
        path = Path(path.name)
    text = str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)
    text = unicodedata.normalize("NFC", text.encode(errors="backslashreplace").decode())
    text = re.sub(r"[^\w.]+", "-", text).strip("-.") or "image"
    return text.encode()[:_LONGEST].decode(errors="ignore")
