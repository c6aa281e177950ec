"""A mirror: parquet or Arrow rows with image, prompt and uid, and perhaps RichHF-18K's labels."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from richhf.data.checks import HEATMAP_FEATURES, LABEL_FEATURE, SCORE_FEATURES
from richhf.data.prepare import arrow
from richhf.data.prepare.columns import Overrides, find_column, guess_column
from richhf.data.prepare.files import split_of
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.tables import TableSource, View, cell_value, unreadable_file
from richhf.data.prepare.uids import to_uid
from richhf.data.records import encode_png
from richhf.feedback import SPLITS

LABELS = (*SCORE_FEATURES.values(), *HEATMAP_FEATURES.values(), LABEL_FEATURE)
"""Columns of labels, named as RichHF-18K names its features; letter case does not count."""


class Mirror(TableSource):
    """Parquet files, or a data set saved to disk by Hugging Face `datasets`."""

    name = "mirror"

    def __init__(
        self, root: pathlib.Path, names: list[str], schema: Any, overrides: Overrides, *, where: str
    ):
        """Finds the columns.

        Args:
            root: the folder.
            names: its files.
            schema: columns and types of one of them.
            overrides: columns given by the user.
            where: which one, for errors.

        Raises:
            ValueError: if a column is neither given rightly nor to be guessed.
        """
        there, self._where = schema.names, where
        image = find_column("image", there, overrides, where)
        prompt = find_column("prompt", there, overrides, where)
        if overrides.uid is None and guess_column("uid", there) is None and _has_path(schema.field(image)):
            uid = f"{image}.path"
        else:
            uid = find_column("uid", there, overrides, where)
        self.root, self.names = root, names
        self.views = (View(uid, image, prompt),)
        by_name = {name.lower(): name for name in there}
        self.label_columns = {name: by_name[name] for name in (*LABELS, "filename") if name in by_name}

    def describe(self) -> dict[str, Any]:
        """See `Source`; the columns decide too."""
        view = self.views[0]
        return super().describe() | {"columns": {"uid": view.uid, "image": view.image, "prompt": view.prompt}}

    def label_files(self) -> dict[str, list[str]]:
        """The files by split, for labels that are in the mirror itself.

        Raises:
            ValueError: if it has no labels, or a file's split cannot be told.
        """
        if missing := [name for name in LABELS if name not in self.label_columns]:
            raise ValueError(
                f"{self._where} holds no labels: no column {', '.join(missing)}; "
                "give RichHF-18K's labels with --richhf DIR"
            )
        by_split: dict[str, list[str]] = {split: [] for split in SPLITS}
        for name in self.names:
            if (split := split_of(name)) is None:
                raise ValueError(
                    f"cannot tell the split of {self.root / name}; expected train, validation or test in the "
                    "name of the file or of its folder, or RichHF-18K's labels with --richhf DIR"
                )
            by_split[split].append(name)
        return by_split

    def read_labels(self, file: str, note: Note) -> Iterator[tuple[int, Mapping[str, Any] | Problem]]:
        """Reads the labels of one file, row by row, as features of a RichHF-18K record.

        Args:
            file: its name.
            note: told when a row group of the file, or its rest, cannot be read.

        Yields:
            row, and its features; those without a value are left out. A map that is no picture is a problem.
        """
        row = 0
        errors: tuple[type[Exception], ...] = (*arrow.unreadable(), KeyError)
        try:
            for part in arrow.read_parts(self.root / file):
                row = part.first_row
                try:
                    for row, features in self._read_part_labels(file, part):
                        yield row, features
                except errors as error:
                    note(unreadable_file(file, row, error))
        except errors as error:
            note(unreadable_file(file, row, error))

    def _read_part_labels(
        self, file: str, part: arrow.RowGroup | arrow.Batch
    ) -> Iterator[tuple[int, Mapping[str, Any] | Problem]]:
        columns = dict.fromkeys([*self.label_columns.values(), self.views[0].uid])
        row = part.first_row
        for batch in part.batches(list(columns)):
            for offset, uid in enumerate(arrow.column(batch, self.views[0].uid)):
                cells = {key: batch.column(value)[offset] for key, value in self.label_columns.items()}
                yield row, self._features(file, row, to_uid(cell_value(uid)), cells)
                row += 1

    def _features(
        self, file: str, row: int, uid: str, cells: Mapping[str, Any]
    ) -> dict[str, bytes | float] | Problem:
        features: dict[str, bytes | float] = {}
        for feature, cell in cells.items():
            kind = Kind.MAP if feature in HEATMAP_FEATURES.values() else Kind.LABELS
            try:
                if kind == Kind.MAP:
                    value = self._map(file, cell)
                elif feature == LABEL_FEATURE:
                    value = _to_label(cell_value(cell))
                else:
                    value = cell_value(cell)
            except ValueError as error:
                return Problem(kind, file, row, f"{feature}: {error}", uid)
            if isinstance(value, int | float):
                features[feature] = float(value)
            elif value is not None:
                features[feature] = value if isinstance(value, bytes) else str(value).encode()
        if uid and to_uid(features.get("filename")) != uid:
            features["filename"] = f"{split_of(file)}/{uid}.png".encode()
        return features

    def _map(self, file: str, cell: Any) -> bytes | None:
        """An encoded map: as found, or from rows of numbers."""
        if not cell.is_valid:
            return None
        if isinstance(cell, arrow.load_pyarrow().ListScalar):
            return _encode_numbers(cell)
        encoded, detail = self._load(file, cell_value(cell))
        if encoded is None:
            raise ValueError(detail)
        return encoded


def _has_path(field: Any) -> bool:
    pa = arrow.load_pyarrow()
    return pa.types.is_struct(field.type) and any(child.name == "path" for child in field.type)


def _encode_numbers(cell: Any) -> bytes:
    """A map from rows of numbers, integers 0 to 255 or fractions of 1, as PNG."""
    numbers = _to_array(cell)
    if numbers.dtype.kind == "f" and numbers.size and numbers.max() <= 1:
        numbers = np.rint(numbers * 255)
    if numbers.ndim != 2 or not numbers.size or not ((numbers >= 0) & (numbers <= 255)).all():
        raise ValueError(
            f"found numbers of shape {numbers.shape}; expected rows of integers 0 to 255 or of fractions of 1"
        )
    return encode_png(numbers.astype(np.uint8))


def _to_array(cell: Any) -> np.ndarray:
    """Nested lists of equal lengths as an array, without an object for each number; [h w 1] as [h w]."""
    shape, values = [len(cell.values)], cell.values
    while hasattr(values, "flatten") and arrow.load_pyarrow().types.is_nested(values.type):
        flat = values.flatten()
        if len(values) == 0 or len(flat) % len(values) or len(set(values.value_lengths().to_pylist())) > 1:
            raise ValueError("found rows of different lengths; expected a rectangle")
        shape.append(len(flat) // len(values))
        values = flat
    numbers = values.to_numpy(zero_copy_only=False).reshape(shape)
    if numbers.dtype.kind not in "iuf":
        raise ValueError(f"found values of type {values.type}; expected numbers")
    return numbers[..., 0] if numbers.ndim == 3 and numbers.shape[-1] == 1 else numbers


def _to_label(value: Any) -> Any:
    """Labels as RichHF-18K writes them, from a list of numbers too."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if not all(isinstance(label, int | float) and float(label).is_integer() for label in value):
            raise ValueError(f"found {value!r:.80}; expected a list of 0 and 1")
        return " ".join(str(int(label)) for label in value)
    return value
