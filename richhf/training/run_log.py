"""What a run writes while it trains: `train_log.jsonl`, TensorBoard events, and a line to look at."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from clu import metric_writers

from richhf.atomic import atomic_path

FILE_NAME = "train_log.jsonl"


class RunLog:
    """Scalars and images of a run, by step.

    Args:
      model_dir: the run's folder; `train_log.jsonl` and the TensorBoard events are written there.
      start_step: the step that training goes on from; lines of later steps, left by a run that was killed
        after its last checkpoint, are dropped.
      primary: whether this process writes.
    """

    def __init__(self, model_dir: str | os.PathLike, *, start_step: int = 0, primary: bool = True):
        self._path = Path(model_dir) / FILE_NAME
        kept = [line for line in read_log(model_dir) if line["step"] <= start_step]
        self.seconds_before = kept[-1].get("seconds", 0.0) if kept else 0.0
        self._writer = metric_writers.SummaryWriter(str(model_dir)) if primary else None
        if primary:
            with atomic_path(self._path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one line, and the same values to TensorBoard; OSError as below."""
        if self._writer:
            with self._writing(), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
            with self._writing():
                self._writer.write_scalars(step, dict(values))
                self._writer.flush()

    def images(self, step: int, panels: Mapping[str, np.ndarray]) -> None:
        """Adds image panels ([n h w c], uint8 or float in [0, 1]) to TensorBoard; OSError as below."""
        if self._writer:
            with self._writing():
                self._writer.write_images(step, dict(panels))
                self._writer.flush()

    def close(self) -> None:
        """Closes the TensorBoard writer.

        Raises:
          OSError: the system cannot write, the disk is full for instance.
        """
        if self._writer:
            with self._writing():
                self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # TensorBoard's writer raises TensorFlow's errors, which this room does not import.
            if not isinstance(error, OSError) and not hasattr(error, "error_code"):
                raise
            folder, message = self._path.parent, getattr(error, "message", None) or error
            raise OSError(
                f"{folder}: the run's log could not be written: {message}\nCheckpoints are intact. Free "
                "space, then run the same command again to go on."
            ) from error


def read_log(model_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of a run's train_log.jsonl; a last line cut short by a kill is left out."""
    return read_lines(Path(model_dir) / FILE_NAME)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file, if it is there, up to the first that is cut short."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class Progress:
    """A line that says how far training is: redrawn on a terminal, else a new one every few seconds.

    Args:
      total_steps: the last step.
      stream: where to write.
      quiet: whether to write nothing.
      interval: seconds between lines when stream is no terminal.
    """

    def __init__(self, total_steps: int, *, stream: Any = None, quiet: bool = False, interval: float = 10.0):
        self._stream = io.StringIO() if quiet else stream or sys.stderr
        self._total = total_steps
        self._first: tuple[int, float] | None = None
        self._live = self._stream.isatty()
        self._interval = 0.2 if self._live else interval
        self._last = -float("inf")

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        print(("\r\033[K" if self._live else "") + text, file=self._stream, flush=True)

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        """Shows a step, if it is time to."""
        now = time.monotonic()
        self._first = self._first or (step, now)
        if now - self._last < self._interval and step != self._total:
            return
        self._last = now
        first, begin = self._first
        left = _clock((now - begin) / (step - first) * (self._total - step)) if step > first else "?"
        width = len(str(self._total))
        text = (
            f"step {step:>{width}}/{self._total}  {step / self._total:4.0%}  loss {loss:.4g}  "
            f"{images_per_second:.1f} images/s  {left} left"
        )
        end = "\n" if not self._live or step == self._total else ""
        print(("\r\033[K" if self._live else "") + text, end=end, file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
