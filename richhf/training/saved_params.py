"""What is in checkpoints that are there: their steps, and the parameters to predict with or start from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from richhf.training.saved_shapes import check_same, saved_shapes

SUBFOLDER = "checkpoints"
"""Of a run's folder."""


def restore_params(
    checkpoint: str | os.PathLike, step: int | None = None, *, ema: bool = True
) -> dict[str, Any]:
    """The parameters in a checkpoint, as nested dicts of numpy arrays.

    Args:
      checkpoint: a run's folder, its `checkpoints` folder, or one step's folder.
      step: which step; None takes the latest.
      ema: the moving average of the parameters where there is one.

    Raises:
      ValueError: there is no such checkpoint.
    """
    folder = find_checkpoint(checkpoint, step)
    name = "ema_params" if ema and (folder / "ema_params").exists() else "params"
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved_shapes(folder / name))
    request = ocp.args.PyTreeRestore(restore_args=arguments)
    return ocp.PyTreeCheckpointHandler().restore(folder / name, args=request)


def has_checkpoints(model_dir: str | os.PathLike) -> bool:
    """Whether a run's folder holds the checkpoint of any step."""
    return bool(steps_in(Path(model_dir) / SUBFOLDER))


def steps_in(folder: Path) -> list[int]:
    """The steps whose checkpoints are whole in a `checkpoints` folder, in order."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def find_checkpoint(checkpoint: str | os.PathLike, step: int | None = None) -> Path:
    """The folder of one step; arguments and errors as for `restore_params`."""
    given = Path(checkpoint).absolute()
    if (given / "params").is_dir() and given.name.isdigit() and step is None:
        return given
    folder = given / SUBFOLDER if (given / SUBFOLDER).is_dir() else given
    steps = steps_in(folder)
    if not steps or (step is not None and step not in steps):
        wanted = "a checkpoint" if step is None else f"a checkpoint of step {step}"
        raise ValueError(
            f"no {wanted.removeprefix('a ')} in {given}: found steps {steps or 'none'}; give a run's "
            f"MODEL_DIR, its {SUBFOLDER} folder, or {SUBFOLDER}/<step>."
        )
    return folder / str(steps[-1] if step is None else step)


def load_initial_params(
    checkpoint: str | os.PathLike, target: Any, read: Callable[[Any], Any] | None = None
) -> Any:
    """Parameters to start a new run from, checked against the model's.

    Args:
      checkpoint: as for `restore_params`; its moving average is taken where there is one.
      target: the model's parameters as jax.ShapeDtypeStruct with shardings.
      read: gives a checkpoint's parameters as nested dicts of numpy arrays, with None where a parameter is
        to start fresh; None: `restore_params`.

    Returns:
      A tree like target of arrays placed by its shardings, and of None.

    Raises:
      ValueError: a parameter is missing there, is not in the model, or has another shape; all are listed.
    """
    params = (read or restore_params)(checkpoint)
    check_same(params, target, f"the checkpoint {checkpoint}")

    def placed(value: np.ndarray | None, like: jax.ShapeDtypeStruct) -> jax.Array | None:
        return None if value is None else place(value, like)

    return jax.tree.map(placed, params, target, is_leaf=lambda x: x is None)


def place(value: np.ndarray, target: jax.ShapeDtypeStruct) -> jax.Array:
    """An array that each process has whole, as one placed like target."""
    value = value.astype(target.dtype)
    return jax.make_array_from_callback(value.shape, target.sharding, value.__getitem__)
