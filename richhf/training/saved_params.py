"""What is in checkpoints that are there: their steps, and the parameters to predict with or start from."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from richhf.training.damage import is_damage, one_line
from richhf.training.digests import DamagedError, check_digests, has_digests
from richhf.training.saved_shapes import check_same, saved_shapes
from richhf.training.unfinished import ignore_unfinished

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
      DamagedError: it is damaged. None before it is taken: who predicts names the step that is meant.
    """
    folder = find_checkpoint(checkpoint, step)
    with explained_damage(folder):
        name = "ema_params" if ema else "params"
        # Raises too if the moving average was written and its folder is missing.
        check_digests(folder, (name,))
        if not (folder / name).exists():
            name = "params"
            check_digests(folder, (name,))
        shapes = saved_shapes(folder / name)
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        request = ocp.args.PyTreeRestore(restore_args=arguments)
        return ocp.PyTreeCheckpointHandler().restore(folder / name, args=request)


@contextlib.contextmanager
def explained_damage(folder: Path) -> Iterator[None]:
    """Turns errors of damage inside the block into a DamagedError that says what to do.

    Args:
      folder: the folder of one step.

    Raises:
      DamagedError: a file of the checkpoint is damaged.
    """
    ignore_unfinished()
    try:
        yield
    except Exception as error:
        # What has digests is damaged where they say so, and nowhere else.
        if not is_damage(error) or (has_digests(folder) and not isinstance(error, DamagedError)):
            raise
        others = [str(step) for step in steps_in(folder.parent) if step != int(folder.name)]
        hint = (
            f"Use another step (there are {', '.join(others)}), or run launch.train again, which resumes "
            "from the checkpoint before."
        )
        raise DamagedError(
            f"the checkpoint of step {folder.name} in {folder.parent} is damaged: {one_line(error)}. "
            f"{hint if others else 'There is no other checkpoint.'}"
        ) from error


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
