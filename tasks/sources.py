"""Where tasks read their records: TFRecord files, perhaps compressed, shuffled before anything is decoded."""

import abc
import os
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from richhf.data import records
from richhf.data.framing import HEAD, compression_of, refuse_twins
from richhf.data.stream import RecordFile, StreamShare, endless, read_files, shuffled_files

TRAINING = "in_training"
"""Boolean feature that the source adds: true in the shuffled stream of the training split only."""


class ShuffledRecords(abc.ABC):
    """What sources here have in common: how their records are dealt out and shuffled, still encoded."""

    shuffle_buffer_size: int

    @abc.abstractmethod
    def record_files(self, split: str) -> list[RecordFile]:
        """Where the records of a split are."""

    @abc.abstractmethod
    def parse(self, record: tf.Tensor) -> Mapping[str, Any]:
        """A record's features."""

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """Records are dealt out, not files."""
        return True

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **kwargs,
    ) -> tf.data.Dataset:
        """The parsed records of a split, each with `in_training`.

        Args:
          split: its name.
          shuffle: whether to shuffle.
          seed: of the order; None draws one.
          shard_info: a `StreamShare` asks for an endless stream with `richhf.data.stream`'s features; another
            one for each `num_shards`th record of one epoch; None for one epoch.
          **kwargs: further arguments of SeqIO, not used.

        Raises:
          ValueError: an endless stream that is not shuffled, or without a seed.
        """
        files = self.record_files(split)

        def features(record):
            return {**self.parse(record), TRAINING: tf.constant(shuffle and split == "train")}

        def open_epoch(epoch):
            return shuffled_files(files, buffer=self.shuffle_buffer_size, seed=seed, epoch=epoch)

        if isinstance(shard_info, StreamShare):
            if not shuffle or seed is None:
                raise ValueError(
                    f"shuffle is {shuffle} and seed is {seed}; an endless stream needs True and a number."
                )
            return endless(open_epoch, features, seed, shard_info)
        dataset = read_files(files)
        if shard_info:
            dataset = dataset.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            dataset = dataset.shuffle(self.shuffle_buffer_size, seed=seed)
        return dataset.map(features)


class ExampleSource(ShuffledRecords, seqio.TFExampleDataSource):
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
        self.shuffle_buffer_size = shuffle_buffer_size
        self._advice = advice

    def list_shards(self, split: str) -> list[str]:
        """The files of a split, sorted: those of its pattern, and those whose names end in .gz besides.

        Raises:
          ValueError: for an unknown split, if there is no file, or if one is there both plain and compressed.
        """
        if split not in self._split_to_filepattern:
            raise ValueError(
                f"No split {split!r} here; the splits are {', '.join(self._split_to_filepattern)}."
            )
        pattern = os.fspath(self._split_to_filepattern[split])
        files = sorted({*tf.io.gfile.glob(pattern), *tf.io.gfile.glob(f"{pattern}.gz")})
        refuse_twins(files)
        if not files:
            folder = os.path.dirname(pattern)
            what = "is empty of them" if tf.io.gfile.isdir(folder) else "does not exist"
            raise ValueError(
                f"No records for the split {split!r}: nothing matches {pattern} (the folder {folder} "
                f"{what}). {self._advice}"
            )
        return files

    def record_files(self, split: str) -> list[RecordFile]:
        """See `ShuffledRecords`."""
        return [RecordFile(path, compression=_compression(path)) for path in self.list_shards(split)]

    def parse(self, record: tf.Tensor) -> Mapping[str, Any]:
        """See `ShuffledRecords`."""
        return self.parse_fn(record)


def _compression(path: str) -> str:
    with tf.io.gfile.GFile(path, "rb") as file:
        return compression_of(file.read(HEAD))


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


class TfdsImageSource(ShuffledRecords, seqio.TfdsDataSource):
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
            read_only=True,
        )
        self._performs_internal_shuffling = True
        self._tfds_splits = dict(splits)
        self.shuffle_buffer_size = shuffle_buffer_size

    def num_input_examples(self, split: str) -> None:
        """Not told: SeqIO would keep a small data set in memory, in the order of its first epoch."""
        return None

    def list_shards(self, split: str) -> Sequence[str]:
        """The files of a split.

        Raises:
          ValueError: the data set is not on disk.
        """
        return [file.path for file in self.record_files(split)]

    def record_files(self, split: str) -> list[RecordFile]:
        """See `ShuffledRecords`."""
        found = self._builder().info.splits[self._tfds_splits[split]].file_instructions
        return [RecordFile(part.filename, part.skip, part.take) for part in found]

    def parse(self, record: tf.Tensor) -> Mapping[str, Any]:
        """See `ShuffledRecords`; `image` stays encoded."""
        decoders = {"image": tfds.decode.SkipDecoding()}
        return self._builder().info.features.deserialize_example(record, decoders=decoders)

    def _builder(self) -> tfds.core.DatasetBuilder:
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
        return builder
