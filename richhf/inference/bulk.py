"""Feedback on many inputs: images decoded ahead of the device, maps written behind it, shard after shard.

A batch never spans two shards, so what a shard holds does not depend on which of them were there before.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from richhf.data.prepare.images import UnusableImage
from richhf.inference.encoder import Encoder, Example, stack_examples
from richhf.inference.inputs import Failure, Input, UnusableInput
from richhf.inference.pictures import quiet_decoding
from richhf.inference.predictions import read_prediction
from richhf.inference.shards import Row, ShardWriter

Predict = Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]
_AHEAD = 3
"""Batches of images that are decoded before the device asks for them."""


class FirstFailure(ValueError):
    """An input without feedback, where none is to be passed over."""


class Bulk:
    """Writes feedback on inputs."""

    def __init__(
        self,
        inputs: Sequence[Input],
        writer: ShardWriter,
        encoder: Encoder,
        predict: Predict,
        *,
        batch_size: int,
        strict: bool = False,
        workers: int | None = None,
        on_progress: Callable[[int], Any] = lambda count: None,
    ):
        """A job that has not begun.

        Args:
          inputs: all of them.
          writer: writes shards.
          encoder: makes what the model takes.
          predict: `image` and `encoder_input_tokens` of `batch_size` rows to `heatmaps`, `scores` and
            `keyword_tokens`, or some of them, as the model's `predict_batch` gives them; it need not wait for
            the device.
          batch_size: images in a batch; the last one of a shard is filled up.
          strict: raise FirstFailure instead of writing a row with an error.
          workers: threads that decode and write; None: Python's choice.
          on_progress: called with the number of inputs that were seen to.
        """
        self._inputs, self._writer, self._encoder, self._predict = inputs, writer, encoder, predict
        self._batch_size, self._strict, self._on_progress = batch_size, strict, on_progress
        self._workers = workers
        self._on_device: deque[tuple[_Shard, list[tuple[int, Example]], Mapping[str, Any]]] = deque()
        self._writing: deque[Future[Row]] = deque()

    def run(self, shards: Iterable[int]) -> None:
        """Writes some shards.

        Raises:
          FirstFailure: if strict.
          OSError: the system cannot read or write; what is complete stays.
          ValueError: a prediction is not a number in [0, 1].
        """
        numbers = list(shards)
        self._pool = ThreadPoolExecutor(self._workers)
        try:
            with quiet_decoding():
                self._run(numbers)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _run(self, numbers: Sequence[int]) -> None:
        unfinished: deque[_Shard] = deque()
        for number, encoded in itertools.groupby(self._encoded(numbers), key=lambda found: found[0]):
            with self._writer.explaining():
                self._writer.begin(number)
            shard = _Shard(number)
            unfinished.append(shard)
            batch: list[tuple[int, Example]] = []
            for _, index, found in encoded:
                if isinstance(found, Failure):
                    shard.rows[index] = self._failed(index, found)
                    continue
                batch.append((index, found))
                if len(batch) == self._batch_size:
                    self._start(shard, batch)
                    batch = []
            if batch:
                self._start(shard, batch)
            while len(unfinished) > 1:
                self._finish(unfinished.popleft())
        while unfinished:
            self._finish(unfinished.popleft())

    def _encoded(self, numbers: Sequence[int]) -> Iterator[tuple[int, int, Example | Failure]]:
        """Number of the shard, index and what the model takes, of all inputs of shards that are not there."""
        waiting: deque[tuple[int, int, Future[Example | Failure]]] = deque()

        def oldest() -> tuple[int, int, Example | Failure]:
            number, index, found = waiting.popleft()
            return number, index, found.result()

        for number in numbers:
            if self._writer.is_there(number):  # another job was quicker
                self._on_progress(len(self._writer.indices(number)))
                continue
            for index in self._writer.indices(number):
                waiting.append(
                    (number, index, self._pool.submit(encode_input, self._inputs[index], self._encoder))
                )
                if len(waiting) > _AHEAD * self._batch_size:
                    yield oldest()
        while waiting:
            yield oldest()

    def _failed(self, index: int, failure: Failure) -> Row:
        one = self._inputs[index]
        if self._strict:
            name = one.image or one.id
            raise FirstFailure(
                f"input {index}, {name}: {failure}. Without STRICT it is a row with its error."
            )
        self._on_progress(1)
        return self._writer.failed(index, one, failure)

    def _start(self, shard: "_Shard", batch: list[tuple[int, Example]]) -> None:
        prediction = self._predict(stack_examples([example for _, example in batch], self._batch_size))
        self._on_device.append((shard, batch, prediction))
        # One batch waits for the device while the one before is computed.
        while len(self._on_device) > 2:
            self._collect()

    def _collect(self) -> None:
        """Takes the oldest batch from the device, and hands its rows to be written."""
        shard, batch, prediction = self._on_device.popleft()
        arrays = {name: np.asarray(values) for name, values in prediction.items()}
        for row, (index, example) in enumerate(batch):
            written = self._pool.submit(self._write, index, row, example, arrays)
            shard.rows[index] = written
            self._writing.append(written)
        self._on_progress(len(batch))
        # Maps that wait to be written take memory.
        while len(self._writing) > 2 * self._batch_size:
            self._writing.popleft().result()

    def _write(self, index: int, row: int, example: Example, arrays: Mapping[str, np.ndarray]) -> Row:
        feedback = read_prediction(arrays, row, example, self._encoder.vocabulary)
        with self._writer.explaining():
            return self._writer.add(index, self._inputs[index], feedback)

    def _finish(self, shard: "_Shard") -> None:
        while any(on_device is shard for on_device, *_ in self._on_device):
            self._collect()
        rows = [row.result() if isinstance(row, Future) else row for _, row in sorted(shard.rows.items())]
        with self._writer.explaining():
            self._writer.finish(shard.number, rows)


def encode_input(one: Input, encoder: Encoder) -> Example | Failure:
    """What the model takes of an input, or why there is nothing."""
    try:
        return encoder(one.read(), one.prompt)
    except UnusableInput as error:
        return error.failure
    except UnusableImage as error:
        return Failure(error.kind, error.detail)


class _Shard:
    """A shard that is being made: its number, and its rows by index, some still being written."""

    def __init__(self, number: int):
        self.number = number
        self.rows: dict[int, Row | Future[Row]] = {}
