"""The folder that an export is written to: a new one, an empty one, or an earlier export, whole and alone.

An export replaces its whole folder. So a folder that is there is replaced only if it says itself that it is
an export of this project, and holds nothing but the files that one has.
"""

import fnmatch
import json
import os
from pathlib import Path

from richhf.inference.export_signature import SIGNATURE
from richhf.pretrained.destination import check_writable
from richhf.pretrained.native import CARD, CONFIG, VOCABULARY, WEIGHTS, holds_model

FILES = {
    "native": (CONFIG, WEIGHTS, VOCABULARY, CARD),
    "stablehlo": ("model.stablehlo", "weights.npz", SIGNATURE, VOCABULARY),
    "saved_model": (
        *("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-*"),
        *(SIGNATURE, VOCABULARY),
    ),
    "onnx": ("model.onnx", "model.onnx.data", SIGNATURE, VOCABULARY),
}
"""The files of each format, as patterns of their paths in its folder."""
SIGNED = {"inputs", "outputs", "scores", "heatmaps", "prompt_prefixes"}
"""What a `signature.json` of this project has beside its format."""


def export_format(folder: str | os.PathLike) -> str | None:
    """The format that a folder says it is an export of; None: it is none of this project's."""
    if holds_model(folder):
        return "native"
    try:
        signature = json.loads((Path(folder) / SIGNATURE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(signature, dict) or not signature.keys() >= SIGNED:
        return None
    found = signature.get("format")
    return found if isinstance(found, str) and found in FILES else None


def check_replaceable(folder: str | os.PathLike) -> None:
    """Raises ValueError unless an export may be written to a folder: nothing else is ever replaced."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected the folder to write to (EXPORT_DIR).")
    check_writable(folder)
    there = sorted(_files(folder)) if folder.exists() else []
    if not there:
        return
    written = export_format(folder)
    if written is None:
        raise ValueError(
            f"{folder} holds {there[0]!r} and is no export: expected an empty folder, or one that this "
            "command has written before, which it replaces (EXPORT_DIR)."
        )
    for name in there:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in FILES[written]):
            raise ValueError(
                f"{folder} is an export ({written}), but {name!r} in it is not of the export, and would be "
                "lost, for the whole folder is replaced: move it, or give another folder (EXPORT_DIR)."
            )


def check_apart(folder: str | os.PathLike, source: str | os.PathLike, *, may_lie_in: bool = True) -> None:
    """Raises ValueError where an export would replace what it is made from, or lie in it unless it may."""
    ours, theirs = Path(folder).resolve(), Path(source).resolve()
    if ours == theirs:
        how = "is"
    elif theirs in ours.parents and not may_lie_in:
        how = "lies in"
    elif ours in theirs.parents:
        how = "holds"
    else:
        return
    raise ValueError(
        f"EXPORT_DIR, {folder}, {how} what is to be exported, {source}, and an export replaces its whole "
        "folder: give one elsewhere."
    )


def _files(folder: Path) -> list[str]:
    """All that lies in a folder, but for folders in it, as paths; links are not followed."""
    found = (one for one in folder.rglob("*") if one.is_symlink() or not one.is_dir())
    return [one.relative_to(folder).as_posix() for one in found]
