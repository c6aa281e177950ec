import gzip
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from richhf.data.checks import Checker
from richhf.data.examples import parse_features, read_examples, serialize_features, write_examples
from richhf.data.framing import (
    HEAD,
    DamagedFileError,
    TruncatedFileError,
    compression_of,
    frame,
    is_record_file,
    read_content,
    read_frames,
    skip_through,
)
from richhf.data.inspect import inspect_records
from richhf.data.records import RecordError, read_records
from richhf.data.stream import RecordFile, read_files, shuffled_files
from richhf.inference.listing import find_inputs
from tests.data.test_records import make_record
from tests.data.test_records import write_records as write_plain

VALUES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=9), st.binary() | st.floats(width=32, allow_nan=False)
)
CONTENTS = [b"", b"a", b"\0" * 300, np.random.default_rng(0).bytes(3_000_000), b"the last"]
COMPRESSIONS = ["", "GZIP", "ZLIB"]


def write_with_tensorflow(path, contents, compression=""):
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
        for content in contents:
            writer.write(content)


@given(VALUES)
def test_examples_are_those_of_tensorflow_byte_for_byte(values):
    train, features = tf.train, {}
    for name, value in values.items():
        kind = {"bytes_list": train.BytesList(value=[value])} if isinstance(value, bytes) else {}
        features[name] = train.Feature(**(kind or {"float_list": train.FloatList(value=[value])}))
    expected = train.Example(features=train.Features(feature=features))
    assert serialize_features(values) == expected.SerializeToString(deterministic=True)
    parsed = parse_features(expected.SerializeToString(), Checker("", 0))
    assert {name: value.WhichOneof("kind") for name, value in parsed.items()} == {
        name: value.WhichOneof("kind") for name, value in features.items()
    }


def test_files_are_those_of_tensorflow_byte_for_byte(tmp_path):
    write_with_tensorflow(tmp_path / "theirs", CONTENTS)
    assert write_examples(tmp_path / "ours", iter(CONTENTS)) == len(CONTENTS)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert list(tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()) == CONTENTS
    assert write_examples(tmp_path / "empty", []) == 0
    assert list(read_frames(tmp_path / "empty")) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_files_are_known_by_their_bytes(tmp_path, compression):
    path = tmp_path / "any.name"
    write_with_tensorflow(path, CONTENTS, compression)
    assert compression_of(path.read_bytes()[:HEAD]) == compression
    assert is_record_file(path)
    assert list(read_frames(path)) == CONTENTS
    skip_through(path)
    start = len(frame(b"")) + len(frame(b"a")) + HEAD
    assert read_content(path, start, 300) == bytes(300)
    assert read_content(path, start - len(frame(b"a")), 1) == b"a"
    files = [RecordFile(str(path), compression=compression), RecordFile(str(path), 1, 2, compression)]
    assert list(read_files(files).as_numpy_iterator()) == [*CONTENTS, *CONTENTS[1:3]]
    stream = shuffled_files(files[:1], buffer=9, seed=1, epoch=tf.constant(0, tf.int64))
    assert sorted(stream.as_numpy_iterator()) == sorted(CONTENTS)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("cut", [1, 5, 20, 4000])
def test_a_file_cut_short_gives_its_whole_records(tmp_path, compression, cut):
    path = tmp_path / "a"
    contents = [np.random.default_rng(seed).bytes(9000) for seed in range(3)]
    write_with_tensorflow(path, contents, compression)
    path.write_bytes(path.read_bytes()[:-cut])
    found = []
    with pytest.raises(TruncatedFileError):
        found += [found.append(content) for content in read_frames(path)]
    assert found[:2] == contents[:2]
    with pytest.raises(TruncatedFileError):
        skip_through(path)
    with pytest.raises(RecordError, match="found a truncated record"):
        list(read_examples(str(path)))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_bit_is_damage(tmp_path, compression):
    path = tmp_path / "a"
    write_with_tensorflow(path, [np.random.default_rng(0).bytes(9000)], compression)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises((DamagedFileError, TruncatedFileError)):
        list(read_frames(path))


def test_a_length_that_looks_like_gzip_is_a_plain_file(tmp_path):
    content = bytes(int.from_bytes(b"\x1f\x8b\x08", "little"))
    (tmp_path / "a").write_bytes(frame(content))
    assert (tmp_path / "a").read_bytes().startswith(gzip.compress(b"")[:3])
    assert compression_of(frame(content)[:HEAD]) == ""
    assert list(read_frames(tmp_path / "a")) == [content]


def test_parts_that_are_compressed_one_behind_the_other_are_one_file(tmp_path):
    parts = [gzip.compress(frame(content)) for content in CONTENTS]
    (tmp_path / "a").write_bytes(b"".join(parts) + bytes(7))
    assert list(read_frames(tmp_path / "a")) == CONTENTS


@pytest.mark.parametrize(
    "content", [b"no record file, but long enough", gzip.compress(b"text", mtime=0), zlib.compress(b"")]
)
def test_files_of_another_kind_are_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not is_record_file(tmp_path / "a")


def test_compressed_records_are_read_everywhere(tmp_path):
    made = [make_record(seed) for seed in range(4)]
    write_plain(tmp_path / "plain.tfrecord", made)
    content = gzip.compress((tmp_path / "plain.tfrecord").read_bytes())
    for name in ("a.tfrecord", "b.tfrecord.gz", "c.data"):
        path = tmp_path / name.split(".")[0] / name
        path.parent.mkdir()
        path.write_bytes(content)
        assert [record.filename for record in read_records(path)] == [record.filename for record in made]
        found = inspect_records(path)
        assert (found.records, found.problems) == (4, [])
        inputs = find_inputs(str(path))
        assert [one.read() for one in reversed(inputs)] == [record.image for record in reversed(made)]
        assert {one.failure for one in inputs} == {None}


def test_a_file_that_is_there_plain_and_compressed_is_an_error(tmp_path):
    write_plain(tmp_path / "a.tfrecord", [make_record()])
    (tmp_path / "a.tfrecord.gz").write_bytes(gzip.compress((tmp_path / "a.tfrecord").read_bytes()))
    with pytest.raises(ValueError, match=r"a\.tfrecord\.gz are both there"):
        inspect_records(tmp_path)
