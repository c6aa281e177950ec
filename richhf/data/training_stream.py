"""Training batches from SeqIO tasks, whose order is that of `richhf.data.stream`."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import seqio
import tensorflow as tf
from clu.data import dataset_iterator

from richhf.atomic import atomic_path
from richhf.data.datasets import DatasetConfig, get_task, pipeline_options, share_of, split_tasks
from richhf.data.features import RichFeedbackFeatureConverter
from richhf.data.framing import is_record_file
from richhf.data.stream import STREAM_POSITION, Position, StreamShare, fold_in

_Spec = seqio.FeatureConverter.FeatureSpec
_MEMBER = "member"
_PASSED = {STREAM_POSITION: _Spec(tf.int64, rank=1), "filename": _Spec(tf.string, rank=0)}


class TrainingStream(dataset_iterator.DatasetIterator):
    """Endless training batches, this host's share of them.

    Where it stands is saved in a few numbers, the same on all hosts; any number of hosts can go on from them.
    Then no example of an epoch comes twice or is missed; the batches are those of an uninterrupted run. In a
    mixture this holds of each of its tasks, but with another number of hosts they meet in other batches.

    Attributes:
      filenames: of the images of the last batch, this host's.
    """

    def __init__(self, cfg: DatasetConfig, share: tuple[int, int] | None = None):
        """A stream from its start; arguments and errors as of `train_iterator`."""
        self._cfg = cfg
        self._provider = get_task(cfg)
        self._part, self._parts, self._rows = share_of(cfg, share)
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if cfg.seed is None else cfg.seed
        tasks = split_tasks(self._provider, cfg.split)
        self._mixed = 0
        self._positions = {task.name: Position() for task in tasks}
        for task in tasks:
            _check_not_empty(task, cfg.split)
        self._batches: Any = None
        self._spec = self._build().element_spec
        self.filenames: tuple[str, ...] = ()

    @property
    def element_spec(self) -> dict[str, dataset_iterator.ArraySpec]:
        """Shapes and dtypes of the model features."""
        return {
            name: dataset_iterator.ArraySpec(spec.dtype.as_numpy_dtype, tuple(spec.shape))
            for name, spec in self._spec.items()
            if name not in (*_PASSED, _MEMBER)
        }

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch: model features, this host's share as first axis."""
        if self._batches is None:
            self._batches = self._build().as_numpy_iterator()
        batch = next(self._batches)
        members, positions = batch.pop(_MEMBER), batch.pop(STREAM_POSITION)
        self.filenames = tuple(name.decode() for name in batch.pop("filename"))
        for number, name in enumerate(self._positions):
            if len(rows := np.flatnonzero(members == number)):
                self._positions[name] = Position(*map(int, positions[rows[-1]]))
        self._mixed += len(members)
        return batch

    def reset(self) -> None:
        """Goes back to the start."""
        self._go_to(0, {name: Position() for name in self._positions})

    def save(self, filename: str | os.PathLike) -> None:
        """Writes where the stream stands, behind the last batch."""
        positions = {name: dataclasses.astuple(position) for name, position in self._positions.items()}
        state = {"order": self._order(), "mixed": self._mixed * self._parts, "positions": positions}
        with atomic_path(filename) as temporary:
            temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")

    def restore(self, filename: str | os.PathLike) -> None:
        """Goes to where a stream stood.

        Raises:
          ValueError: it is of a stream in another order: of other files, another seed or other rates.
        """
        with open(filename, encoding="utf-8") as file:
            state = json.load(file)
        if self._cfg.seed is None:
            self._seed = state["order"]["seed"]
        order = self._order()
        if changed := [name for name, value in order.items() if state["order"].get(name) != value]:
            raise ValueError(
                f"the input position {os.fspath(filename)} is of a stream in another order, with other "
                f"{', '.join(changed)}: {_shortly(state['order'], changed)}, now {_shortly(order, changed)}. "
                "Set it as config.gin in the run's folder has it, or take a new MODEL_DIR."
            )
        positions = {name: Position(*place) for name, place in state["positions"].items()}
        self._go_to(state["mixed"] // self._parts, positions)

    def _go_to(self, mixed: int, positions: Mapping[str, Position]) -> None:
        self._mixed, self._positions, self._batches = mixed, dict(positions), None

    def _order(self) -> dict[str, Any]:
        """What decides on the order, as JSON values."""
        tasks = split_tasks(self._provider, self._cfg.split)
        files = [
            [task.name, os.path.basename(path), tf.io.gfile.stat(path).length]
            for task in tasks
            for path in task.source.list_shards(self._cfg.split)
        ]
        buffers = [getattr(task.source, "shuffle_buffer_size", None) for task in tasks]
        return {
            "seed": self._seed,
            "files": files,
            "rates": _rates(self._provider, tasks),
            "shuffle buffers": buffers,
        }

    def _build(self) -> tf.data.Dataset:
        """Batches from the present position on."""
        cfg = self._cfg
        tasks = split_tasks(self._provider, cfg.split)
        converter = RichFeedbackFeatureConverter(passthrough_features=_PASSED)
        members = []
        for number, task in enumerate(tasks):
            dataset = task.get_dataset(
                cfg.task_feature_lengths,
                split=cfg.split,
                shuffle=True,
                seed=self._seed,
                shard_info=StreamShare(self._part, self._parts, self._positions[task.name]),
                trim_output_features=False,
                try_in_mem_cache=False,
            )
            if STREAM_POSITION not in dataset.element_spec:
                raise ValueError(
                    f"the task {task.name} reads from {type(task.source).__name__}, which gives no endless "
                    "stream: give it a source of tasks.sources."
                )
            converted = converter(dataset, cfg.task_feature_lengths)
            members.append(
                converted.map(lambda features, number=number: {**features, _MEMBER: tf.constant(number)})
            )
        mixed = members[0]
        if len(members) > 1:
            rates = np.cumsum(_rates(self._provider, tasks))
            mixed = tf.data.Dataset.choose_from_datasets(members, _choices(rates, self._seed, self._mixed))
        return mixed.batch(self._rows, drop_remainder=True).prefetch(2).with_options(pipeline_options())


def train_iterator(cfg: DatasetConfig, share: tuple[int, int] | None = None) -> TrainingStream:
    """An endless stream of training batches for this host, whose position can be saved and restored.

    Args:
      cfg: what to read; shuffled, and `num_examples` must be None.
      share: which part of each batch this host reads, and how many there are; None: one for each process.

    Raises:
      ValueError: see `get_task` and `share_of`; a configuration that does not train; no seed, where hosts
        would each draw one; a split without records; a task whose source gives no stream.
    """
    if cfg.num_examples is not None:
        raise ValueError(
            f"num_examples is {cfg.num_examples}, but training reads whole epochs: leave it None."
        )
    if not cfg.shuffle:
        raise ValueError("shuffle is False, but training reads a shuffled stream: set it to True.")
    if cfg.seed is None and jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes read one stream: set SEED, they would each draw one."
        )
    return TrainingStream(cfg, share)


def _check_not_empty(task: seqio.Task, split: str) -> None:
    """Raises ValueError where no file holds anything: epoch after epoch would be read in vain."""
    files = task.source.list_shards(split)
    # A compressed file without a record is not empty itself.
    if not any(
        tf.io.gfile.stat(file).length and (not os.path.isfile(file) or is_record_file(file)) for file in files
    ):
        raise ValueError(
            f"the split {split!r} of {task.name} holds no record: "
            f"{', '.join(map(str, files[:3])) or 'no files'}{' ...' if len(files) > 3 else ''}, all empty. "
            "Write the data set again, or take another split."
        )


def _rates(provider: seqio.Task | seqio.Mixture, tasks: list[seqio.Task]) -> list[float]:
    rates = [provider.get_rate(task) if isinstance(provider, seqio.Mixture) else 1.0 for task in tasks]
    return [rate / sum(rates) for rate in rates]


def _choices(rates: np.ndarray, seed: int, start: int) -> tf.data.Dataset:
    """Which task each example of a mixture is of, drawn from the seed and its place."""

    def choose(place):
        chance = tf.random.stateless_uniform([], fold_in(tf.constant([seed, 2], tf.int64), place))
        return tf.reduce_sum(tf.cast(chance >= rates[:-1].astype(np.float32), tf.int64))

    return tf.data.Dataset.range(start, np.iinfo(np.int64).max).map(choose)


def _shortly(order: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {str(order.get(name))[:80]}" for name in names)
