"""Files of arrays by name, whoever wrote them: safetensors, PyTorch, NumPy, T5X; nothing is unpickled.

A path is a file, or a folder as Hugging Face keeps models: one file, or an index that names several. A
`config.json` beside them is read too; a safetensors file of this project says itself which model it is of.
"""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from richhf.pretrained.model_config import CONFIG, parse_json, read_json
from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint
from richhf.pretrained.tensor_file import TENSORS, read_tensors
from richhf.pretrained.torch_file import TORCH, read_torch, tells_damage

DESCRIPTION = "richhf"
"""The name in a safetensors file's metadata of what `config.json` would say, as JSON."""
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a folder of a model may hold, the first that is there."""


@dataclasses.dataclass(frozen=True, eq=False)
class WeightFile:
    """What a path holds.

    Attributes:
        path: the file or folder that was read.
        arrays: by name.
        told: what the file itself says of its model; None: nothing.
        beside: the `config.json` beside it; None: there is none.
        notes: what was left out in reading, for people.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    told: Mapping[str, Any] | None = None
    beside: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Mapping[str, Any] | None:
        """What the file says of its model, or else the `config.json` beside it, which is read only now.

        Raises:
            ValueError: that one is damaged, or another's.
        """
        if self.told is not None or self.beside is None:
            return self.told
        try:
            return read_json(self.beside)
        except ValueError as error:
            raise ValueError(f"{error} (If it is not of {self.path}, move it away.)") from error

    @property
    def config_source(self) -> str:
        """Where that is from, for errors."""
        return f"the metadata ({DESCRIPTION}) of {self.path}" if self.beside is None else str(self.beside)


def read_weights(path: str | os.PathLike) -> WeightFile:
    """Reads all arrays of a file or folder.

    Raises:
        ValueError: there is nothing, it is of no known kind, or damaged; it says what was found.
        ImportError: it is a file of PyTorch, which is not installed.
    """
    path = Path(path)
    check_exists(path)
    file = path
    if path.is_dir():
        if folder := find_t5x_checkpoint(path):
            return WeightFile(folder, traverse_util.flatten_dict(read_t5x_checkpoint(folder), sep="/"))
        there = next((path / name for name in FILES if (path / name).is_file()), None)
        if there is None:
            raise ValueError(f"{path} holds no weights: found {_listing(path)}; expected {_expected()}.")
        file = there
    found = dataclasses.replace(_read_indexed(file), path=path)
    beside = file.parent / CONFIG
    return dataclasses.replace(found, beside=beside) if found.told is None and beside.is_file() else found


def check_exists(path: Path) -> None:
    """Raises ValueError unless there is a file or folder."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; expected a file of weights or a folder with one.")


def _expected() -> str:
    return f"{', '.join(FILES)}, or a checkpoint of T5X"


def _listing(folder: Path) -> str:
    names = sorted(one.name for one in folder.iterdir())
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def _read_indexed(file: Path) -> WeightFile:
    """The arrays of a file, or of all files that an index names."""
    if file.suffix.lower() != ".json":
        return _reader(file)(file)
    places = read_json(file).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
        raise ValueError(f"{file} is no index: expected a weight_map of names to files.")
    parts = sorted({*places.values()})
    outside = [part for part in parts if Path(part).name != part]
    if outside:
        raise ValueError(f"{file} names {outside[0]!r}; expected files in its own folder.")
    missing = next((part for part in parts if not (file.parent / part).is_file()), None)
    if missing:
        raise ValueError(f"{file.parent / missing} is missing: {file.name} names it. Fetch all files again.")
    arrays: dict[str, np.ndarray] = {}
    notes: tuple[str, ...] = ()
    for part in parts:
        read = _reader(file.parent / part)(file.parent / part)
        arrays |= read.arrays
        notes += read.notes
    lost = [name for name in places if name not in arrays]
    if lost:
        raise ValueError(f"{file} names {len(lost)} arrays that its files lack, the first is {lost[0]}.")
    return WeightFile(file, arrays, notes=notes)


def _reader(file: Path) -> Callable[[Path], WeightFile]:
    readers = {TENSORS: _read_safetensors, ".npz": _read_npz} | dict.fromkeys(TORCH, _read_torch)
    if file.suffix.lower() not in readers:
        raise ValueError(
            f"{file} is of no known kind of weights: found the ending {file.suffix!r}, expected one of "
            f"{', '.join(readers)}, or a folder with {_expected()}."
        )
    return readers[file.suffix.lower()]


def _read_safetensors(file: Path) -> WeightFile:
    arrays, metadata = read_tensors(file)
    told = metadata.get(DESCRIPTION)
    where = f"the metadata ({DESCRIPTION}) of {file}"
    return WeightFile(file, arrays, None if told is None else parse_json(told, where))


def _read_npz(file: Path) -> WeightFile:
    with file.open("rb") as stream:
        if stream.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
            raise ValueError(f"{file} is an npy file, one array without a name; expected an npz file.")
        if not zipfile.is_zipfile(stream):
            raise ValueError(f"{file} is damaged, or no npz file.")
        stream.seek(0)
        arrays: dict[str, np.ndarray] = {}
        name = ""
        try:
            with np.load(stream, allow_pickle=False) as content:
                for name in content.files:
                    arrays[name] = content[name]
        except Exception as error:
            if not tells_damage(error):
                raise
            # NumPy's own message tells how to unpickle it all the same.
            if "pickle" in str(error):
                raise ValueError(
                    f"{file}: {name} is no array of numbers but pickled, and nothing is ever unpickled here: "
                    "where it comes from, save plain arrays, or safetensors."
                ) from error
            text = f" at {name}" if name else ""
            raise ValueError(f"{file} is damaged{text}: {error or type(error).__name__}") from error
    return WeightFile(file, arrays)


def _read_torch(file: Path) -> WeightFile:
    arrays, notes = read_torch(file)
    return WeightFile(file, arrays, notes=notes)
