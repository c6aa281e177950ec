"""Checkpoints as T5X keeps them, read and written without T5X.

    MODEL_DIR/checkpoint_<step>/checkpoint       msgpack: version, and the tree under `optimizer`; an array is
                                                 there itself, or as a TensorStore spec that names its folder
    MODEL_DIR/checkpoint_<step>/target.<path>/   zarr array, beside the first
    MODEL_DIR/checkpoint_<step>/state/           Orbax tree: what T5X writes since it uses Orbax

Either tree is {"target": parameters, "state": {"step", "param_states"}} (github.com/google-research/t5x,
t5x/checkpoints.py). The first form is that of the published T5 checkpoints too.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from flax import serialization, traverse_util

from richhf.atomic import atomic_path

FOLDER = re.compile(r"checkpoint_(\d+)")
FILE, ORBAX = "checkpoint", "state"
VERSION = 3
OLDEST_VERSION = 2
ARRAY_SPEC = {"driver", "kvstore", "metadata"}


def find_t5x_checkpoint(path: str | os.PathLike, step: int | None = None) -> Path | None:
    """The folder of a checkpoint of T5X, if there is one; arguments as for `read_t5x_checkpoint`."""
    path = Path(path).absolute()
    steps = _steps(path)
    if step is None and _is_one(path):
        return path
    wanted = (steps[-1] if steps else None) if step is None else step
    return path / f"checkpoint_{wanted}" if wanted in steps else None


def read_t5x_checkpoint(path: str | os.PathLike, step: int | None = None) -> dict[str, Any]:
    """The parameters in a checkpoint of T5X.

    Args:
        path: a local folder: a run's, with `checkpoint_<step>` in it, or one step's.
        step: which step of a run; None takes the latest.

    Returns:
        Nested dict of numpy arrays, of the dtypes that they were saved in (bfloat16 is that of ml_dtypes).

    Raises:
        ValueError: there is no such checkpoint, it is of a version that T5X no longer reads, or damaged.
    """
    folder = find_t5x_checkpoint(path, step)
    if folder is None:
        there = ", ".join(map(str, _steps(Path(path)))) or "none"
        wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
        raise ValueError(
            f"no {wanted} of T5X in {os.fspath(path)}: found steps {there}; give a run's MODEL_DIR, or its "
            "folder checkpoint_<step>."
        )
    return _read_orbax(folder / ORBAX) if (folder / ORBAX).is_dir() else _read_msgpack(folder)


def write_t5x_checkpoint(model_dir: str | os.PathLike, params: Mapping[str, Any], step: int) -> Path:
    """Writes parameters as a checkpoint of T5X: one file, which its train, eval and infer restore.

    There is no state of an optimizer in it: training starts with a fresh one (gin/t5x/train.gin).

    Args:
        model_dir: a run's folder, made if need be.
        params: nested dict of arrays.
        step: the number of steps that they were trained for.

    Returns:
        The folder of the checkpoint, `model_dir/checkpoint_<step>`.
    """
    folder = Path(model_dir) / f"checkpoint_{step}"
    tree = {"target": jax.tree.map(np.asarray, dict(params)), "state": {"step": np.int32(step)}}
    with atomic_path(folder / FILE) as temporary:
        temporary.write_bytes(serialization.to_bytes({"version": VERSION, "optimizer": tree}))
    return folder


def _steps(path: Path) -> list[int]:
    """The steps whose checkpoints are in a run's folder."""
    found = ((FOLDER.fullmatch(one.name), one) for one in path.glob("checkpoint_*"))
    return sorted(int(match[1]) for match, one in found if match and _is_one(one))


def _is_one(folder: Path) -> bool:
    if (folder / ORBAX).is_dir():
        return FOLDER.fullmatch(folder.name) is not None
    if not (folder / FILE).is_file():
        return False
    with (folder / FILE).open("rb") as file:
        # A mapping of msgpack; TensorFlow has a text file of this name.
        return file.read(1) >= b"\x80"


def _read_msgpack(folder: Path) -> dict[str, Any]:
    try:
        content = serialization.msgpack_restore((folder / FILE).read_bytes())
    except Exception as error:
        raise ValueError(f"{folder / FILE} is damaged or no checkpoint of T5X: {error}") from error
    version = content.get("version", 0) if isinstance(content, dict) else 0
    if version < OLDEST_VERSION or "target" not in content.get("optimizer", {}):
        raise ValueError(
            f"{folder / FILE} is of version {version} with {sorted(content)[:5]}; expected version "
            f"{OLDEST_VERSION} or later with optimizer/target in it. Restore and save it with an older T5X."
        )
    flat = traverse_util.flatten_dict(content["optimizer"]["target"], is_leaf=lambda _, x: _is_spec(x))
    # All are opened before the first is waited for.
    specs = {name: x for name, x in flat.items() if _is_spec(x)}
    reading = {name: _open(folder, name, spec) for name, spec in specs.items()}
    for name, future in reading.items():
        try:
            flat[name] = future.result().read().result()
        except ValueError as error:
            raise ValueError(f"{'/'.join(name)} of {folder} is missing or damaged: {error}") from error
    return traverse_util.unflatten_dict({name: np.asarray(x) for name, x in flat.items()})


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= ARRAY_SPEC


def _open(folder: Path, name: tuple[str, ...], spec: Mapping[str, Any]) -> Any:
    """Begins to read an array, from beside the file that names it, wherever it was written first."""
    import tensorstore

    place = PurePosixPath(spec["kvstore"].get("path") or spec.get("path", ""))
    if place.is_absolute() or ".." in place.parts or spec["driver"] != "zarr":
        raise ValueError(
            f"{folder / FILE} names {place} ({spec['driver']}) for {'/'.join(name)}; expected a zarr array "
            "in that folder."
        )
    store = {"driver": "file", "path": os.fspath(folder.absolute() / place)}
    return tensorstore.open({"driver": "zarr", "kvstore": store}, open=True)


def _read_orbax(folder: Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    folder, handler = folder.absolute(), ocp.PyTreeCheckpointHandler()
    try:
        target = {"target": handler.metadata(folder).tree["target"]}
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        request = ocp.args.PyTreeRestore(item=target, restore_args=arguments, partial_restore=True)
        return handler.restore(folder, args=request)["target"]
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise ValueError(f"{folder} is damaged or no checkpoint of T5X: {error}") from error
