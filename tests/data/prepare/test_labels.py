import pathlib

import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from richhf.data.prepare.label_sources import RecordFiles
from richhf.data.prepare.labels import FEATURES, Label, check_label
from richhf.data.prepare.problems import Kind, Problem, raise_problem

PLACE = Label("train", "train.tfrecord", 7, pathlib.Path("train.tfrecord"), 0, 0)


def feature(kind, values):
    lists = {
        "bytes_list": tf.train.BytesList,
        "float_list": tf.train.FloatList,
        "int64_list": tf.train.Int64List,
    }
    return tf.train.Feature(**{kind: lists[kind](value=values)})


VALUES = st.one_of(
    st.tuples(st.just("bytes_list"), st.lists(st.binary(max_size=20), max_size=2)),
    st.tuples(st.just("float_list"), st.lists(st.floats(width=32), max_size=2)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2)),
    st.none(),
)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_problem_and_nothing_else(serialized):
    problem = check_label(serialized, PLACE)
    assert isinstance(problem, Problem)
    assert (problem.file, problem.index) == ("train.tfrecord", 7)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from([*FEATURES]), VALUES, min_size=1, max_size=3))
def test_arbitrary_features_are_a_label_or_a_problem(world, changes):
    example = tf.train.Example.FromString(world.example(world.uids[0]))
    for name, change in changes.items():
        del example.features.feature[name]
        if change is not None:
            example.features.feature[name].CopyFrom(feature(*change))
    checked = check_label(example.SerializeToString(), PLACE)
    assert isinstance(checked, Label | Problem)
    if isinstance(checked, Problem):
        assert "found" in checked.detail or checked.kind is Kind.LABELS  # "label 0 is '2'"
        assert "expected" in checked.detail


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_damaged_records_are_a_label_or_a_problem(world, place, byte):
    damaged = bytearray(world.example(world.uids[0]))
    damaged[int(place * len(damaged))] = byte
    assert isinstance(check_label(bytes(damaged), PLACE), Label | Problem)


def test_a_sound_record_gives_its_uid_and_the_number_of_labels(world):
    checked = check_label(world.example("train-uid-0001"), PLACE)
    assert (checked.uid, checked.labels, checked.index) == ("train-uid-0001", 6, 7)


def test_files_may_be_sharded_and_dev_may_be_called_validation(world, labels, tmp_path):
    (tmp_path / "validation.tfrecord").write_bytes((labels / "dev.tfrecord").read_bytes())
    (tmp_path / "README.md").write_text("train")
    for number, uids in enumerate((world.splits["train"][:3], world.splits["train"][3:])):
        with tf.io.TFRecordWriter(str(tmp_path / f"train-{number:05d}-of-00002.tfrecord")) as writer:
            for uid in uids:
                writer.write(world.example(uid))
    source = RecordFiles(tmp_path)
    assert source.by_split["dev"] == ["validation.tfrecord"]
    found = source.read(tmp_path / "store", raise_problem)
    assert [label.uid for label in found.usable] == [*world.splits["train"], *world.splits["dev"]]
    assert found.found == {"train": 7, "dev": 2}
    for label in found.usable:
        assert label.read()["filename"] == world.labels[label.uid]["filename"]
    assert not (tmp_path / "store").exists()


def test_a_folder_without_label_files_says_what_it_holds(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere does not exist; expected the folder of RichHF-18K's"
    ):
        RecordFiles(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"no train.tfrecord, dev.tfrecord or test.tfrecord in .*; it is empty"
    ):
        RecordFiles(tmp_path)
    (tmp_path / "train.csv").touch()
    with pytest.raises(FileNotFoundError, match="is a file"):
        RecordFiles(tmp_path / "train.csv")
    with pytest.raises(ValueError, match=r"it holds train.csv"):
        RecordFiles(tmp_path)
    (tmp_path / "test.tfrecord").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match=r"test.tfrecord is a pointer of Git LFS.*git lfs pull"):
        RecordFiles(tmp_path)
