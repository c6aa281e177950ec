"""`dataset_info.json`: what a folder of records is, so that an interrupted command can go on in it."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from richhf.atomic import atomic_path

INFO = "dataset_info.json"
_SHOWN = 3  # differences listed before "..."


@dataclasses.dataclass(frozen=True)
class Shard:
    """A range of one split's records, and what the file that holds it is called."""

    split: str
    number: int
    shards: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"{self.split}-{self.number:05d}-of-{self.shards:05d}"

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.name}.tfrecord"


def claim(out: pathlib.Path, request: dict[str, Any], *, noun: str) -> dict[str, Any]:
    """Makes sure that `out` is for this request, and says so in it.

    Args:
      out: a folder that does not exist, is empty, or holds (a part of) what the same request made.
      request: what decides the bytes to be written, as JSON values.
      noun: what is being made, for the error.

    Returns:
      what `dataset_info.json` says now; its `complete` is true when nothing is left to do.

    Raises:
      ValueError: if `out` is a file, somebody else's folder or another request's, naming what differs.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; expected a folder for the data set")
    if not (out / INFO).exists():
        if out.is_dir() and any(not path.name.endswith(".tmp") for path in out.iterdir()):
            raise ValueError(f"{out} is not empty and holds no {INFO}; choose a new folder or empty this one")
        info = {**request, "complete": False}
        write_info(out, info)
        return info
    info = read_info(out)
    if differing := list(_differences(info, request)):
        shown = "; ".join([*differing[:_SHOWN], *(["..."] if len(differing) > _SHOWN else [])])
        raise ValueError(f"{out} holds another {noun} ({shown}); choose another folder, or remove it first")
    for path in out.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    return info


def _differences(found: dict[str, Any], asked: dict[str, Any], within: str = "") -> Iterator[str]:
    for name, value in asked.items():
        there = found.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            yield from _differences(there, value, f"{within}{name}: ")
        elif there != value:
            yield f"{within}{name} {there!r} there, {value!r} asked for"


def read_info(out: pathlib.Path) -> dict[str, Any]:
    """Reads `dataset_info.json`.

    Raises:
      ValueError: if it holds something else.
    """
    try:
        info = json.loads((out / INFO).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{out / INFO} is not readable JSON ({error}); remove the folder and make it again"
        ) from error
    if not isinstance(info, dict):
        raise ValueError(f"{out / INFO} holds a {type(info).__name__}, expected an object; remove the folder")
    return info


def write_info(out: pathlib.Path, info: dict[str, Any]) -> None:
    """Writes `dataset_info.json`."""
    write_json(out / INFO, info)


def write_json(path: pathlib.Path, value: object) -> None:
    """Writes a JSON file that appears only when it is complete."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file that appears only when it is complete."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | os.PathLike) -> str:
    """Checksum of a file, in hexadecimal digits."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def explain_failure(out: pathlib.Path) -> Iterator[None]:
    """Says what to do when the system fails: a full disk, an unreadable file, a worker that was killed."""
    try:
        yield
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was killed, perhaps for want of memory; run the command again: it goes on "
            "(fewer --workers take less)"
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full:
            if error.errno is None:
                raise
            where = f": {error.filename}" if error.filename else ""
            message = f"{error.strerror}{where}; see to it and run the command again: it goes on"
            raise OSError(error.errno, message) from error
        message = (
            f"the disk is full while writing {out}; free some space and run the command again: it goes on"
        )
        raise OSError(errno.ENOSPC, message) from error
