"""Files of arrays by name, whoever wrote them: safetensors, PyTorch, NumPy, T5X; nothing is unpickled.

A path is a file, or a folder as Hugging Face keeps models: one file, or an index that names several, beside a
`config.json`.
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint

CONFIG = "config.json"
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a folder of a model may hold, the first that is there."""

WRAPPERS = ("state_dict", "model")


@dataclasses.dataclass(frozen=True, eq=False)
class WeightFile:
    """What a path holds.

    Attributes:
        path: the file or folder that was read.
        arrays: by name.
        config: of `config.json` beside them, if there is one.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    config: Mapping[str, Any] | None = None


def read_weights(path: str | os.PathLike) -> WeightFile:
    """Reads all arrays of a file or folder.

    Raises:
        ValueError: there is nothing, it is of no known kind, or damaged; it says what was found.
        ImportError: it is a file of PyTorch, which is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; expected a file of weights or a folder with one.")
    if path.is_dir():
        if folder := find_t5x_checkpoint(path):
            return WeightFile(folder, traverse_util.flatten_dict(read_t5x_checkpoint(folder), sep="/"))
        file = next((path / name for name in FILES if (path / name).is_file()), None)
        if file is None:
            raise ValueError(f"{path} holds no weights: found {_listing(path)}; expected {_expected()}.")
        config = _read_json(path / CONFIG) if (path / CONFIG).is_file() else None
        return WeightFile(path, _read_indexed(file), config)
    return WeightFile(path, _read_indexed(path))


def _expected() -> str:
    return f"{', '.join(FILES)}, or a checkpoint of T5X"


def _listing(folder: Path) -> str:
    names = sorted(one.name for one in folder.iterdir())
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def _read_indexed(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, or of all files that an index names."""
    if file.suffix != ".json":
        return _reader(file)(file)
    places = _read_json(file).get("weight_map")
    if not isinstance(places, dict):
        raise ValueError(f"{file} is no index: expected a weight_map of names to files.")
    parts = sorted({*places.values()})
    outside = [part for part in parts if Path(part).name != part]
    if outside:
        raise ValueError(f"{file} names {outside[0]!r}; expected files in its own folder.")
    arrays: dict[str, np.ndarray] = {}
    for part in parts:
        if not (file.parent / part).is_file():
            raise ValueError(f"{file.parent / part} is missing: {file.name} names it. Fetch all files again.")
        arrays |= _reader(file.parent / part)(file.parent / part)
    lost = [name for name in places if name not in arrays]
    if lost:
        raise ValueError(f"{file} names {len(lost)} arrays that its files lack, the first is {lost[0]}.")
    return arrays


def _reader(file: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz}
    readers |= dict.fromkeys((".bin", ".pt", ".pth"), _read_torch)
    if file.suffix not in readers:
        raise ValueError(
            f"{file} is of no known kind of weights: found the ending {file.suffix!r}, expected one of "
            f"{', '.join(readers)}, or a folder with {_expected()}."
        )
    return readers[file.suffix]


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged or no safetensors file: {error}") from error


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{file} is damaged, or not an npz file of plain arrays: {error}") from error


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{file} is a file of PyTorch, which is not installed: pip install 'richhf[parity]' (or torch), "
            "or give the weights as safetensors."
        ) from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # What is no file of weights, or holds more than weights: pickles of code are never run.
        text = str(error).splitlines()[0]
        raise ValueError(f"{file} is damaged, or not a file of weights alone: {text}") from error
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    tensors = content if isinstance(content, dict) else {}
    other = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if not tensors or other:
        found = f"{other[0]!r} is no array" if other else f"found {type(content).__name__}"
        raise ValueError(f"{file} is no state_dict: {found}; expected arrays by name.")
    return {name: _to_numpy(value) for name, value in tensors.items()}


def _to_numpy(tensor: Any) -> np.ndarray:
    import ml_dtypes
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged, it cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type(content).__name__}; expected values by name.")
    return content
