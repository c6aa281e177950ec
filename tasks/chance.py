"""What happens to an example by chance: the same wherever and however often a training stream is read."""

from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from richhf.data.stream import RECORD_NUMBER, RECORD_SEED, fold_in

Example = Mapping[str, Any]
CORRUPTION_SALT, CAPTION_SALT, FIT_SALT, RECOLOUR_SALT = range(4)
"""Each preprocessor that leaves something to chance has its own."""


def map_by_chance(
    change: Callable[[Example, tf.Tensor], Example],
    *,
    salt: int,
    num_parallel_calls: int | None = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Makes the preprocessor that maps an example and a seed.

    Args:
      change: (example, int64 [2], not negative) to example.
      salt: of this preprocessor.
      num_parallel_calls: as in `tf.data.Dataset.map`.

    Returns:
      A SeqIO preprocessor. In a stream of `richhf.data.stream` the seed is the record's; in others, such as
      those of T5X's own loop, SeqIO's.
    """

    def preprocessor(dataset):
        if RECORD_SEED not in dataset.element_spec:
            return seqio.map_over_dataset(change, num_seeds=1, num_parallel_calls=num_parallel_calls)(dataset)

        def seeded(example):
            return change(example, fold_in(example[RECORD_SEED], salt))

        return dataset.map(seeded, num_parallel_calls=num_parallel_calls)

    # Named as what it does, for `launch.benchmark`.
    preprocessor.__qualname__ = change.__qualname__
    return preprocessor


def number(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Adds `record_number` where the stream does not know it: the place in this data set."""
    if RECORD_NUMBER in dataset.element_spec:
        return dataset
    return dataset.enumerate().map(lambda index, example: {**example, RECORD_NUMBER: index})
