"""Files of arrays by name, of any tool: safetensors, PyTorch, NumPy, T5X. Nothing is unpickled.

A path is a file, or a folder as Hugging Face keeps models: one file, or an index that names several. A
`config.json` beside them is read too; a safetensors file of this project says itself which model it is of.
"""

import dataclasses
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from flax import traverse_util

from richhf.pretrained.model_config import CONFIG, parse_json, read_json
from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint
from richhf.pretrained.tensor_file import TENSORS, read_tensors
from richhf.pretrained.torch_file import CHECKPOINTS, TORCH, read_torch, tells_damage

DESCRIPTION = "richhf"
"""The name in a safetensors file's metadata of what `config.json` would say, as JSON."""
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a folder of a model may hold, the first that is there."""


PART = re.compile(r"-(\d+)-of-(\d+)\.\w+$")
"""The end of the name of one file of several."""
LFS = b"version https://git-lfs"
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of PyTorch's files before version 1.6."""


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
    part = PART.search(path.name)
    if part and int(part[2]) > 1 and path.is_file():
        raise ValueError(
            f"{path} is part {int(part[1])} of {int(part[2])} of some weights: give the folder "
            f"{path.parent}, or the index in it (.index.json)."
        )
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
    """Returns what reads a file: by its first bytes, or else by its ending.

    Raises:
        ValueError: neither is of a known kind, or the file is empty or only stands for another.
    """
    endings = {TENSORS: _read_safetensors, ".npz": _read_npz} | dict.fromkeys(
        (*TORCH, *CHECKPOINTS), _read_torch
    )
    by_ending = endings.get(file.suffix.lower())
    with file.open("rb") as stream:
        start = stream.read(len(LFS))
    if start.startswith(LFS):
        raise ValueError(f"{file} is a pointer of Git LFS, not the weights: fetch them with git lfs pull.")
    reader = _reader_of_content(file, start) or by_ending
    if reader is None:
        raise ValueError(
            f"{file} is of no known kind of weights: found the ending {file.suffix!r}, expected one of "
            f"{', '.join(endings)}, or a folder with {_expected()}."
        )
    if not start:
        raise ValueError(f"{file} is empty, 0 bytes; expected weights. Fetch or write the file again.")
    return reader


def _reader_of_content(file: Path, start: bytes) -> Callable[[Path], WeightFile] | None:
    if start.startswith(LEGACY_TORCH):
        return _read_torch
    if start[8:9] == b"{" and 8 + int.from_bytes(start[:8], "little") <= file.stat().st_size:
        return _read_safetensors
    if start.startswith(b"PK") and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as content:
            names = content.namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return _read_torch
        return _read_npz if any(name.endswith(".npy") for name in names) else None
    return None


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
            if kind := re.search(r"not a valid dtype descriptor: (.*)", str(error)):
                raise ValueError(_unnamed_type(file, name, kind[1])) from error
            text = f" at {name}" if name else ""
            raise ValueError(f"{file} is damaged{text}: {error or type(error).__name__}") from error
    return WeightFile(file, {name: _with_type(array, name, file) for name, array in arrays.items()})


def _with_type(array: np.ndarray, name: str, file: Path) -> np.ndarray:
    """Returns an array of an npz file with its type, where NumPy wrote only its size in bytes: bfloat16's."""
    if array.dtype.kind != "V":
        return array
    if array.dtype.itemsize == 2 and array.dtype.names is None:
        return array.view(ml_dtypes.bfloat16)
    raise ValueError(_unnamed_type(file, name, repr(array.dtype.str)))


def _unnamed_type(file: Path, name: str, kind: str) -> str:
    return (
        f"{file}: {name} is of the type {kind}, by which npz does not say what its numbers are (8 bits, or "
        "several fields); expected 16 bits or more: where it comes from, save it as bfloat16 or float32."
    )


def _read_torch(file: Path) -> WeightFile:
    arrays, notes = read_torch(file)
    return WeightFile(file, arrays, notes=notes)
