"""Checkpoints that weights can come from: those of `launch.train`, and those of T5X."""

import os
from pathlib import Path
from typing import Any

from launch.gin_config import ConfigError, macros
from richhf.data.prompts import TASK_STRINGS
from richhf.inference.load import MODEL_FILE
from richhf.pretrained.model_config import read_json
from richhf.pretrained.native import Settings, read_description
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


def recorded_settings(run_dir: Path) -> Settings | None:
    """Returns the settings that a run keeps in its `model.json`; None for a run that has none.

    Raises:
        ValueError: the file is damaged.
    """
    file = run_dir / MODEL_FILE
    return read_description(read_json(file), file)[1] if file.is_file() else None


def check_prompts(run_dir: Path) -> None:
    """Checks that prompts are put before the model as in the training of a run.

    Raises:
        ConfigError: PROMPT_FORM or TASK_STRINGS has another value.
    """
    settings = recorded_settings(run_dir)
    if settings is None:
        return
    recorded = {"PROMPT_FORM": settings.prompt_form, "TASK_STRINGS": settings.task_strings}
    for name, value in recorded.items():
        given = macros().get(name, value)
        if given != value and (given or TASK_STRINGS) != (value or TASK_STRINGS):
            raise ConfigError(
                f"{name} is {given!r}, but {run_dir / MODEL_FILE} says that the run was trained with "
                f"{value!r}. Set {name} to that value, or use a new MODEL_DIR."
            )


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
