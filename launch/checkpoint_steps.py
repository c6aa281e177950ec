"""Which checkpoints a job goes through: one, all of a run, or each as it appears while the run goes on."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from launch.checkpoint_source import find_weights, run_folder
from launch.gin_config import CONFIG_FILE, near
from richhf.pretrained import find_t5x_checkpoint
from richhf.training.saved_params import SUBFOLDER, find_checkpoint

ALL, FOLLOW = "all", "follow"
POLL = 1.0  # seconds between looks into the folder
_END, _NOTHING_YET, _TIMED_OUT, _NONE_CAME = -1, -2, -3, -4


def check_step(step: int | str | None) -> None:
    """Raises ValueError unless step is a number, None, `all` or `follow`."""
    if step is None or step in (ALL, FOLLOW) or (isinstance(step, int) and step >= 0):
        return
    raise ValueError(
        f"CHECKPOINT_STEP is {step!r}; expected a step's number, None for the latest, {ALL!r} or {FOLLOW!r}."
        f"{near(str(step), (ALL, FOLLOW))}"
    )


def checkpoint_folders(
    checkpoint: str,
    step: int | str | None,
    *,
    is_done: Callable[[Path], bool],
    timeout: float,
    note: Callable[[str], None] = print,
) -> Iterator[Path]:
    """The folders of the checkpoints to go through, in the order of their steps.

    Of several processes the first looks and the others are told, so that all go through the same ones.
    Orbax's own iterator (`orbax.checkpoint.checkpoint_utils.checkpoints_iterator`) is not taken: it gives
    only the latest of those that came since, and copies it into the run's folder.

    Args:
      checkpoint: a run's folder, its `checkpoints` folder or, for one step, that of the step.
      step: which one; None: the latest; `all`: those that are there; `follow`: those that are there and
        those to come, until the last step that the run's configuration names.
      is_done: whether a checkpoint need not be gone through again; asked of several only.
      timeout: following, how many seconds to wait for the next one.
      note: says what is waited for.

    Raises:
      ValueError: there is no such checkpoint, or none came in time.
    """
    if step not in (ALL, FOLLOW):
        yield find_weights(checkpoint, int(step) if step is not None else None)
        return
    folder = find_run(checkpoint, step) / SUBFOLDER
    seen: set[int] = set()
    waiting_since, announced = time.monotonic(), False
    while True:
        wanted = _NOTHING_YET
        if jax.process_index() == 0:
            new = [number for number in finished_steps(folder) if number not in seen]
            done = {number for number in new if is_done(folder / str(number))}
            if done:
                note(f"evaluated before: {', '.join(f'step {number}' for number in sorted(done))}")
            seen |= done
            ahead = [number for number in new if number not in done]
            if ahead:
                wanted = ahead[0]
            elif step == ALL or _is_over(folder, seen, note):
                wanted = _END
            elif time.monotonic() - waiting_since > timeout:
                wanted = _TIMED_OUT if seen else _NONE_CAME
        wanted = _agreed(wanted)
        if wanted >= 0:
            seen.add(wanted)
            yield folder / str(wanted)
            waiting_since, announced = time.monotonic(), False
        elif wanted == _NOTHING_YET:
            if not announced:
                note(f"waiting for a new checkpoint in {folder} (at most {timeout:g} s: FOLLOW_TIMEOUT)")
            announced = True
            time.sleep(POLL)
        elif wanted == _NONE_CAME:
            raise ValueError(
                f"no checkpoint came to {folder} in {timeout:g} s (FOLLOW_TIMEOUT): is MODEL_DIR that of the "
                "training, and does it run?"
            )
        else:
            if wanted == _TIMED_OUT:
                last = last_step(folder.parent)
                goal = f"; the run is to end at step {last}" if last else ""
                note(
                    f"no new checkpoint in {folder} in {timeout:g} s (FOLLOW_TIMEOUT){goal}: run the same "
                    "command again to go on"
                )
            return


def find_run(checkpoint: str, step: int | str | None) -> Path:
    """The folder of the run whose checkpoints are meant; arguments and errors as of `checkpoint_folders`."""
    if step not in (ALL, FOLLOW):
        return run_folder(find_weights(checkpoint, int(step) if step is not None else None))
    given = Path(checkpoint).absolute()
    if given.name.isdigit() and (given / "params").is_dir():
        raise ValueError(
            f"CHECKPOINT is one step, {given}: for {ALL!r} and {FOLLOW!r} give the run's folder, "
            f"{given.parent.parent}; for this step alone leave CHECKPOINT_STEP at None."
        )
    if one := find_t5x_checkpoint(given):
        raise ValueError(
            f"{given} is of T5X: CHECKPOINT_STEP {step!r} goes through the checkpoints of launch.train; give "
            f"one step, such as --gin.CHECKPOINT={one}, and leave CHECKPOINT_STEP at None."
        )
    run_dir = given.parent if given.name == SUBFOLDER else given
    if step == ALL:
        # Where there is none the error says so.
        find_checkpoint(run_dir)
    return run_dir


def finished_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder that are whole, in order.

    While Orbax writes one, its folder has another name or lacks the mark of a finished one.
    """
    if not folder.is_dir():
        return []
    there = [path for path in folder.iterdir() if path.name.isdigit()]
    return sorted(int(path.name) for path in there if ocp.utils.is_checkpoint_finalized(path))


def last_step(run_dir: Path) -> int | None:
    """The step that a run ends at, TRAIN_STEPS in its configuration; None where it does not say."""
    config = run_dir / CONFIG_FILE
    found = None
    if config.exists():
        found = re.search(r"^TRAIN_STEPS = (\d+)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else None


def _is_over(folder: Path, seen: set[int], note: Callable[[str], None]) -> bool:
    last = last_step(folder.parent)
    over = last is not None and max(seen, default=-1) >= last
    if over:
        note(f"step {last} is the run's last: nothing more to wait for")
    return over


def _agreed(number: int) -> int:
    """The number that the first process gives."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))
