"""`tf.train.Example`s of one value a feature, and TFRecord files of them."""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from richhf.atomic import atomic_path
from richhf.data.checks import Checker, RecordError

HEAD, FRAME = 12, 16
"""Bytes of a TFRecord before its content (length, checksum), and before and after it (another checksum)."""
OnError = Callable[[RecordError], object]


def serialize_features(values: Mapping[str, bytes | float]) -> bytes:
    """Serializes a `tf.train.Example` of one value a feature; equal values give equal bytes."""
    train = _tensorflow().train
    features = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            features[name] = train.Feature(bytes_list=train.BytesList(value=[value]))
        else:
            features[name] = train.Feature(float_list=train.FloatList(value=[value]))
    return train.Example(features=train.Features(feature=features)).SerializeToString(deterministic=True)


def parse_features(serialized: bytes, check: Checker) -> Mapping[str, Any]:
    """Parses a `tf.train.Example` into its features by name, `tf.train.Feature` each.

    Raises:
        RecordError: if it is something else.
    """
    from google.protobuf.message import DecodeError

    try:
        return _tensorflow().train.Example.FromString(serialized).features.feature
    except DecodeError as error:
        found = f"{len(serialized)} bytes of something else"
        raise check.error("record", found, "a tf.train.Example") from error


def write_examples(path: str | os.PathLike, examples: Iterable[bytes]) -> int:
    """Writes a file of serialized examples, whole or not at all, and returns their number.

    Raises:
        OSError: if the file cannot be written.
    """
    tf = _tensorflow()
    count = 0
    with atomic_path(path) as temporary:
        try:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for example in examples:
                    writer.write(example)
                    count += 1
        except tf.errors.OpError as error:
            raise OSError(f"cannot write {path}: {error.message}") from error
    return count


def read_examples(path: str, on_error: OnError | None = None) -> Iterator[bytes]:
    """Reads the serialized examples of one file, unparsed; damage ends the file.

    Args:
        path: a record file.
        on_error: called with the damage; without it, it is raised.

    Raises:
        RecordError: if the file is cut short or damaged.
        OSError: if it cannot be read.
    """
    tf = _tensorflow()
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"{path} is not a file; expected a record file")
    index, size, truncated, cause = 0, 0, False, None
    try:
        for serialized in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield serialized
            index += 1
            size += len(serialized) + FRAME
        # What is left of a record cut within its head is taken for the end of the file.
        if size == pathlib.Path(path).stat().st_size:
            return
        truncated = True
    except tf.errors.DataLossError as error:
        truncated, cause = "truncated" in error.message, error
    except tf.errors.OpError as error:
        raise OSError(f"cannot read {path}: {error.message}") from error
    found = "a truncated record" if truncated else "a damaged record, or no TFRecord file at all"
    damage = RecordError(path, index, "record", found, "an intact TFRecord file: make or copy it again")
    if on_error is None:
        raise damage from cause
    on_error(damage)


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError("record files need TensorFlow: pip install richhf[train]") from error
    return tensorflow
