"""Parquet and Arrow files, a part at a time: small columns of many rows, then large columns of a few."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

SUFFIXES = (".parquet", ".arrow")
PIECE = 128 << 20
"""Bytes of a piece of a parquet file, at least one row group."""
_ROWS = 8
"""Rows decoded at a time; a row of integer maps takes 4 MB."""
_BUFFER = 1 << 20
_MAGIC = b"ARROW1"


def load_pyarrow() -> Any:
    """Imports pyarrow with its parquet reader.

    Raises:
        ImportError: if it is missing, saying what to install.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet and Arrow files need pyarrow. Install it with: pip install 'pyarrow>=20'"
        ) from error
    return pyarrow


def unreadable() -> tuple[type[Exception], ...]:
    """What pyarrow raises when it cannot read a file: for damage, or if the system fails (`check_damage`)."""
    return (OSError, UnicodeDecodeError, load_pyarrow().ArrowException)


def check_damage(error: Exception) -> None:
    """Passes if an error is about the file: it is cut short, damaged or something else.

    What the system refuses (a failing disk, a mount that is gone, too many open files) has its number in
    `errno`; what pyarrow itself finds wrong with the bytes has none.

    Args:
        error: one of `unreadable()`.

    Raises:
        Exception: the error itself, if it is about the machine; it says nothing of the file.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
        raise error


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """A row group of a parquet file. Columns that are not asked for are not read."""

    file: Any
    number: int
    first_row: int

    def read(self, columns: Sequence[str]) -> Any:
        """Reads small columns of all rows, as a table."""
        return self.file.read_row_group(self.number, columns=list(columns), use_threads=False)

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Reads columns a few rows at a time, as record batches."""
        return self.file.iter_batches(_ROWS, [self.number], list(columns), use_threads=False)


@dataclasses.dataclass(frozen=True)
class Batch:
    """A record batch of a memory-mapped Arrow file. Columns that are not touched are not read."""

    batch: Any
    first_row: int

    def read(self, columns: Sequence[str]) -> Any:
        """Returns the batch."""
        return self.batch

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Returns the batch, as the only one."""
        return iter([self.batch])


def read_schema(path: pathlib.Path) -> Any:
    """Reads the columns and their types.

    Raises:
        one of `unreadable()`.
    """
    if path.suffix.lower() == ".parquet":
        return load_pyarrow().parquet.read_schema(path)
    with load_pyarrow().memory_map(str(path)) as file:
        return _open_arrow(file).schema


def column_names(path: pathlib.Path) -> list[str]:
    """The columns of a file, fields of structs as `image.path` among them.

    Raises:
        one of `unreadable()`.
    """
    names = []
    for field in read_schema(path):
        names.append(field.name)
        if load_pyarrow().types.is_struct(field.type):
            names += [f"{field.name}.{inner.name}" for inner in field.type]
    return names


def cut(path: pathlib.Path) -> list[tuple[int, int, int]]:
    """Cuts a file into pieces: (start, stop, bytes) with row groups of about 128 MB; Arrow files stay whole.

    Raises:
        one of `unreadable()`.
    """
    if path.suffix.lower() != ".parquet":
        read_schema(path)
        return [(0, 0, path.stat().st_size)]
    metadata = load_pyarrow().parquet.read_metadata(path)
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    pieces, start = [], 0
    for number in range(len(sizes)):
        if number + 1 == len(sizes) or sum(sizes[start : number + 2]) > PIECE:
            pieces.append((start, number + 1, sum(sizes[start : number + 1])))
            start = number + 1
    return pieces


def read_parts(path: pathlib.Path, start: int = 0, stop: int | None = None) -> Iterator[RowGroup | Batch]:
    """Yields the row groups `start` to `stop` of a parquet file, or all batches of an Arrow file.

    Raises:
        one of `unreadable()`.
    """
    if path.suffix.lower() == ".parquet":
        # Without pre-buffering a row group is read page by page and never held as a whole.
        with load_pyarrow().parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            for number in range(start, len(rows) if stop is None else stop):
                yield RowGroup(file, number, sum(rows[:number]))
        return
    with load_pyarrow().memory_map(str(path)) as mapped:
        reader, first_row = _open_arrow(mapped), 0
        whole = hasattr(reader, "num_record_batches")
        batches = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
        for batch in batches:
            yield Batch(batch, first_row)
            first_row += batch.num_rows


def column(table: Any, name: str) -> Iterator[Any]:
    """The cells of a column of a table or record batch; `image.path` is a field of `image` if need be."""
    if name in table.schema.names:
        return iter(table.column(name))
    outer, inner = name.rsplit(".", 1)
    structs = table.column(outer)
    chunks = structs.chunks if hasattr(structs, "chunks") else [structs]
    return itertools.chain.from_iterable(chunk.field(inner) for chunk in chunks)


def _open_arrow(file: Any) -> Any:
    """Opens an Arrow file of either kind: a stream (as Hugging Face `datasets` writes) or random access."""
    ipc = load_pyarrow().ipc
    magic = file.read(len(_MAGIC))
    file.seek(0)
    return ipc.open_file(file) if magic == _MAGIC else ipc.open_stream(file)
