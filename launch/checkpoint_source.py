"""Checkpoints that weights can come from: those of `launch.train`, and those of T5X."""

import os
from pathlib import Path
from typing import Any

from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint
from richhf.training.saved_params import find_checkpoint, load_initial_params, restore_params


def find_weights(checkpoint: str | os.PathLike, step: int | None = None) -> Path:
    """The folder of one step.

    Args:
      checkpoint: a run's folder, or one step's.
      step: which step of a run; None: the latest.

    Raises:
      ValueError: there is no such checkpoint.
    """
    return find_t5x_checkpoint(checkpoint, step) or find_checkpoint(checkpoint, step)


def run_folder(folder: Path) -> Path:
    """The folder of the run that one step's folder is of: T5X has no `checkpoints` between them."""
    return folder.parent if find_t5x_checkpoint(folder) else folder.parent.parent


def step_number(folder: Path) -> int:
    """The step in the name of its folder, `<step>` or T5X's `checkpoint_<step>`."""
    return int(folder.name.rpartition("_")[2])


def read_weights(checkpoint: str | os.PathLike) -> dict[str, Any]:
    """The parameters (their moving average where there is one) as nested dicts of numpy arrays.

    Args:
      checkpoint: as for `find_weights`.

    Raises:
      ValueError: there is no such checkpoint, or it is damaged.
    """
    if find_t5x_checkpoint(checkpoint):
        return read_t5x_checkpoint(checkpoint)
    return restore_params(checkpoint)


def load_weights(checkpoint: str | os.PathLike, target: Any) -> Any:
    """Those parameters, placed like target; arguments and errors as of `load_initial_params`."""
    return load_initial_params(checkpoint, target, read=read_weights)
