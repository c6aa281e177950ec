"""Checkpoints: parameters, optimizer state and input position in one atomic Orbax folder a step.

    MODEL_DIR/checkpoints/<step>/{params,ema_params,opt_state,iterator}/

An interrupted save leaves only a temporary folder, which the next start removes.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from richhf.training.iterator_checkpoint import IteratorRestore, IteratorSave, MismatchError
from richhf.training.train_state import TrainState

SUBFOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one training run.

    Args:
      model_dir: the run's folder; they are in its subfolder `checkpoints`.
      keep: how many of the latest are kept.
    """

    def __init__(self, model_dir: str | os.PathLike, *, keep: int = 3):
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, got keep={keep}.")
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(keep),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(Path(model_dir).absolute() / SUBFOLDER, options=options)

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints there are, in order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, iterator: Any) -> None:
        """Writes one checkpoint; nothing if there is one of this step.

        Args:
          state: the train state.
          iterator: the input, at the position after state's last batch.

        Raises:
          OSError: it could not be written; the earlier ones are as they were.
        """
        step = int(state.step)
        if step in self.steps:
            return
        items = {"params": state.params, "opt_state": state.opt_state}
        if state.ema_params is not None:
            items["ema_params"] = state.ema_params
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        try:
            self._manager.save(
                step, args=ocp.args.Composite(**arguments, iterator=IteratorSave(iterator)), force=True
            )
        except Exception as error:
            raise OSError(
                f"the checkpoint of step {step} could not be written to {self._manager.directory}: {error}\n"
                f"Earlier checkpoints are intact: {self.steps or 'none'}. Free space or choose "
                "another folder, then run the same command again to go on."
            ) from error

    def restore(self, target: TrainState, iterator: Any) -> TrainState | None:
        """The latest readable checkpoint's state; None if there is no checkpoint.

        A damaged checkpoint is warned of, renamed to `damaged-<step>`, and the one before is taken. Errors
        that say nothing of the checkpoint (no permission, no memory) are raised as they are.

        Args:
          target: shapes, dtypes and shardings (jax.ShapeDtypeStruct) to restore to.
          iterator: the input, moved to the position it had.

        Raises:
          MismatchError: the checkpoint's parameters are not those of target, or its input is another one.
          ValueError: all checkpoints are damaged.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                state = self._restore_step(step, target, iterator)
            except Exception as error:
                if not is_damage(error):
                    raise
                damaged.append((step, error))
                continue
            for bad, cause in damaged:
                self._set_aside(bad, cause)
            return state
        if damaged:
            raise ValueError(
                f"no checkpoint under {self._manager.directory} can be read (tried steps "
                f"{[step for step, _ in damaged]}): {damaged[-1][1]}\nMove that folder away to start again."
            ) from damaged[-1][1]
        return None

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _restore_step(self, step: int, target: TrainState, iterator: Any) -> TrainState:
        folder = Path(self._manager.directory) / str(step)
        _check_same(saved_shapes(folder / "params"), target.params, f"the checkpoint {folder}")
        items = {"params": target.params, "opt_state": target.opt_state}
        if (folder / "ema_params").exists() != (target.ema_params is not None):
            raise MismatchError(
                f"the checkpoint {folder} was written with the moving average of parameters "
                f"{'off' if target.ema_params is not None else 'on'}; set ema_decay as it was, or take a new "
                "folder."
            )
        if target.ema_params is not None:
            items["ema_params"] = target.ema_params
        _check_same(
            saved_shapes(folder / "opt_state"), target.opt_state, f"the optimizer's state in {folder}"
        )
        arguments = {name: ocp.args.StandardRestore(item) for name, item in items.items()}
        restored = self._manager.restore(
            step, args=ocp.args.Composite(**arguments, iterator=IteratorRestore(iterator))
        )
        count = place(np.asarray(step, np.int32), target.step)
        return TrainState(count, restored["params"], restored["opt_state"], restored.get("ema_params"))

    def _set_aside(self, step: int, error: Exception) -> None:
        folder = Path(self._manager.directory)
        name = f"damaged-{step}"
        warnings.warn(
            f"the checkpoint of step {step} is damaged, set aside as {folder / name}: {error}", stacklevel=3
        )
        if jax.process_index() == 0:
            (folder / str(step)).rename(folder / name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()


def is_damage(error: Exception) -> bool:
    """Whether an error in reading a checkpoint comes from what is in it."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError)
    if isinstance(error, MismatchError | MemoryError | jax.errors.JaxRuntimeError):
        return False
    # TensorStore raises ValueErrors that begin with the kind.
    return not str(error).startswith(("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"))


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
    return any(path.name.isdigit() for path in (Path(model_dir) / SUBFOLDER).glob("*"))


def find_checkpoint(checkpoint: str | os.PathLike, step: int | None = None) -> Path:
    """The folder of one step; arguments and errors as for `restore_params`."""
    given = Path(checkpoint).absolute()
    if (given / "params").is_dir() and given.name.isdigit() and step is None:
        return given
    folder = given / SUBFOLDER if (given / SUBFOLDER).is_dir() else given
    steps = (
        sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []
    )
    if not steps or (step is not None and step not in steps):
        wanted = "a checkpoint" if step is None else f"a checkpoint of step {step}"
        raise ValueError(
            f"no {wanted.removeprefix('a ')} in {given}: found steps {steps or 'none'}; give a run's "
            f"MODEL_DIR, its {SUBFOLDER} folder, or {SUBFOLDER}/<step>."
        )
    return folder / str(steps[-1] if step is None else step)


def load_initial_params(checkpoint: str | os.PathLike, target: Any) -> Any:
    """Parameters to start a new run from, checked against the model's.

    Args:
      checkpoint: as for `restore_params`; its moving average is taken where there is one.
      target: the model's parameters as jax.ShapeDtypeStruct with shardings.

    Returns:
      A tree like target of arrays placed by its shardings.

    Raises:
      ValueError: a parameter is missing there, is not in the model, or has another shape; all are listed.
    """
    params = restore_params(checkpoint)
    _check_same(params, target, f"the checkpoint {checkpoint}")
    return jax.tree.map(place, params, target)


def place(value: np.ndarray, target: jax.ShapeDtypeStruct) -> jax.Array:
    """An array that each process has whole, as one placed like target."""
    value = value.astype(target.dtype)
    return jax.make_array_from_callback(value.shape, target.sharding, value.__getitem__)


def saved_shapes(folder: Path) -> Any:
    """The shapes of one item of a checkpoint, as a tree of objects with `shape`."""
    return ocp.StandardCheckpointHandler().metadata(folder).tree


def _check_same(found: Any, expected: Any, source: str) -> None:
    found, expected = _named_shapes(found), _named_shapes(expected)
    problems = [f"missing there: {name} {expected[name]}" for name in expected if name not in found]
    problems += [f"not in the model: {name} {found[name]}" for name in found if name not in expected]
    problems += [
        f"of shape {found[name]}, the model's is {expected[name]}: {name}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    if problems:
        listed = "\n  ".join(
            problems[:12] + ([f"... and {len(problems) - 12} more"] if len(problems) > 12 else [])
        )
        raise MismatchError(
            f"{source} does not fit this model ({len(problems)} differences):\n  {listed}\n"
            "Use the gin model file (and the OPTIMIZER) it was trained with, or a new MODEL_DIR."
        )


def _named_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(_key_name(key) for key in path): tuple(leaf.shape) for path, leaf in leaves}


def _key_name(key: Any) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)
