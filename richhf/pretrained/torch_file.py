"""One file of PyTorch: a state_dict, alone or in what training keeps; nothing is unpickled but arrays."""

import argparse
import errno
import pathlib
import re
from pathlib import Path
from typing import Any

import numpy as np

TORCH = (".pt", ".pth", ".bin")
"""Endings of such a file's name."""
CHECKPOINTS = (".ckpt", ".tar")
"""More endings that are read: of Lightning's checkpoints, and `.pth.tar`."""
OPTIMIZERS = re.compile(r"optim|sched|scaler|loops|callbacks")
"""Names under which a training's file keeps other arrays than weights."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Names under which a training's file keeps the weights."""
ELSEWHERE = "where it comes from, save its state_dict as safetensors."


def read_torch(file: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of a file, and notes: which part of it they are, where it holds more.

    Raises:
        ValueError: it is damaged, holds more than arrays, no weights or several; it says what was found.
        ImportError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{file} is a file of PyTorch, which is not installed: pip install torch, or give the "
            "weights as safetensors."
        ) from error
    try:
        with torch.serialization.safe_globals(_plain_values()):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if not tells_damage(error):
            raise
        # PyTorch's own message tells how to load it all the same, and to run what is in it.
        found = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        if found or "TorchScript" in str(error):
            more = found[1] if found else "a program, of TorchScript"
            raise ValueError(
                f"{file} holds more than arrays ({more}), and nothing is ever unpickled here: {ELSEWHERE}"
            ) from error
        raise ValueError(
            f"{file} is damaged, or not a file of weights alone that PyTorch wrote: {ELSEWHERE}"
        ) from error
    notes: list[str] = []
    while (name := _wrapper(content, file)) is not None:
        left = [repr(other) for other in content if other != name]
        if left:
            more = ["..."] * (len(left) > 8)
            notes.append(f"{name!r} in {file.name} is taken; left are {', '.join(left[:8] + more)}")
        content = content[name]
    tensors = content if isinstance(content, dict) else {}
    other = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if not tensors or other or not all(isinstance(name, str) for name in tensors):
        found_text = f"{other[0]!r} is no array" if other else f"found {type(content).__name__}"
        raise ValueError(f"{file} is no state_dict: {found_text}; expected arrays by name: {ELSEWHERE}")
    return {name: _to_numpy(value, name, file) for name, value in tensors.items()}, tuple(notes)


def tells_damage(error: Exception) -> bool:
    """Whether an error in reading is the file's, and not of the machine: no permission, a disk, memory."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # A place before the file's start was sought.
    return not isinstance(error, MemoryError)


def _wrapper(content: Any, file: Path) -> str | None:
    """The name in what training keeps that the weights have; None: the content is not wrapped."""
    if not isinstance(content, dict):
        return None
    there = [name for name in WRAPPERS if _holds_arrays(content.get(name))]
    others = _without_optimizers(content)
    if not there:
        there = [name for name, value in others.items() if _is_state_dict(value)]
    if not there:
        there = [name for name, value in others.items() if _wraps_state_dict(value)]
    if len(there) > 1:
        raise ValueError(
            f"{file} holds several sets of weights, {', '.join(map(repr, there))}, and does not say which "
            f"is meant: {ELSEWHERE.replace('its state_dict', 'that one alone')}"
        )
    return there[0] if there else None


def _holds_arrays(value: Any) -> bool:
    import torch

    if not isinstance(value, dict):
        return False
    return any(isinstance(one, torch.Tensor) or _holds_arrays(one) for one in value.values())


def _is_state_dict(value: Any) -> bool:
    import torch

    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(one, torch.Tensor) for one in value.values())


def _wraps_state_dict(value: Any) -> bool:
    if _is_state_dict(value):
        return True
    return isinstance(value, dict) and any(map(_wraps_state_dict, _without_optimizers(value).values()))


def _without_optimizers(content: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value for name, value in content.items() if not OPTIMIZERS.search(str(name).lower())}


def _plain_values() -> list[Any]:
    """Returns the types that training keeps beside arrays and that run no code: settings, NumPy's, paths."""
    scalar = np.dtype(np.float32).type(0).__reduce__()[0]
    types = {type(np.dtype(kind)) for kind in (*"?bBhHiIlLqQefdg", "S", "U")}
    numpy_names = [(scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")]
    path_names = [
        (pathlib.PurePosixPath, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ]
    return [argparse.Namespace, np.dtype, *types, *numpy_names, *path_names]


def _to_numpy(tensor: Any, name: str, file: Path) -> np.ndarray:
    import ml_dtypes
    import torch

    tensor = tensor.detach()
    try:
        if tensor.dtype == torch.bfloat16:
            return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        layout = str(tensor.layout).removeprefix("torch.")
        kind = f"{'' if layout == 'strided' else f'{layout}, '}{tensor.dtype} on {tensor.device}"
        raise ValueError(
            f"{file}: {name} is {kind}, no plain array: where it comes from, save it as "
            "one (to_dense(), dequantize(), float())."
        ) from error
