"""Feedback as files: `feedback.json`, and each map as `NAME.npy` (exact) and `NAME.png`."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from richhf.atomic import atomic_path
from richhf.feedback.findings import Rule
from richhf.feedback.names import HEATMAPS

FEEDBACK_FILE = "feedback.json"
FORMAT = 4  # since 2: confidences, text, thresholds; since 3: which words are covered; since 4: rules


def write_feedback(
    directory: str | os.PathLike,
    fields: Mapping[str, Any],
    heatmaps: Mapping[str, np.ndarray],
    overlays: Mapping[str, Image.Image],
) -> pathlib.Path:
    """Writes what `read_feedback` reads, the JSON file last; maps of an earlier save are removed.

    Returns:
      The path of the JSON file.
    """
    directory = pathlib.Path(directory)
    files: dict[str, np.ndarray | Image.Image] = {}
    for name, heatmap in heatmaps.items():
        files[f"{name}.npy"] = heatmap
        files[f"{name}.png"] = Image.fromarray(np.round(heatmap * 255).astype("u1"))
    files |= {f"{name}_overlay.png": overlay for name, overlay in overlays.items()}
    for file, content in files.items():
        _write(directory / file, content)
    stale = {f"{name}{end}" for name in HEATMAPS for end in (".npy", ".png", "_overlay.png")}
    for file in stale - files.keys():
        (directory / file).unlink(missing_ok=True)
    text = json.dumps({"format": FORMAT, **fields}, indent=2, ensure_ascii=False) + "\n"
    _write(directory / FEEDBACK_FILE, text)
    return directory / FEEDBACK_FILE


def read_feedback(directory: str | os.PathLike) -> dict[str, Any]:
    """The fields of a `Feedback` that was saved, and nothing else that the file says of it.

    Raises:
      OSError, KeyError, TypeError, ValueError, EOFError: a file is missing or damaged.
    """
    path = pathlib.Path(directory) / FEEDBACK_FILE
    saved = json.loads(path.read_text(encoding="utf-8"))
    if saved["format"] not in range(1, FORMAT + 1):
        raise ValueError(f"format {saved['format']!r}, but this version reads formats 1 to {FORMAT}")
    fields = {name: saved[name] for name in ("prompt", "scores")}
    fields |= {name: tuple(saved[name]) for name in ("words", "misaligned", "image_size")}
    fields["heatmaps"] = {
        name: np.load(path.with_name(f"{name}.npy"), allow_pickle=False) for name in saved["heatmaps"]
    }
    if saved["format"] > 1:
        fields["word_confidences"] = tuple(saved["word_confidences"])
        fields |= {name: saved[name] for name in ("keywords_text", "thresholds")}
    if saved["format"] > 2:
        fields["covered"] = tuple(saved["covered"])
    if saved["format"] > 3:
        fields["rules"] = tuple(Rule.from_dict(rule) for rule in saved["rules"])
    return fields


def _write(path: pathlib.Path, content: str | np.ndarray | Image.Image) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if isinstance(content, str):
            file.write(content.encode("utf-8"))
        elif isinstance(content, np.ndarray):
            np.save(file, content, allow_pickle=False)
        else:
            content.save(file, "PNG")
