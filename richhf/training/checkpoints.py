"""Checkpoints: parameters, optimizer state and input position in one atomic Orbax folder a step.

    MODEL_DIR/checkpoints/<step>/{params,ema_params,opt_state,iterator,run,metrics}/, digests.json

`run` holds counters.json and the files that a job keeps with each checkpoint (config.gin), `metrics` what the
evaluation of that step gave, digests.json the digests of all these files (`richhf.training.digests`). Files
are written while training goes on: arrays are copied to the host first (on CPU devices Orbax holds the
buffers themselves, which JAX then copies instead of donating them), and a folder gets its name when all is
written. An interrupted save leaves only a temporary folder, which the next start removes.
"""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from richhf.training.damage import is_damage, one_line
from richhf.training.digests import (
    DamagedDigestsError,
    DamagedError,
    check_digests,
    has_digests,
    write_digests,
)
from richhf.training.iterator_checkpoint import (
    IteratorCheckpointHandler,
    IteratorRestore,
    IteratorSave,
    MismatchError,
)
from richhf.training.retention import Best, policy
from richhf.training.saved_params import SUBFOLDER, place, steps_in
from richhf.training.saved_shapes import check_same, saved_shapes
from richhf.training.text_checkpoint import TextCheckpointHandler, TextRestore, TextSave
from richhf.training.train_state import TrainState
from richhf.training.unfinished import ignore_unfinished

RUN, COUNTERS_FILE = "run", "counters.json"
COUNTERS = ("skipped_steps", "skipped_in_row")
METRICS_FILE = "metrics/metrics"
TREES = ("params", "opt_state", "ema_params")
ITEMS = (*TREES, "iterator", RUN)
FINE, DAMAGED, FAILED = range(3)  # of reading a checkpoint
T = TypeVar("T")


class Checkpoints:
    """The checkpoints of one training run.

    Args:
      model_dir: the run's folder; they are in its subfolder `checkpoints`.
      keep: how many of the latest are kept.
      best: how many are kept besides, for their metrics.
    """

    def __init__(self, model_dir: str | os.PathLike, *, keep: int = 3, best: Best | None = None):
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, got keep={keep}.")
        best = best or Best()
        ignore_unfinished()
        self._folder = Path(model_dir).absolute() / SUBFOLDER
        self._written: int | None = None
        self._set_aside_unreadable_metrics()
        options = ocp.CheckpointManagerOptions(
            best_fn=best.quality,  # Orbax writes metrics only where there is one.
            preservation_policy=policy(keep, best),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            # Made in the background, a folder that cannot be made would keep the small files waiting.
            async_options=ocp.options.AsyncOptions(
                create_directories_asynchronously=False,
                post_finalization_callback=self._write_digests,
            ),
        )
        logging.getLogger("absl").addFilter(self._is_for_users)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints there are, in order; one that is being written among them."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        state: TrainState,
        iterator: Any,
        *,
        metrics: Mapping[str, float] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Begins to write a checkpoint, after the one before is written; nothing if this step has one.

        When this returns, state may be donated and iterator may move on.

        Args:
          state: the train state.
          iterator: the input, at the position after state's last batch.
          metrics: what the evaluation of this step gave, if there was one.
          files: text to keep in the checkpoint, by file name.

        Raises:
          OSError: this one or the one before could not be written; the earlier ones are as they were.
        """
        step = int(state.step)
        self.wait()
        if step in self.steps:
            return
        items = {"params": state.params, "opt_state": state.opt_state}
        if state.ema_params is not None:
            items["ema_params"] = state.ema_params
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        counters = {name: int(getattr(state, name)) for name in COUNTERS}
        texts = {COUNTERS_FILE: json.dumps(counters), **(files or {})}
        self._written = step
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **arguments, iterator=IteratorSave(iterator), **{RUN: TextSave(texts)}
                ),
                metrics=dict(metrics or {}),
                force=True,
            )
        except Exception as error:
            raise self._not_written(error) from error

    def wait(self) -> None:
        """Waits for what is being written.

        Raises:
          OSError: it could not be written; the earlier checkpoints are as they were.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error

    def restore(self, target: TrainState, iterator: Any) -> TrainState | None:
        """The latest readable checkpoint's state; None if there is no checkpoint.

        A damaged checkpoint is warned of, renamed to `damaged-<step>`, and the one before is taken. Damage is
        a file that differs from what was written; in a checkpoint without digests, an error in reading that
        `is_damage` takes for it. Other errors are raised as they are, and nothing is renamed.

        Args:
          target: shapes, dtypes and shardings (jax.ShapeDtypeStruct) to restore to.
          iterator: the input, moved to the position it had.

        Raises:
          MismatchError: the checkpoint's parameters are not those of target, or its input is another one.
          DamagedError: all checkpoints are damaged.
        """
        damaged: list[tuple[int, Exception]] = []
        share = jax.process_index(), jax.process_count()
        for step in reversed(self.steps):
            folder, state = self._folder / str(step), None
            _, damage = _attempt(lambda: check_digests(folder, ITEMS, share), is_damage)  # noqa: B023
            if damage is None:
                # Files that are as they were written are not damaged, whatever reading them raises.
                judge = never if has_digests(folder) else is_damage
                state, damage = _attempt(lambda: self._restore_step(step, target, iterator), judge)  # noqa: B023
            if damage is not None:
                damaged.append((step, damage))
                continue
            if damaged:
                for bad, cause in damaged if jax.process_index() == 0 else ():
                    self._set_aside(bad, cause)
                _wait_for_all("set aside damaged checkpoints")
                self._manager.reload()
            return state
        if damaged:
            step, damage = damaged[-1]
            raise DamagedError(
                f"no checkpoint under {self._folder} can be read (tried steps "
                f"{[tried for tried, _ in damaged]}); step {step}: {one_line(damage)}. Move that folder away "
                "to start again."
            ) from damage
        return None

    def close(self) -> None:
        """Waits for what is being written; errors as for `wait`."""
        try:
            self.wait()
        finally:
            try:
                self._manager.close()
            finally:
                logging.getLogger("absl").removeFilter(self._is_for_users)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Closes; an error that comes from within is raised, and one of closing then only warned of."""
        try:
            self.close()
        except OSError as second:
            if error is None:
                raise
            warnings.warn(str(second), stacklevel=2)

    def _is_for_users(self, record: logging.LogRecord) -> bool:
        """Leaves out what Orbax logs of an error before it raises it, and of waiting for an earlier save."""
        known = record.levelno >= logging.ERROR or str(record.msg).startswith("Waiting for previous save")
        return not known or "orbax" not in record.pathname

    def _restore_step(self, step: int, target: TrainState, iterator: Any) -> TrainState:
        """Reads each item by its handler: the manager would wait for processes that have found damage."""
        folder = self._folder / str(step)
        check_fits(folder, target)
        handler = ocp.StandardCheckpointHandler()
        trees = [
            handler.restore(folder / name, args=ocp.args.StandardRestore(getattr(target, name)))
            for name in TREES
            if getattr(target, name) is not None
        ]
        IteratorCheckpointHandler().restore(epath.Path(folder / "iterator"), IteratorRestore(iterator))
        counts = dict.fromkeys(COUNTERS, 0)
        if (folder / RUN).exists():  # Not in checkpoints of before steps were skipped.
            texts = TextCheckpointHandler().restore(epath.Path(folder / RUN), TextRestore())
            saved = json.loads(texts[COUNTERS_FILE])
            counts = {name: saved[name] for name in COUNTERS}
        counters = {name: place(np.asarray(n, np.int32), target.step) for name, n in counts.items()}
        count = place(np.asarray(step, np.int32), target.step)
        return TrainState(count, **dict(zip(TREES, trees, strict=False)), **counters)

    def _not_written(self, error: Exception) -> OSError:
        there = [step for step in steps_in(self._folder) if step != self._written]
        return OSError(
            f"the checkpoint of step {self._written} could not be written to {self._folder}: "
            f"{one_line(error)} Earlier checkpoints are intact: {there or 'none'}. Free space or choose "
            "another folder, then run the same command again to go on."
        )

    def _write_digests(self) -> None:
        """Called when all files of a checkpoint are written, before its folder gets its name."""
        final = self._folder / str(self._written)
        temporary = final.with_name(final.name + ocp.utils.TMP_DIR_SUFFIX)
        write_digests(temporary if temporary.exists() else final)

    def _set_aside_unreadable_metrics(self) -> None:
        """Orbax reads them of all checkpoints at once, and a damaged one should not end that."""
        for step in steps_in(self._folder) if jax.process_index() == 0 else ():
            folder = self._folder / str(step)
            try:
                check_metrics(folder)
            except ValueError as error:
                place = self._free_name(f"damaged-metrics-{step}")
                warnings.warn(
                    f"the metrics of step {step} are damaged, set aside as {place}: {one_line(error)}. The "
                    "checkpoint itself is not touched, but cannot be kept for being the best.",
                    stacklevel=3,
                )
                (folder / METRICS_FILE).parent.rename(place)
        _wait_for_all("readable metrics")

    def _set_aside(self, step: int, error: Exception) -> None:
        place = self._free_name(f"damaged-{step}")
        warnings.warn(
            f"the checkpoint of step {step} is damaged, set aside as {place}: {one_line(error)}",
            stacklevel=3,
        )
        (self._folder / str(step)).rename(place)

    def _free_name(self, name: str) -> Path:
        names = [name, *(f"{name}-{n}" for n in range(2, 100))]
        return next(self._folder / one for one in names if not (self._folder / one).exists())


def check_metrics(folder: Path) -> None:
    """Raises ValueError if the metrics in a step's folder are damaged."""
    file = folder / METRICS_FILE
    if not file.exists():
        return
    if not isinstance(json.loads(file.read_text(encoding="utf-8")), dict):
        raise ValueError("no metrics by name")
    # Digests that cannot be read say nothing of the metrics; `restore` finds them.
    with contextlib.suppress(DamagedDigestsError):
        check_digests(folder, (file.parent.name,))


def find_undamaged(model_dir: str | os.PathLike) -> tuple[Path | None, list[int]]:
    """The folder of the latest checkpoint whose digests are right, and the damaged steps after it."""
    folder, damaged = Path(model_dir).absolute() / SUBFOLDER, []
    for step in reversed(steps_in(folder)):
        try:
            check_digests(folder / str(step), ITEMS)
        except DamagedError:
            damaged.append(step)
        else:
            return folder / str(step), damaged
    return None, damaged


def check_fits(folder: Path, target: TrainState) -> None:
    """Raises MismatchError unless a state like target can be read from a step's folder; reads no arrays."""
    check_same(saved_shapes(folder / "params"), target.params, f"the checkpoint {folder}")
    if (folder / "ema_params").exists() != (target.ema_params is not None):
        raise MismatchError(
            f"the checkpoint {folder} was written with the moving average of parameters "
            f"{'off' if target.ema_params is not None else 'on'}; set EMA_DECAY as it was, or take a new "
            "MODEL_DIR."
        )
    check_same(saved_shapes(folder / "opt_state"), target.opt_state, f"the optimizer's state in {folder}")


def _attempt(read: Callable[[], T], judge: Callable[[Exception], bool]) -> tuple[T | None, Exception | None]:
    """Returns what read returns, and the damage that it found, here or in another process.

    Raises:
      Exception: what read raised, unless judge calls it damage.
    """
    value, error = None, None
    try:
        value = read()
    except Exception as caught:
        error = caught
    outcome = _worst(FINE if error is None else DAMAGED if judge(error) else FAILED)
    if outcome == FINE:
        return value, None
    # What one process cannot read, none goes on from.
    error = error or ValueError("another process could not read it, and says why")
    if outcome == FAILED:
        raise error
    return None, error


def never(error: Exception) -> bool:
    """Calls no error damage."""
    del error
    return False


def _worst(outcome: int) -> int:
    """The worst outcome of all processes."""
    if jax.process_count() == 1:
        return outcome
    return int(np.max(multihost_utils.process_allgather(np.int32(outcome))))


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
