"""Where tasks read their records: TFRecord files, shuffled before anything is decoded."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from richhf.data import records

TRAINING = "in_training"
"""Boolean feature that the source adds: true in the shuffled stream of the training split only."""
OPEN_FILES = 16
_DECODERS = {"image": tfds.decode.SkipDecoding()}


class ExampleSource(seqio.TFExampleDataSource):
    """Files of `tf.train.Example`, one an image, in the order of the files unless shuffled.

    Two things differ from `seqio.TFExampleDataSource`:

    * Records are shuffled here, still encoded, and not by the task after decoding: a buffer of 1,000 examples
      of 512 px takes about 100 MB this way and 1.3 GB the other, both in memory and in every saved iterator.
    * Each example says whether it belongs to a training stream (`in_training`). SeqIO tells preprocessors
      neither the split nor whether they feed training, and some may only ever touch training
      (`tasks.corruption`, `tasks.augmentation`). Training is what is both of split `train` and shuffled:
      training loops shuffle (T5X's too), evaluation of the training split does not.
    """

    def __init__(
        self,
        split_to_filepattern: Mapping[str, str],
        features: Mapping[str, Any],
        *,
        shuffle_buffer_size: int = 1000,
        advice: str = "",
    ):
        """A source over file patterns.

        Args:
          split_to_filepattern: a glob pattern for each split.
          features: what to parse of each example, as `tf.io.parse_single_example` takes it.
          shuffle_buffer_size: records held for shuffling.
          advice: what to do when a pattern matches nothing, said in the error.
        """
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
        return dataset.map(lambda record: mark_training(self.parse_fn(record), split, shuffle))


class RecordSource(ExampleSource):
    """Records of rich feedback that have image and prompt."""

    def __init__(
        self,
        split_to_filepattern: Mapping[str, str],
        *,
        exact_side: bool = False,
        shuffle_buffer_size: int = 1000,
        advice: str = "",
    ):
        """A source over file patterns.

        Args:
          split_to_filepattern: a glob pattern for each split.
          exact_side: whether pictures of another side than asked for are an error (`richhf.data.datasets`
            looks at the first record before anything else happens).
          shuffle_buffer_size: records held for shuffling.
          advice: what to do when a pattern matches nothing, said in the error.
        """
        texts = [*records.HEATMAP_FEATURES.values(), records.LABEL_FEATURE, "filename", "image", "prompt"]
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in texts}
        features |= {name: tf.io.FixedLenFeature([], tf.float32) for name in records.SCORE_FEATURES.values()}
        super().__init__(
            split_to_filepattern, features, shuffle_buffer_size=shuffle_buffer_size, advice=advice
        )
        self.exact_side = exact_side


class TfdsImageSource(seqio.TfdsDataSource):
    """A TFDS data set that is on disk already, its feature `image` left encoded; shuffled like files here.

    Nothing is downloaded, ever: a training should not begin with tens of gigabytes.
    """

    def __init__(
        self, tfds_name: str, splits: Mapping[str, str], *, data_dir: str | None, shuffle_buffer_size: int
    ):
        """A source over `tfds_name` (with its version, as in `coco_captions/2014:1.1.0`).

        Args:
          tfds_name: name, perhaps configuration, and version.
          splits: TFDS split, or a sum or slice of some, for each split.
          data_dir: where TFDS keeps its data; its default if None.
          shuffle_buffer_size: examples held for shuffling.
        """
        super().__init__(
            tfds_name,
            tfds_data_dir=data_dir,
            splits=dict(splits),
            decoders=_DECODERS,
            read_only=True,
        )
        self._performs_internal_shuffling = True
        self._tfds_splits = dict(splits)
        self._buffer = shuffle_buffer_size

    def num_input_examples(self, split: str) -> None:
        """Not told: SeqIO would keep a small data set in memory, in the order of its first epoch."""
        return None

    def list_shards(self, split: str) -> Sequence[str]:
        """The files of a split.

        Raises:
          ValueError: the data set is not on disk.
        """
        name, folder = self.tfds_dataset.name, self.tfds_dataset.data_dir
        try:
            builder = tfds.builder(name, data_dir=folder, try_gcs=False)
            there = builder.info.splits
        except (tfds.core.DatasetNotFoundError, tfds.core.registered.DatasetNotFoundError):
            builder, there = None, {}
        if not there:
            where = folder or os.path.join("~", "tensorflow_datasets")
            raise ValueError(
                f"The TFDS data set {name} is not in {builder.data_dir if builder else where}, and is not "
                f"downloaded from here: `tfds build {name.partition(':')[0]}` makes it (with --data_dir for "
                "another place), or give captions as record files."
            )
        return super().list_shards(split)

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **kwargs,
    ) -> tf.data.Dataset:
        """The examples of a split, once through; `image` is bytes.

        As in `ExampleSource`, files are opened in an order that depends on the seed but not on the epoch.
        """
        self.list_shards(split)
        loader, context = self.tfds_dataset, None
        if shard_info:
            context = tf.distribute.InputContext(shard_info.num_shards, shard_info.index)
        dataset = tfds.builder(loader.name, data_dir=loader.data_dir, try_gcs=False).as_dataset(
            split=self._tfds_splits[split],
            # Without a seed the stream cannot be repeated anyway, and hosts would each draw an order.
            shuffle_files=shuffle and seed is None,
            read_config=tfds.ReadConfig(
                input_context=context,
                skip_prefetch=True,
                experimental_interleave_sort_fn=_file_order(seed) if shuffle and seed is not None else None,
            ),
            decoders=_DECODERS,
        )
        if shuffle:
            dataset = dataset.shuffle(self._buffer, seed=seed)
        return dataset.map(lambda example: mark_training(example, split, shuffle))


def _file_order(seed: int) -> Callable[[Sequence[Any]], list[Any]]:
    """An order of files that depends on the seed alone."""
    return lambda files: [files[index] for index in np.random.default_rng(seed).permutation(len(files))]


def mark_training(example: Mapping[str, Any], split: str, shuffle: bool) -> dict[str, Any]:
    """The example with `in_training`."""
    return {**example, TRAINING: tf.constant(shuffle and split == "train")}
