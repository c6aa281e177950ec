"""The files of a folder that somebody else has made: listed in a fixed order, and recognised again."""

import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from richhf.feedback import SPLITS

_SPLIT_NAMES = {split: split for split in SPLITS} | dict.fromkeys(("validation", "valid", "val"), SPLITS[1])
_SPLIT = re.compile(rf"(?:^|[/_.\-])({'|'.join(_SPLIT_NAMES)})(?=[/_.\-]|$)")
_POINTER = b"version https://git-lfs"


def list_files(root: pathlib.Path, suffixes: Iterable[str]) -> list[str]:
    """Lists the files under a folder that end so (in any letter case), hidden ones left out.

    Links to folders are followed, but none to a folder that the way there leads through.

    Returns:
        their paths relative to `root`, with `/` between parts, sorted.

    Raises:
        FileNotFoundError: if `root` does not exist.
        OSError: if the system cannot list it or a folder in it.
    """
    if not root.is_dir():
        what = f"is a file; expected its folder, {root.parent}" if root.exists() else "does not exist"
        raise FileNotFoundError(f"{root} {what}")
    suffixes, found = frozenset(suffixes), []
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        way = {os.path.realpath(folder), *map(os.path.realpath, pathlib.Path(folder).parents)}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) not in way
        ]
        for name in names:
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("."):
                found.append(pathlib.Path(folder, name).relative_to(root).as_posix())
    return sorted(found)


def _raise(error: OSError) -> NoReturn:
    raise error


def describe_files(root: pathlib.Path, names: Sequence[str]) -> dict[str, Any]:
    """Says which files these are: how many, how large, and a checksum of their names and sizes."""
    sizes = [(root / name).stat().st_size for name in names]
    listing = "".join(f"{name}\t{size}\n" for name, size in zip(names, sizes, strict=True))
    return {
        "files": len(names),
        "bytes": sum(sizes),
        "listing": hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16],
    }


def stamp_files(root: pathlib.Path, names: Sequence[str]) -> str:
    """A checksum of names, sizes and times of the last change: files with the same one have not changed."""
    stats = [(root / name).stat() for name in names]
    stamps = [(name, one.st_size, one.st_mtime_ns) for name, one in zip(names, stats, strict=True)]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()


def refuse_pointers(root: pathlib.Path, names: Sequence[str]) -> None:
    """Passes if no file is a mere pointer of Git LFS.

    Raises:
        ValueError: naming the first that is.
    """
    for name in names:
        with (root / name).open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ValueError(
                    f"{root / name} is a pointer of Git LFS, not the file itself; "
                    f"run `git lfs pull` in {root} first"
                )


def split_of(name: str) -> str | None:
    """The split that a relative path names in a folder or in the file's name, the last if it names several.

    Example: `data/validation-00000-of-00002.parquet` is `dev`.
    """
    found = _SPLIT.findall(name.lower())
    return _SPLIT_NAMES[found[-1]] if found else None
