"""The metrics of the steps since the last log line."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np


class MetricsWindow:
    """Gathers metrics; a step's are read when the next one is under way, so that the device never waits.

    Args:
      batch_size: examples a step.
      seconds_before: of training, before a resume.

    Attributes:
      loss: the newest that was read; None before.
    """

    def __init__(self, batch_size: int, seconds_before: float):
        self._batch_size = batch_size
        self._begin = time.monotonic() - seconds_before
        self._pending: list[tuple[int, Mapping[str, Any]]] = []
        self._values: list[dict[str, float]] = []
        self._since, self._uncounted = time.monotonic(), 0
        self.loss: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return round(time.monotonic() - self._begin, 3)

    @property
    def rate(self) -> float:
        """Images per second since the last log line; the first step, which is compiled, does not count."""
        steps = len(self._values) - self._uncounted
        return self._batch_size * steps / max(time.monotonic() - self._since, 1e-9)

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes a step's metrics and reads the step's before."""
        self._read()
        self._pending.append((step, metrics))

    def flush(self) -> None:
        """Waits for the newest step and reads it."""
        self._read()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count in `rate`."""
        begin = time.monotonic()
        yield
        self._since += time.monotonic() - begin

    def _read(self) -> None:
        for step, metrics in self._pending:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not all(math.isfinite(value) for value in values.values()):
                parts = ", ".join(f"{name}={value:.6g}" for name, value in values.items())
                raise FloatingPointError(
                    f"loss or gradient not finite at step {step}: {parts}. The checkpoint before it is "
                    "intact; lower the learning rate or clip_norm, or look at the batch of that step."
                )
            if self.loss is None:
                self._since, self._uncounted = time.monotonic(), 1
            self._values.append(values)
            self.loss = values["loss"]
        self._pending = []

    def summary(self) -> dict[str, float]:
        """The means since the last summary (learning_rate: the last) with rate and time; starts afresh."""
        self._read()
        names = self._values[-1]
        values = {name: float(np.mean([v[name] for v in self._values])) for name in names}
        values["learning_rate"] = self._values[-1]["learning_rate"]
        values |= {"images_per_second": round(self.rate, 2), "seconds": self.seconds}
        self._values, self._uncounted, self._since = [], 0, time.monotonic()
        return values
