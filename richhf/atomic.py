"""Files and folders that are there as a whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from richhf.interruption import cleaning_up, holding


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path in the same folder, made if need be; renamed to `path` when the block is done.

    An exception that ends the block (a full disk, Ctrl-C) leaves `path` as it was and nothing beside it; a
    killed process may leave the temporary file.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with cleaning_up(lambda: temporary.unlink(missing_ok=True)):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """As `atomic_path`, of a folder: gives an empty one, which in the end replaces the one there.

    A killed process may leave a hidden folder beside `path` that holds what was there, or what was to be.
    """
    path = pathlib.Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    temporary, old = beside / "new", beside / "old"
    with cleaning_up(lambda: shutil.rmtree(beside, ignore_errors=True)):
        try:
            temporary.mkdir()  # With the usual permissions; those of `beside` are its owner's alone.
            yield temporary
            with holding():
                if path.exists():
                    os.rename(path, old)
                os.rename(temporary, path)
        finally:
            if old.exists() and not path.exists():
                os.rename(old, path)  # Should this fail, `old` is kept.
            shutil.rmtree(beside, ignore_errors=True)
