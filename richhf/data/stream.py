"""The order of a training stream: endless, the same for any number of hosts, found again by three numbers.

Epoch e opens the files in an order drawn from the seed and e, reads them side by side, and shuffles their
records in a buffer by the same two. The order is that of the whole stream. Hosts take turns in it: of every
`num_shards` records in a row each host takes one. So a batch has the same examples on one host and on many;
every host reads all files, but parses and decodes its own records only.

A source adds to each record:

    record_seed      int64 [2]  from seed, epoch and place in the epoch: for what happens to it by chance
    record_number    int64 []   records before it in the stream, on all hosts
    stream_position  int64 [3]  a `Position`: where a stream goes on behind it and the other hosts' records
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

RECORD_SEED = "record_seed"
RECORD_NUMBER = "record_number"
STREAM_POSITION = "stream_position"
OPEN_FILES = 16


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a stream stands.

    Attributes:
      epoch: the epoch it is in.
      index: records of that epoch that have been taken.
      taken: records that have been taken in all.
    """

    epoch: int = 0
    index: int = 0
    taken: int = 0


@dataclasses.dataclass(frozen=True)
class StreamShare(seqio.ShardInfo):
    """A host's share of an endless stream; given to a source, it asks for one.

    Attributes:
      index: of the host.
      num_shards: number of hosts.
      start: where the stream begins.
    """

    start: Position = Position()


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """A file of records, or some of it.

    Attributes:
      path: of the TFRecord file.
      skip: records to leave out at its start.
      take: records to read at most; -1: all.
      compression: as `richhf.data.framing.compression_of` names it.
    """

    path: str
    skip: int = 0
    take: int = -1
    compression: str = ""


def read_files(files: Sequence[RecordFile]) -> tf.data.Dataset:
    """The records of files, encoded, one file after the other."""
    return tf.data.Dataset.from_tensor_slices(_columns(files)).flat_map(_open)


def shuffled_files(files: Sequence[RecordFile], *, buffer: int, seed: Any, epoch: Any) -> tf.data.Dataset:
    """The records of one epoch, encoded.

    Args:
      files: to read.
      buffer: records held for shuffling.
      seed: int64 [].
      epoch: int64 []; another epoch is another order.
    """
    seeds = tf.random.split(fold_in(tf.stack([tf.cast(seed, tf.int64), 0]), epoch), 2)
    order = tf.random.experimental.stateless_shuffle(tf.range(len(files)), seeds[0])
    columns = tuple(tf.gather(column, order) for column in _columns(files))
    records = tf.data.Dataset.from_tensor_slices(columns).interleave(
        _open,
        cycle_length=OPEN_FILES,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return records.shuffle(buffer, seed=seeds[1][0], reshuffle_each_iteration=False)


def endless(
    open_epoch: Callable[[tf.Tensor], tf.data.Dataset],
    parse: Callable[[tf.Tensor], dict[str, Any]],
    seed: int,
    share: StreamShare,
) -> tf.data.Dataset:
    """A host's share of a stream without end.

    Args:
      open_epoch: the records of an epoch (int64 []), encoded.
      parse: a record to its features.
      seed: of the stream.
      share: which records, from where on.

    Returns:
      Features with `record_seed`, `record_number` and `stream_position`.
    """
    start = share.start

    def number(epoch):
        places = open_epoch(epoch).enumerate()
        places = places.skip(tf.where(epoch == start.epoch, tf.constant(start.index, tf.int64), 0))
        return places.map(lambda index, record: (epoch, index, record))

    def take_turn(number, place):
        epoch, index, record = place
        mine = share.index
        return {
            **parse(record[mine]),
            RECORD_SEED: fold_in(tf.stack([tf.constant(seed, tf.int64), 1]), epoch[mine], index[mine]),
            RECORD_NUMBER: number[mine],
            STREAM_POSITION: tf.stack([epoch[-1], index[-1] + 1, number[-1] + 1]),
        }

    epochs = tf.data.Dataset.range(start.epoch, np.iinfo(np.int64).max)
    turns = epochs.flat_map(number).enumerate(start.taken).batch(share.num_shards, drop_remainder=True)
    return turns.map(take_turn, num_parallel_calls=tf.data.AUTOTUNE)


def fold_in(seed: tf.Tensor, *numbers: Any) -> tf.Tensor:
    """A seed, int64 [2], not negative, from another one and numbers."""
    for number in numbers:
        seed = tf.random.fold_in(seed, tf.cast(number, tf.int64))
    return tf.bitwise.bitwise_and(seed, tf.int64.max)


def _columns(files: Sequence[RecordFile]) -> tuple[tf.Tensor, ...]:
    return (
        tf.constant([file.path for file in files]),
        tf.constant([file.skip for file in files], tf.int64),
        tf.constant([file.take for file in files], tf.int64),
        tf.constant([file.compression for file in files]),
    )


def _open(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, compression: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(path, compression_type=compression).skip(skip).take(take)
