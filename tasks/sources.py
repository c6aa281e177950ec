"""Where tasks read their records: TFRecord files of rich feedback, shuffled before anything is decoded."""

import os
from collections.abc import Mapping

import numpy as np
import seqio
import tensorflow as tf

from richhf.data import records

TRAINING = "in_training"
"""Boolean feature that the source adds: true in the shuffled stream of the training split only."""
OPEN_FILES = 16


class RecordSource(seqio.TFExampleDataSource):
    """Records of rich feedback, one `tf.train.Example` an image, in the order of the files unless shuffled.

    Two things differ from `seqio.TFExampleDataSource`:

    * Records are shuffled here, still encoded, and not by the task after decoding: a buffer of 1,000 examples
      of 512 px takes about 100 MB this way and 1.3 GB the other, both in memory and in every saved iterator.
    * Each example says whether it belongs to a training stream (`in_training`). SeqIO tells preprocessors
      neither the split nor whether they feed training, and some may only ever touch training
      (`tasks.corruption`). Training is what is both of split `train` and shuffled: training loops shuffle
      (T5X's too), evaluation of the training split does not.
    """

    def __init__(
        self, split_to_filepattern: Mapping[str, str], *, shuffle_buffer_size: int = 1000, advice: str = ""
    ):
        """A source over file patterns.

        Args:
          split_to_filepattern: a glob pattern for each split.
          shuffle_buffer_size: records held for shuffling.
          advice: what to do when a pattern matches nothing, said in the error.
        """
        names = [
            *records.HEATMAP_FEATURES.values(),
            "prompt_misalignment_label",
            "filename",
            "image",
            "prompt",
        ]
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in names}
        features |= {name: tf.io.FixedLenFeature([], tf.float32) for name in records.SCORE_FEATURES.values()}
        super().__init__(split_to_filepattern, features, performs_internal_shuffling=True)
        self._buffer = shuffle_buffer_size
        self._advice = advice

    def list_shards(self, split: str) -> list[str]:
        """The files of a split, sorted.

        Raises:
          ValueError: for an unknown split, or if there is no file.
        """
        if split not in self._split_to_filepattern:
            raise ValueError(
                f"No split {split!r} here; the splits are {', '.join(self._split_to_filepattern)}."
            )
        pattern = os.fspath(self._split_to_filepattern[split])
        files = sorted(tf.io.gfile.glob(pattern))
        if not files:
            folder = os.path.dirname(pattern)
            what = "is empty of them" if tf.io.gfile.isdir(folder) else "does not exist"
            raise ValueError(
                f"No records for the split {split!r}: nothing matches {pattern} (the folder {folder} "
                f"{what}). {self._advice}"
            )
        return files

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **kwargs,
    ) -> tf.data.Dataset:
        """The parsed records of a split, once through; each epoch of a repeated stream is shuffled anew.

        Files are opened in an order that depends on the seed but not on the epoch: a shuffle of files is over
        long before its records are, and TensorFlow would not save where its chance stood.
        """
        files = self.list_shards(split)
        if shard_info:
            files = files[shard_info.index :: shard_info.num_shards]
        if shuffle:
            files = np.random.default_rng(seed).permutation(files).tolist()
        dataset = tf.data.Dataset.from_tensor_slices(files).interleave(
            self.reader_cls,
            cycle_length=OPEN_FILES if shuffle else 1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if shuffle:
            dataset = dataset.shuffle(self._buffer, seed=seed)
        training = tf.constant(shuffle and split == "train")
        return dataset.map(lambda record: {**self.parse_fn(record), TRAINING: training})
