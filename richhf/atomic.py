"""Files and folders that are there as a whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path in the same folder, made if need be; renamed to `path` when the block is done.

    An exception that ends the block (a full disk, Ctrl-C) leaves `path` as it was and nothing beside it; a
    killed process may leave the temporary file.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """As `atomic_path`, of a folder: gives an empty one, which in the end replaces the one there."""
    path = pathlib.Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)
