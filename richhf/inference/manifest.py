"""What an output folder was made from: settings that it goes on with, and no other."""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from richhf.atomic import atomic_path
from richhf.inference.inputs import shortened

MANIFEST = "manifest.json"
_LISTED = 8
_INPUTS = "inputs."


def claim_folder(folder: str | os.PathLike, manifest: Mapping[str, Any], *, write: bool = True) -> bool:
    """Begins an output folder, or goes on with one that was made from the same.

    Args:
      folder: the output folder.
      manifest: what is to be written there, from what; JSON values, nested by name.
      write: whether this process begins a new folder; another one does if not.

    Returns:
      Whether the folder is this job's now; False only if another process has yet to begin it.

    Raises:
      ValueError: the folder was made from something else, or holds other files.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if path.exists():
        _check_same(path, manifest)
        return True
    if not write:
        return False
    check_writable(folder)
    if others := sorted(one.name for one in folder.iterdir() if not one.name.startswith(f".{MANIFEST}")):
        raise ValueError(
            f"{folder} holds {others[0]!r} and no {MANIFEST}: expected an empty folder, or one that this "
            "command began (OUTPUT_DIR)."
        )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return True


def check_writable(folder: str | os.PathLike) -> None:
    """Makes a folder if need be, and raises ValueError where that or writing to it fails."""
    folder = Path(folder)
    try:
        places = (folder, *folder.parents)
        in_the_way = next((place for place in places if place.exists() and not place.is_dir()), None)
        if in_the_way is None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(4096))
            return
        why = f"{in_the_way} is a file"
    except (OSError, ValueError) as error:  # ValueError: a null byte
        why = getattr(error, "strerror", None) or str(error)
    raise ValueError(
        f"OUTPUT_DIR, {shortened(str(folder))}, cannot be written to: {why}. Give a folder, new or not, in a "
        "place that has free space and where you have permission to write."
    )


def check_outside(folder: str | os.PathLike, source: str | os.PathLike) -> None:
    """Raises ValueError where an output folder would lie among the inputs, and outputs be taken for some."""
    inputs, outputs = Path(source).resolve(), Path(folder).resolve()
    if inputs.is_dir() and outputs.is_relative_to(inputs):
        raise ValueError(
            f"OUTPUT_DIR, {folder}, lies in INPUT, {source}: the maps would be taken for inputs the next "
            "time. Give a folder elsewhere."
        )


def describe(value: Any) -> Any:
    """A configuration (dataclasses, dtypes) as JSON values, nested by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): describe(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [describe(one) for one in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def weights_digest(params: Any) -> str:
    """A checksum of parameters: names, shapes and values."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _check_same(path: Path, manifest: Mapping[str, Any]) -> None:
    try:
        there = _flat(_manifest(json.loads(path.read_text(encoding="utf-8"))))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): take a new OUTPUT_DIR.") from error
    now = _flat(json.loads(json.dumps(manifest)))
    names = [name for name in {**now, **there} if _shown(there, name) != _shown(now, name)]
    others = [name for name in names if not name.startswith(_INPUTS)]
    if not any(name.startswith(_INPUTS) for name in now):  # It may have any inputs.
        names = others
    differences = [f"{name}: there {_shown(there, name):.60}, now {_shown(now, name):.60}" for name in others]
    if names != others:
        inputs = _told_inputs(there, now)
        if not others:
            raise ValueError(
                f"{path.parent} was made from other inputs: {inputs}. Its shards are numbered by input and "
                "serve one list of inputs only. Take another OUTPUT_DIR, or an empty one."
            )
        differences = [f"inputs: {inputs}", *differences]
    if differences:
        more = [f"... and {len(differences) - _LISTED} more"] if len(differences) > _LISTED else []
        listed = "\n  ".join(differences[:_LISTED] + more)
        raise ValueError(
            f"{path.parent} was made from something else ({len(differences)} differences):\n  {listed}\n"
            "Run the command that began it to go on, or take a new OUTPUT_DIR."
        )


def _manifest(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, expected settings by name")
    return found


def _told_inputs(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is known of how inputs differ, instead of their checksums (`inputs.describe_inputs`)."""
    (before, latest), (first, second) = (
        [_shown(tree, f"{_INPUTS}{name}").strip('"') for tree in (there, now)]
        for name in ("last_change", "count")
    )
    last = f" (the latest at {latest})" if latest != before else ""
    numbers = f"; there {first}, now {second}" if first != second else ""
    return f"images or prompts were added, removed or changed since{last}{numbers}"


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "nothing"


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat
