import dataclasses
import gzip
import itertools

import numpy as np
import pytest

import tasks.synthetic
from richhf.data import datasets, records, synthetic, training_stream, words
from richhf.data.datasets import DatasetConfig

LENGTHS = {"image": 32, "inputs": 40, "targets": 40}
TRAIN, DEV = 12, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic")
    synthetic.synthesize(path, train=TRAIN, dev=DEV, test=1, size=32, seed=3, workers=1)
    return path


@pytest.fixture
def config(folder):
    tasks.synthetic.register(folder)
    return DatasetConfig("synthetic_augmented_prompt", LENGTHS, "train", 4, shuffle=True, seed=1)


def fingerprints(batch) -> list[bytes]:
    return [image.tobytes() for image in batch["image"]]


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def test_train_batches_have_static_shapes(config):
    batch = next(training_stream.train_iterator(config))
    assert {name: (array.shape, str(array.dtype)) for name, array in batch.items()} == {
        "image": ((4, 32, 32, 3), "uint8"),
        "encoder_input_tokens": ((4, 7, 40), "int32"),
        "heatmaps": ((4, 2, 32, 32), "uint8"),
        "heatmap_weights": ((4, 2), "float32"),
        "scores": ((4, 4), "float32"),
        "score_weights": ((4, 4), "float32"),
        "decoder_input_tokens": ((4, 40), "int32"),
        "decoder_target_tokens": ((4, 40), "int32"),
        "decoder_loss_weights": ((4, 40), "float32"),
        "word_labels": ((4, 40), "int32"),
        "shown_tokens": ((4, 40), "int32"),
    }


def test_each_epoch_has_every_image_once_in_another_order(config):
    stream = training_stream.train_iterator(config)
    epochs = [[image for _ in range(TRAIN // 4) for image in fingerprints(next(stream))] for _ in range(3)]
    assert all(len(set(epoch)) == TRAIN for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])


def test_the_seed_decides_the_stream(config):
    first, again = training_stream.train_iterator(config), training_stream.train_iterator(config)
    other = training_stream.train_iterator(dataclasses.replace(config, seed=2))
    ours = [next(first) for _ in range(4)]
    for batch in ours:
        assert_same(batch, next(again))
    assert [fingerprints(b) for b in ours] != [fingerprints(next(other)) for _ in range(4)]


# Batches 3, 6, ... end an epoch; a buffer of 5 is refilled all the time, one of 1,000 once an epoch.
@pytest.mark.parametrize(("before", "buffer"), [(0, 1000), (2, 5), (2, 1000), (3, 1000), (7, 5)])
def test_restored_stream_continues_identically(config, folder, tmp_path, before, buffer):
    tasks.synthetic.register(
        folder, corruption_rate=0.5, corrupt_until_example=40, shuffle_buffer_size=buffer
    )
    stream = training_stream.train_iterator(config)
    for _ in range(before):
        next(stream)
    stream.save(tmp_path / "position")
    expected = [next(stream) for _ in range(12)]
    restored = training_stream.train_iterator(config)
    restored.restore(tmp_path / "position")
    for batch in expected:
        assert_same(batch, next(restored))


def test_evaluation_is_in_order_padded_and_carries_the_texts(config, folder):
    truth = list(records.read_records(records.list_record_files(folder / "dev-00000-of-00001.tfrecord")))
    batches = list(datasets.eval_batches(dataclasses.replace(config, split="dev", shuffle=False)))
    assert [batch.valid for batch in batches] == [4, DEV - 4]
    assert list(itertools.chain(*(b.filenames for b in batches))) == [record.filename for record in truth]
    assert list(itertools.chain(*(b.prompts for b in batches))) == [record.prompt for record in truth]
    marked = [words.mark_misaligned(r.prompt, [label == 0 for label in r.labels]) for r in truth]
    assert list(itertools.chain(*(b.keywords for b in batches))) == marked
    assert all(itertools.chain(*(b.keyword_valid for b in batches)))
    for batch, first in zip(batches, (0, 4), strict=True):
        assert all(len(array) == 4 for array in batch.features.values())
        for row in range(batch.valid):
            np.testing.assert_array_equal(batch.features["image"][row], truth[first + row].decode_image())
    padding = {name: array[DEV - 4 :] for name, array in batches[-1].features.items()}
    assert (padding.pop("word_labels") == -1).all()
    assert not any(array.any() for array in padding.values())


def test_num_examples_cuts_evaluation_and_is_refused_in_training(config):
    few = dataclasses.replace(config, split="dev", shuffle=False, num_examples=5)
    assert sum(batch.valid for batch in datasets.eval_batches(few)) == 5
    with pytest.raises(ValueError, match="num_examples is 5"):
        training_stream.train_iterator(dataclasses.replace(config, num_examples=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture_or_task_name": "synthetic_multihead"}, "Did you mean 'synthetic_multi_head'"),
        ({"split": "tests"}, "no split 'tests'. Did you mean 'test'"),
        ({"batch_size": 0}, "BATCH_SIZE is 0"),
        ({"task_feature_lengths": {"image": 32, "inputs": 40}}, r"missing \['targets'\]"),
        ({"task_feature_lengths": {**LENGTHS, "inputs": 2}}, r"2 tokens \(TASK_FEATURE_LENGTHS\['inputs'\]"),
    ],
)
def test_wrong_configurations_are_explained(config, changes, message):
    with pytest.raises(ValueError, match=message):
        training_stream.train_iterator(dataclasses.replace(config, **changes))


def test_module_is_imported_first(config):
    with pytest.raises(ModuleNotFoundError, match="no_such_tasks"):
        datasets.get_task(dataclasses.replace(config, module="no_such_tasks"))


def test_empty_folder_says_what_to_run(config, tmp_path):
    tasks.synthetic.register(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path} is empty of them.*richhf synthesize {tmp_path}"):
        training_stream.train_iterator(config)


def test_files_without_a_single_record_are_no_stream(config, folder, tmp_path):
    """An endless one would look for the first record for ever."""
    (tmp_path / "vocabulary.model").write_bytes((folder / "vocabulary.model").read_bytes())
    for part in range(2):
        (tmp_path / f"train-{part:05}-of-00002.tfrecord").touch()
    tasks.synthetic.register(tmp_path)
    with pytest.raises(
        ValueError, match=r"'train' of synthetic_augmented_prompt holds no record: .*all empty"
    ):
        training_stream.train_iterator(config)


def test_compressed_records_train_as_plain_ones(config, folder, tmp_path):
    """Whether their names say so or not; the same batches, also from a stream that was saved."""
    for path in folder.glob("*.*"):
        content = path.read_bytes()
        if path.suffix == ".tfrecord":
            name = f"{path.name}.gz" if path.name.startswith("train") else path.name
            (tmp_path / name).write_bytes(gzip.compress(content))
        else:
            (tmp_path / path.name).write_bytes(content)
    dev = dataclasses.replace(config, split="dev", shuffle=False)
    found = {}
    for place in (folder, tmp_path):
        tasks.synthetic.register(place)
        stream = training_stream.train_iterator(config)
        found[place] = [next(stream) for _ in range(3)] + [b.features for b in datasets.eval_batches(dev)]
    for one, other in zip(*found.values(), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    file = tmp_path / "train-00000-of-00001.tfrecord.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-3000])
    with pytest.raises(ValueError, match=r"tfrecord\.gz is cut short"):
        training_stream.train_iterator(config)
    file.write_bytes(gzip.compress(b""))
    with pytest.raises(ValueError, match=r"holds no record: .*all empty"):
        training_stream.train_iterator(config)
    file.write_bytes(whole)
    (tmp_path / "train-00000-of-00001.tfrecord").write_bytes(whole)
    with pytest.raises(ValueError, match="are both there"):
        training_stream.train_iterator(config)


def test_missing_vocabulary_is_named(config, folder, tmp_path):
    name = "train-00000-of-00001.tfrecord"
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    tasks.synthetic.register(tmp_path)
    with pytest.raises(ValueError, match=r"vocabulary of synthetic_augmented_prompt, .*vocabulary.model"):
        training_stream.train_iterator(config)


def test_images_of_another_side_name_both_sizes(config):
    wrong = dataclasses.replace(config, task_feature_lengths={**LENGTHS, "image": 64})
    with pytest.raises(
        ValueError, match=r"\(32, 32\).*expected \(64, 64\): set TASK_FEATURE_LENGTHS\['image'\]"
    ):
        training_stream.train_iterator(wrong)


@pytest.mark.parametrize("cut", [1, 4000])
def test_truncated_file_is_named_before_anything_is_read(config, folder, tmp_path, cut):
    for name in ("train-00000-of-00001.tfrecord", "vocabulary.model"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    file = tmp_path / "train-00000-of-00001.tfrecord"
    file.write_bytes(file.read_bytes()[:-cut])
    tasks.synthetic.register(tmp_path)
    with pytest.raises(ValueError, match=r"train-00000-of-00001.tfrecord is cut short"):
        training_stream.train_iterator(config)
