"""The metrics of the steps since the last log line."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

COUNTS = ("skipped_steps", "skipped_in_row")
LATEST = ("learning_rate", "skipped_steps")


class MetricsWindow:
    """Gathers metrics; a step's are read when the next one is under way, so that the device never waits.

    A step whose loss or gradient is not finite was not applied (`train_step`): it is told of once, and does
    not count in the means. After too many in a row training ends, in all processes at the same step, as all
    read the same metrics.

    Args:
      batch_size: examples a step.
      seconds_before: of training, before a resume.
      max_nonfinite_steps: so many in a row are too many.
      note: gets a sentence for the person who trains.

    Attributes:
      loss: the newest that was read and is finite; None before.
    """

    def __init__(
        self,
        batch_size: int,
        seconds_before: float,
        *,
        max_nonfinite_steps: int,
        note: Callable[[str], None],
    ):
        self._batch_size = batch_size
        self._begin = time.monotonic() - seconds_before
        self._max_nonfinite_steps, self._note = max_nonfinite_steps, note
        self._pending: list[tuple[int, Mapping[str, Any], Sequence[str]]] = []
        self._values: list[dict[str, float]] = []
        self._latest: dict[str, float] = {}
        self._since, self._steps = time.monotonic(), 0
        self._begun, self._rate_before = False, 0.0
        self.loss: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return round(time.monotonic() - self._begin, 3)

    @property
    def rate(self) -> float:
        """Images per second since the last log line; the first step, which is compiled, does not count.

        Before a step has been read since that line, the rate that stands in it.
        """
        if not self._steps:
            return self._rate_before
        return self._batch_size * self._steps / max(time.monotonic() - self._since, 1e-9)

    def add(self, step: int, metrics: Mapping[str, Any], examples: Sequence[str] = ()) -> None:
        """Takes a step's metrics and the ids of this process's examples, and reads the step's before."""
        self._read()
        self._pending.append((step, metrics, examples))

    def flush(self) -> None:
        """Waits for the newest step and reads it.

        Raises:
          FloatingPointError: too many steps in a row were not finite.
        """
        self._read()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count in `rate`."""
        begin = time.monotonic()
        yield
        self._since += time.monotonic() - begin

    def _read(self) -> None:
        for step, metrics, examples in self._pending:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if self._begun:
                self._steps += 1
            else:
                self._since, self._begun = time.monotonic(), True
            self._latest = {name: values[name] for name in LATEST}
            skipped, in_row = (int(values.pop(name)) for name in COUNTS)
            if in_row:
                self._tell(step, values, skipped, in_row, examples)
            else:
                self._values.append(values)
                self.loss = values["loss"]
        self._pending = []

    def _tell(
        self, step: int, values: Mapping[str, float], skipped: int, in_row: int, examples: Sequence[str]
    ) -> None:
        what = not_finite(values)
        if in_row >= self._max_nonfinite_steps:
            ids = f" Its examples{_here()}: {', '.join(examples)}." if examples else ""
            raise FloatingPointError(
                f"not finite at step {step}: {what}, in a row of {in_row} such steps (MAX_NONFINITE_STEPS "
                f"is {self._max_nonfinite_steps}).{ids} None of them was applied, and the checkpoints are "
                "intact: lower LEARNING_RATE or the optimizer's clip_norm, or look at those examples."
            )
        self._note(
            f"step {step} is skipped, not finite: {what} ({in_row} in a row, "
            f"{self._max_nonfinite_steps} end the run; {skipped} in all)"
        )

    def summary(self) -> dict[str, float]:
        """The means since the last summary, with rate and time; starts afresh.

        Means are of the steps that were applied; of learning_rate and skipped_steps it gives the last.
        """
        self._read()
        names = self._values[-1] if self._values else ()
        finite = {name: [v[name] for v in self._values if math.isfinite(v[name])] for name in names}
        values = {name: float(np.mean(found)) for name, found in finite.items() if found}
        values |= self._latest
        self._rate_before = self.rate
        values |= {"images_per_second": round(self._rate_before, 2), "seconds": self.seconds}
        self._values, self._steps, self._since = [], 0, time.monotonic()
        return values


def not_finite(values: Mapping[str, float]) -> str:
    """Which of a step's metrics are not finite: the parts of the loss, or else the loss, or the gradient."""
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    totals = ("loss", "grad_norm")
    parts = [f"{name} ({value})" for name, value in bad.items() if name not in totals]
    if parts:
        return ", ".join(sorted(parts))
    return f"loss ({bad['loss']})" if "loss" in bad else f"the gradient (norm {bad['grad_norm']})"


def _here() -> str:
    return f" in process {jax.process_index()}" if jax.process_count() > 1 else ""
