"""`tf.train.Example`s of one value a feature, and TFRecord files of them, without TensorFlow."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from richhf.atomic import atomic_path
from richhf.data.checks import Checker, RecordError
from richhf.data.framing import DamagedFileError, TruncatedFileError, frame, read_frames

OnError = Callable[[RecordError], object]


def serialize_features(values: Mapping[str, bytes | float]) -> bytes:
    """Serializes a `tf.train.Example` of one value a feature; equal values give equal bytes."""
    example = _example_class()()
    example.features.SetInParent()
    for name, value in values.items():
        feature = example.features.feature[name]
        (feature.bytes_list if isinstance(value, bytes) else feature.float_list).value.append(value)
    return example.SerializeToString(deterministic=True)


def parse_features(serialized: bytes, check: Checker) -> Mapping[str, Any]:
    """Parses a `tf.train.Example` into its features by name, messages like `tf.train.Feature` each.

    Raises:
        RecordError: if it is something else.
    """
    try:
        return _example_class().FromString(serialized).features.feature
    except DecodeError as error:
        found = f"{len(serialized)} bytes of something else"
        raise check.error("record", found, "a tf.train.Example") from error


def write_examples(path: str | os.PathLike, examples: Iterable[bytes]) -> int:
    """Writes a file of serialized examples, whole or not at all, and returns their number.

    Raises:
        OSError: if the file cannot be written.
    """
    count = 0
    # Without a buffer: what cannot be written is an error here, and not again when the file is closed.
    with atomic_path(path) as temporary, temporary.open("wb", buffering=0) as file:
        for example in examples:
            rest = memoryview(frame(example))
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise OSError(f"cannot write {path}: {error.strerror}") from error
            count += 1
    return count


def read_examples(path: str, on_error: OnError | None = None) -> Iterator[bytes]:
    """Reads the serialized examples of one file, unparsed; damage ends the file.

    Args:
        path: a record file, plain or compressed (GZIP, ZLIB).
        on_error: called with the damage; without it, it is raised.

    Raises:
        RecordError: if the file is cut short or damaged.
        OSError: if it cannot be read.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"{path} is not a file; expected a record file")
    index = 0
    try:
        for serialized in read_frames(path):
            yield serialized
            index += 1
    except (TruncatedFileError, DamagedFileError) as error:
        truncated = isinstance(error, TruncatedFileError)
        found = "a truncated record" if truncated else "a damaged record, or no TFRecord file at all"
        damage = RecordError(path, index, "record", found, "an intact TFRecord file: make or copy it again")
        if on_error is None:
            raise damage from error
        on_error(damage)


@functools.cache
def _example_class() -> Any:
    """The message `tensorflow.Example`, in a pool of its own: TensorFlow registers its own in the default."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def add(name: str, within: Any = file.message_type) -> Any:
        return within.add(name=name)

    def add_field(
        message: Any, name: str, number: int, kind: Any, type_name: str | None = None, many: bool = False
    ):
        label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
        return message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)

    lists = (
        ("BytesList", "bytes_list", kinds.TYPE_BYTES),
        ("FloatList", "float_list", kinds.TYPE_FLOAT),
        ("Int64List", "int64_list", kinds.TYPE_INT64),
    )
    feature = add("Feature")
    feature.oneof_decl.add(name="kind")
    for number, (message, field, kind) in enumerate(lists, start=1):
        add_field(add(message), "value", 1, kind, many=True)
        add_field(feature, field, number, kinds.TYPE_MESSAGE, f".tensorflow.{message}").oneof_index = 0
    features = add("Features")
    entry = add("FeatureEntry", features.nested_type)
    entry.options.map_entry = True
    add_field(entry, "key", 1, kinds.TYPE_STRING)
    add_field(entry, "value", 2, kinds.TYPE_MESSAGE, ".tensorflow.Feature")
    add_field(features, "feature", 1, kinds.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry", many=True)
    add_field(add("Example"), "features", 1, kinds.TYPE_MESSAGE, ".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
