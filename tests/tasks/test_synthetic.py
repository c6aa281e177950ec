import shutil

import numpy as np
import pytest
import seqio
import tensorflow as tf

import tasks.synthetic
from richhf import feedback
from richhf.data import records, words


def examples_of(variant, lengths, split="test"):
    task = seqio.TaskRegistry.get(f"synthetic_{variant}")
    return list(task.get_dataset(lengths, split=split, shuffle=False).as_numpy_iterator())


@pytest.fixture(scope="module")
def truth(folder):
    return list(records.read_records(folder / "test-00000-of-00001.tfrecord"))


@pytest.mark.parametrize(("variant", "rows"), [("multi_head", 1), ("augmented_prompt", 7)])
def test_examples_are_the_records(folder, lengths, truth, variant, rows):
    tasks.synthetic.register(folder)
    examples = examples_of(variant, lengths)
    assert len(examples) == len(truth)
    for example, record in zip(examples, truth, strict=True):
        np.testing.assert_array_equal(example["image"], record.decode_image())
        np.testing.assert_array_equal(example["heatmaps"], [record.heatmaps[n] for n in feedback.HEATMAPS])
        np.testing.assert_allclose(example["scores"], [record.scores[n] for n in feedback.SCORES], rtol=1e-6)
        assert example["image"].dtype == example["heatmaps"].dtype == np.uint8
        assert example["inputs"].shape == (rows, lengths["inputs"])
        assert example["score_weights"].tolist() == [1] * 4
        assert example["heatmap_weights"].tolist() == [1] * 2
        assert example["prompt"].decode() == record.prompt
        mismatch = len(record.labels) != len(words.split_words(record.prompt))
        assert example["keyword_valid"] != mismatch
        assert bool(example["targets"].size) != mismatch
        assert (example["word_labels"] == -1).all() == mismatch
    assert [bool(example["keyword_valid"]) for example in examples] == [True, True, False, True, True]


def test_any_vocabulary_may_be_given(folder, lengths):
    vocabulary = seqio.ByteVocabulary()
    tasks.synthetic.register(folder, vocabulary=vocabulary)
    long = {**lengths, "inputs": 100, "targets": 100}
    example = examples_of("augmented_prompt", long)[0]
    text = vocabulary.decode(example["inputs"][-1].tolist())
    assert text.startswith("misaligned keywords: " + example["prompt"].decode())
    assert vocabulary.decode(example["targets"].tolist()) == example["targets_pretokenized"].decode()
    tasks.synthetic.register(folder)


def test_a_picture_of_another_side_among_right_ones_is_named(folder, lengths, truth, tmp_path):
    small = {name: heatmap[:8, :8] for name, heatmap in truth[1].heatmaps.items()}
    odd = records.Record(**{**vars(truth[1]), "filename": "test/odd.png", "heatmaps": small})
    records.write_records(tmp_path / "test-00000-of-00001.tfrecord", [truth[0], odd])
    shutil.copy(folder / "vocabulary.model", tmp_path)
    tasks.synthetic.register(tmp_path)
    message = r"test/odd.png[^$]*\[16 16\][^$]*\[8 8\][^$]*expected is[^$]*\[16 16\][^$]*TASK_FEATURE_LENGTHS"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        examples_of("multi_head", lengths)
    tasks.synthetic.register(folder)


def test_registering_again_replaces_the_tasks(folder, tmp_path):
    assert tasks.synthetic.register(tmp_path) == ("synthetic_multi_head", "synthetic_augmented_prompt")
    with pytest.raises(ValueError, match=f"richhf synthesize {tmp_path}"):
        seqio.TaskRegistry.get("synthetic_multi_head").source.list_shards("train")
    tasks.synthetic.register(folder)
    assert len(seqio.TaskRegistry.get("synthetic_multi_head").source.list_shards("train")) == 2


def test_hosts_share_the_records(folder, lengths):
    tasks.synthetic.register(folder)
    task = seqio.TaskRegistry.get("synthetic_multi_head")
    shards = []
    for index in range(2):
        info = seqio.ShardInfo(index=index, num_shards=2)
        dataset = task.get_dataset(lengths, split="train", shuffle=True, seed=5, shard_info=info)
        shards.append({example["filename"] for example in dataset.as_numpy_iterator()})
    assert not shards[0] & shards[1]
    assert len(shards[0] | shards[1]) == 40
