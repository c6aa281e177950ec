import io
import os
import pickle
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from richhf.data.checks import HEATMAP_FEATURES, LABEL_FEATURE, SCORE_FEATURES
from richhf.data.records import (
    Record,
    RecordError,
    encode_png,
    example_to_record,
    list_record_files,
    read_records,
    record_to_example,
    write_records,
)
from richhf.feedback import HEATMAPS, SCORES

RICHHF_FEATURES = {  # as released: name and kind
    "filename": "bytes_list",
    "aesthetics_score": "float_list",
    "artifact_score": "float_list",
    "misalignment_score": "float_list",
    "overall_score": "float_list",
    "artifact_map": "bytes_list",
    "misalignment_map": "bytes_list",
    "prompt_misalignment_label": "bytes_list",
}


def make_record(seed=0, size=(24, 32), **changes) -> Record:
    rng = np.random.default_rng(seed)
    fields = {
        "filename": f"train/{seed}.png",
        "scores": {name: float(rng.integers(13)) / 12 for name in SCORES},
        "heatmaps": {name: rng.integers(0, 256, size, dtype=np.uint8) for name in HEATMAPS},
        "labels": (1, 0, 1),
        "image": encode_png(rng.integers(0, 256, (*size, 3), dtype=np.uint8)),
        "prompt": "a yellow cat",
    }
    return Record(**{**fields, **changes})


def assert_same(one: Record, other: Record) -> None:
    assert (one.filename, one.labels, one.image, one.prompt) == (
        other.filename,
        other.labels,
        other.image,
        other.prompt,
    )
    for name in SCORES:
        assert np.float32(one.scores[name]) == np.float32(other.scores[name])
    for name in HEATMAPS:
        np.testing.assert_array_equal(one.heatmaps[name], other.heatmaps[name])


def features_of(serialized: bytes) -> dict:
    return dict(tf.train.Example.FromString(serialized).features.feature)


def with_feature(serialized: bytes, name: str, value: tf.train.Feature | None) -> bytes:
    """The example with one feature replaced, or taken out."""
    features = features_of(serialized)
    features.pop(name, None)
    if value is not None:
        features[name] = value
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def of_bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def of_floats(*values: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


SIZES = st.shared(st.tuples(st.integers(1, 9), st.integers(1, 9)), key="size")
MAPS = SIZES.flatmap(lambda size: hnp.arrays(np.uint8, size))
FIELDS = st.fixed_dictionaries(
    {
        "filename": st.text(st.characters(codec="utf-8")),
        "scores": st.fixed_dictionaries({name: st.floats(0, 1) for name in SCORES}),
        "heatmaps": st.fixed_dictionaries({name: MAPS for name in HEATMAPS}),
        "labels": st.lists(st.integers(0, 1)).map(tuple),
        "image": st.none() | st.binary().map(b"\xff\xd8\xff".__add__),
        "prompt": st.none() | st.text(st.characters(codec="utf-8")),
    }
)


@given(FIELDS)
def test_a_record_comes_back_as_it_was(fields):
    record = Record(**fields)
    serialized = record_to_example(record)
    assert_same(example_to_record(serialized), record)
    assert record_to_example(example_to_record(serialized)) == serialized


def test_the_features_are_those_of_richhf_18k_and_nothing_else():
    bare = features_of(record_to_example(make_record(image=None, prompt=None)))
    assert {name: value.WhichOneof("kind") for name, value in bare.items()} == RICHHF_FEATURES
    full = features_of(record_to_example(make_record()))
    assert set(full) - set(bare) == {"image", "prompt"}


def test_our_names_stand_for_the_features_the_paper_names():
    record = make_record(
        scores={"plausibility": 0.25, "alignment": 0.5, "aesthetics": 0.75, "overall": 1.0},
        labels=(1, 1, 0, 1),
    )
    features = features_of(record_to_example(record))
    found = {name: features[name].float_list.value[0] for name in SCORE_FEATURES.values()}
    assert found == {
        "artifact_score": 0.25,
        "misalignment_score": 0.5,
        "aesthetics_score": 0.75,
        "overall_score": 1.0,
    }
    assert features[LABEL_FEATURE].bytes_list.value[0] == b"1 1 0 1"
    for name, feature in (("implausibility", "artifact_map"), ("misalignment", "misalignment_map")):
        picture = Image.open(io.BytesIO(features[feature].bytes_list.value[0]))
        assert (picture.format, picture.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(picture), record.heatmaps[name])


SERIALIZED = record_to_example(make_record())


@pytest.mark.parametrize("feature", RICHHF_FEATURES)
def test_a_missing_feature_is_named(feature):
    with pytest.raises(RecordError, match="no such feature") as caught:
        example_to_record(with_feature(SERIALIZED, feature, None), file="dev.tfrecord", index=7)
    assert (caught.value.file, caught.value.index, caught.value.feature) == ("dev.tfrecord", 7, feature)


@pytest.mark.parametrize("feature", [*RICHHF_FEATURES, "image", "prompt"])
def test_a_feature_of_another_kind_is_an_error(feature):
    number = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    with pytest.raises(RecordError, match=r"found int64 values; expected one (bytes|float) value") as caught:
        example_to_record(with_feature(SERIALIZED, feature, number))
    assert caught.value.feature == feature


GREY = Image.new("L", (32, 24))
BROKEN = {
    "nan": ("artifact_score", of_floats(float("nan")), "found nan; expected a number in"),
    "above one": ("overall_score", of_floats(1.5), "found 1.5"),
    "negative": ("misalignment_score", of_floats(-0.25), "found -0.25"),
    "two values": ("aesthetics_score", of_floats(0.5, 0.5), "found 2 values; expected one float value"),
    "no value": ("aesthetics_score", of_floats(), "found 0 values"),
    "empty feature": ("artifact_map", tf.train.Feature(), "an empty feature"),
    "not an image": ("artifact_map", of_bytes(b"hello"), "5 bytes that cannot be decoded"),
    "cut image": ("artifact_map", of_bytes(encode(GREY)[:-25]), "cannot be decoded"),
    "colour map": ("misalignment_map", of_bytes(encode(GREY.convert("RGB"))), "found an image of mode RGB"),
    "one bit": ("misalignment_map", of_bytes(encode(GREY.convert("1"))), "found an image of mode 1;"),
    "16 bit": ("misalignment_map", of_bytes(encode(GREY.convert("I;16"))), "found an image of mode I"),
    "other size": (
        "misalignment_map",
        of_bytes(encode(GREY.resize((8, 8)))),
        r"size \(8, 8\); expected \(24, 32\)",
    ),
    "label 2": (LABEL_FEATURE, of_bytes(b"1 2 0"), "label 1 is '2'; expected 0 and 1"),
    "label text": (LABEL_FEATURE, of_bytes(b"\xff"), "expected UTF-8 text"),
    "prompt": ("prompt", of_bytes(b"caf\xe9"), "expected UTF-8 text"),
    "gif": ("image", of_bytes(encode(GREY, "GIF")), "expected an encoded PNG or JPEG"),
}


@pytest.mark.parametrize(("feature", "value", "message"), BROKEN.values(), ids=BROKEN)
def test_a_malformed_value_says_where_what_and_what_instead(feature, value, message):
    with pytest.raises(RecordError, match=message) as caught:
        example_to_record(with_feature(SERIALIZED, feature, value), file="a.tfrecord", index=3)
    assert str(caught.value).startswith(f"a.tfrecord, record 3, {feature}: found ")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@settings(max_examples=200)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_damaged_bytes_give_a_record_error_or_a_record(place, byte):
    """No other exception escapes, whatever happens to the bytes of a map or of the whole example."""
    picture = bytearray(features_of(SERIALIZED)["artifact_map"].bytes_list.value[0])
    picture[int(place * len(picture))] = byte
    whole = bytearray(SERIALIZED)
    whole[int(place * len(whole))] = byte
    for damaged in (with_feature(SERIALIZED, "artifact_map", of_bytes(bytes(picture))), bytes(whole)):
        try:
            record = example_to_record(damaged)
        except RecordError:
            continue
        assert all(0 <= score <= 1 for score in record.scores.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {name: 0.5 for name in SCORES[:3]}}, "overall_score: found only"),
        ({"scores": dict.fromkeys(SCORES, 2.0)}, "artifact_score: found 2.0"),
        ({"labels": (1, 2)}, "prompt_misalignment_label"),
        ({"image": b"GIF89a"}, "image"),
        ({"heatmaps": {"implausibility": np.zeros((2, 2), np.uint8)}}, "misalignment_map"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, changes, message):
    path = tmp_path / "bad.tfrecord"
    with pytest.raises(RecordError, match=f"bad.tfrecord, record 1, .*{message}|record 1, {message}"):
        write_records(path, [make_record(), make_record(1, **changes)])
    assert list(tmp_path.iterdir()) == []


def test_files_keep_order_and_can_be_read_as_one(tmp_path):
    records = [make_record(seed) for seed in range(5)]
    assert write_records(tmp_path / "new" / "a.tfrecord", records[:3]) == 3
    write_records(tmp_path / "new" / "b.tfrecord", iter(records[3:]))
    files = list_record_files(tmp_path / "new")
    assert [file.name for file in files] == ["a.tfrecord", "b.tfrecord"]
    for one, other in zip(read_records(files), records, strict=True):
        assert_same(one, other)
    assert [record.filename for record in read_records(files[1])] == ["train/3.png", "train/4.png"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_records(path, [make_record(0)])
    before = path.read_bytes()

    def interrupted():
        yield make_record(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(path, interrupted())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*a\.tfrecord"):
            write_records(tmp_path / "a.tfrecord", (make_record(seed) for seed in range(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [3, 11, 12, 50])  # the head of a TFRecord has 12 bytes
def test_a_truncated_file_gives_its_whole_records_then_the_error(tmp_path, left):
    path = tmp_path / "a.tfrecord"
    write_records(path, [make_record()] * 3)
    size = path.stat().st_size // 3
    path.write_bytes(path.read_bytes()[: 2 * size + left])
    reader = read_records(path)
    assert [next(reader).filename, next(reader).filename] == ["train/0.png"] * 2
    with pytest.raises(RecordError, match=r"a\.tfrecord, record 2, record: found a truncated"):
        next(reader)


def test_a_flipped_bit_is_damage(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_records(path, [make_record()])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RecordError, match="record 0, record: found a damaged record"):
        list(read_records(path))


def test_malformed_records_are_reported_and_skipped_on_request(tmp_path):
    path, other = tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"
    bad = with_feature(SERIALIZED, "overall_score", of_floats(7))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for serialized in (SERIALIZED, bad, b"\xffgarbage", SERIALIZED):
            writer.write(serialized)
    with open(path, "ab") as file:
        file.write(b"cut")
    write_records(other, [make_record(5)])

    problems = []
    found = list(read_records([path, other], on_error=problems.append))
    assert [record.filename for record in found] == ["train/0.png"] * 2 + ["train/5.png"]
    assert [(p.index, p.feature) for p in problems] == [(1, "overall_score"), (2, "record"), (4, "record")]
    with pytest.raises(RecordError, match="record 1, overall_score"):
        list(read_records(path))


def test_a_missing_file_or_an_empty_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(read_records(tmp_path / "nowhere.tfrecord"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list_record_files(tmp_path / "nowhere")
    (tmp_path / ".a.tfrecord.1.tmp").touch()
    with pytest.raises(ValueError, match=r"no \*\.tfrecord file in"):
        list_record_files(tmp_path)


def test_images_decode_to_rgb_or_say_whose_cannot():
    grey = make_record(image=encode(GREY, "JPEG")).decode_image()
    assert grey.shape == (24, 32, 3)
    with pytest.raises(ValueError, match=r"train/0\.png' has no image"):
        make_record(image=None).decode_image()
    with pytest.raises(ValueError, match=r"train/0\.png' cannot be decoded"):
        make_record(image=encode(GREY)[:30]).decode_image()


def test_a_record_is_feedback_at_its_own_scale():
    heatmap = np.array([[0, 85], [170, 255]], np.uint8)
    feedback = make_record(heatmaps=dict.fromkeys(HEATMAPS, heatmap)).to_feedback()
    np.testing.assert_allclose(feedback.heatmaps["misalignment"], [[0, 1 / 3], [2 / 3, 1]], rtol=1e-6)
    assert feedback.misaligned_words == ("yellow",)
    unmatched = make_record(labels=(1, 0)).to_feedback()
    assert (unmatched.words, unmatched.misaligned) == (("a", "yellow", "cat"), ())


def test_the_tables_of_names_cover_the_vocabulary():
    assert set(SCORE_FEATURES) == set(SCORES)
    assert set(HEATMAP_FEATURES) == set(HEATMAPS)


def test_a_repr_holds_no_bytes():
    text = repr(make_record(size=(2, 2)))
    assert text.startswith("Record('train/0.png', plausibility=0.")
    assert "implausibility: 2 x 2" in text
    assert "image of 8" in text or "image of 7" in text
    assert len(text) < 300
    assert "x89" not in text
    assert "array" not in text
    assert "no image" in repr(make_record(image=None))


def test_record_files_need_no_tensorflow(tmp_path):
    records = [make_record(seed) for seed in range(3)]
    write_records(tmp_path / "a.tfrecord", records)
    code = """
import sys
for name in ("tensorflow", "seqio", "pyarrow"):
    sys.modules[name] = None
from richhf.data import match_labels_to_words, read_records, write_records
print(match_labels_to_words("a cat", "1 0"))
write_records("b.tfrecord", read_records("a.tfrecord"))
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert result.stdout.splitlines() == ["(('a', False), ('cat', True))"]
    assert (tmp_path / "b.tfrecord").read_bytes() == (tmp_path / "a.tfrecord").read_bytes()
