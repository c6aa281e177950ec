"""Digests of a checkpoint's files, written with them: damage is found before anything is read from them.

Orbax and TensorStore check the sizes and indices of what they read, not the values of arrays: a flipped bit
in an array's file is read as another value. `digests.json` in a step's folder holds the SHA-256 of every file
of the items beside it.
"""

import concurrent.futures
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

DIGESTS_FILE = "digests.json"
ALGORITHM = "sha256"


class DamagedError(ValueError):
    """The files of a checkpoint are not as they were written."""


class DamagedDigestsError(DamagedError):
    """The digests themselves cannot be read."""


def write_digests(folder: Path) -> None:
    """Writes the digests of all files in the subfolders of a step's folder.

    Raises:
      OSError: a file cannot be read, or the digests cannot be written.
    """
    files = sorted(path for item in folder.iterdir() if item.is_dir() for path in item.rglob("*"))
    names = [path.relative_to(folder).as_posix() for path in files if path.is_file()]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = dict(zip(names, pool.map(lambda name: _digest(folder / name), names), strict=True))
    (folder / DIGESTS_FILE).write_text(json.dumps({ALGORITHM: digests}, indent=0), encoding="utf-8")


def has_digests(folder: Path) -> bool:
    """Whether a step's folder has digests; checkpoints written by older versions have none."""
    return (folder / DIGESTS_FILE).exists()


def check_digests(folder: Path, items: Sequence[str], share: tuple[int, int] = (0, 1)) -> None:
    """Compares the files of some items with their digests; without digests it checks nothing.

    Args:
      folder: the folder of one step.
      items: names of its subfolders; one that the checkpoint was written without is not checked.
      share: (i, n): checks every n-th file from the i-th, where n processes share the work.

    Raises:
      DamagedError: a file is missing or differs from what was written, or the digests cannot be read.
      OSError: a file cannot be read for another reason.
    """
    if not has_digests(folder):
        return
    digests = _read_digests(folder)
    names = [name for name in sorted(digests) if name.partition("/")[0] in items][share[0] :: share[1]]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = pool.map(lambda name: _problem(folder / name, digests[name]), names)
        found = [f"{name} {problem}" for name, problem in zip(names, problems, strict=True) if problem]
    if found:
        others = f" (and {len(found) - 1} other files)" if len(found) > 1 else ""
        raise DamagedError(f"{found[0]}{others}")


def _read_digests(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
        return {name: str(digest) for name, digest in content[ALGORITHM].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDigestsError(f"{DIGESTS_FILE} cannot be read") from error


def _problem(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return "is missing"
    return None if _digest(path) == digest else "differs from what was written"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, ALGORITHM).hexdigest()
