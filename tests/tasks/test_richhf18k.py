import dataclasses
import io

import numpy as np
import pytest
import seqio
from PIL import Image

import tasks.richhf18k
from richhf import feedback
from richhf.data import datasets, records, training_stream
from richhf.data.datasets import DatasetConfig
from tasks.augmentation import Augmentation
from tasks.richhf18k import T5_VOCABULARY

LENGTHS = {"image": 32, "heatmaps": 64, "inputs": 40, "targets": 40}
SMALL = {**LENGTHS, "heatmaps": 32}


@pytest.fixture
def register(prepared, vocabulary):
    yield lambda **kwargs: tasks.richhf18k.register(prepared, vocabulary=vocabulary, **kwargs)
    tasks.richhf18k.register("build/richhf18k")


@pytest.fixture
def train(register):
    register(augmentation=Augmentation())
    return DatasetConfig("richhf18k_multi_head", SMALL, "train", 4, shuffle=True, seed=1)


def examples_of(variant, split="test", lengths=LENGTHS, **kwargs):
    task = seqio.TaskRegistry.get(f"richhf18k_{variant}")
    return list(task.get_dataset(lengths, split=split, **{"shuffle": False, **kwargs}).as_numpy_iterator())


@pytest.mark.parametrize(("variant", "rows"), [("multi_head", 1), ("augmented_prompt", 7)])
def test_images_of_any_size_with_maps_as_they_were_released(register, prepared, variant, rows):
    register(augmentation=Augmentation())
    truth = list(records.read_records(prepared / "test-00000-of-00001.tfrecord"))
    examples = examples_of(variant)
    assert {record.decode_image().shape[:2] for record in truth} == {
        (40, 40), (64, 48), (96, 96), (24, 20), (32, 32)
    }  # fmt: skip
    for example, record in zip(examples, truth, strict=True):
        assert example["image"].shape == (32, 32, 3)
        assert example["image"].dtype == np.uint8
        wanted = Image.open(io.BytesIO(record.image)).convert("RGB").resize((32, 32), Image.Resampling.BOX)
        assert np.abs(example["image"].astype(int) - np.asarray(wanted)).mean() < 8
        np.testing.assert_array_equal(example["heatmaps"], [record.heatmaps[n] for n in feedback.HEATMAPS])
        np.testing.assert_allclose(example["scores"], [record.scores[n] for n in feedback.SCORES], rtol=1e-6)
        assert example["inputs"].shape == (rows, 40)
    np.testing.assert_array_equal(examples[-1]["image"], truth[-1].decode_image())


def test_labels_that_do_not_fit_train_everything_but_keywords(register):
    register()
    examples = examples_of("multi_head")
    assert [bool(e["keyword_valid"]) for e in examples] == [True, True, False, True, True]
    misfit = examples[2]
    assert not misfit["targets"].size
    assert (misfit["word_labels"] == -1).all()
    assert misfit["score_weights"].all()
    assert misfit["heatmap_weights"].all()
    assert misfit["inputs"].any()


def test_maps_are_averaged_for_a_smaller_model(register):
    register()
    for large, small in zip(examples_of("multi_head"), examples_of("multi_head", lengths=SMALL), strict=True):
        blocks = large["heatmaps"].reshape(2, 32, 2, 32, 2).mean((2, 4))
        np.testing.assert_allclose(small["heatmaps"], blocks, atol=0.51)


def test_batches_carry_maps_of_their_own_side(register):
    register()
    config = DatasetConfig("richhf18k_augmented_prompt", LENGTHS, "dev", 4)
    batches = list(datasets.eval_batches(config))
    assert [batch.valid for batch in batches] == [4, 2]
    assert batches[0].features["image"].shape == (4, 32, 32, 3)
    assert batches[0].features["heatmaps"].shape == (4, 2, 64, 64)


def by_name(examples) -> dict:
    found: dict = {}
    for example in examples:
        found.setdefault(example["filename"], []).append(example)
    return found


def test_augmentation_is_by_seed_epoch_and_example_and_of_training_alone(register):
    register(augmentation=Augmentation(crop_probability=1.0, crop_share=(0.6, 0.8)))
    settings = {"split": "train", "lengths": SMALL, "shuffle": True, "num_epochs": 2}
    first, again, other = (by_name(examples_of("multi_head", seed=seed, **settings)) for seed in (3, 3, 4))
    plain = by_name(examples_of("multi_head", split="train", lengths=SMALL))
    for name, (one, two) in first.items():
        for name_of in ("image", "heatmaps", "scores", "targets"):
            np.testing.assert_array_equal(one[name_of], again[name][0][name_of])
            np.testing.assert_array_equal(two[name_of], again[name][1][name_of])
        for changed in (two, other[name][0], plain[name][0]):
            assert (one["image"] != changed["image"]).any()
            assert (one["heatmaps"] != changed["heatmaps"]).any()
        # Labels stay.
        for label in ("scores", "score_weights", "heatmap_weights", "targets", "inputs"):
            np.testing.assert_array_equal(one[label], plain[name][0][label])
    register()
    for name, (bare,) in by_name(examples_of("multi_head", split="train", lengths=SMALL)).items():
        np.testing.assert_array_equal(bare["image"], plain[name][0]["image"])


def test_a_restored_stream_goes_on_with_the_same_augmentation(train, tmp_path):
    stream = training_stream.train_iterator(train)
    for _ in range(3):
        next(stream)
    stream.save(tmp_path / "position")
    expected = [next(stream) for _ in range(8)]
    restored = training_stream.train_iterator(train)
    restored.restore(tmp_path / "position")
    for batch in expected:
        found = next(restored)
        for name, value in batch.items():
            np.testing.assert_array_equal(value, found[name], err_msg=name)
    unaugmented = {image.tobytes() for image in expected[0]["image"]} & {
        image.tobytes() for image in expected[5]["image"]
    }
    assert not unaugmented


def test_the_vocabulary_of_t5_is_asked_for_unless_another_is_given(prepared, train, tmp_path):
    tasks.richhf18k.register(prepared)
    vocabulary = seqio.TaskRegistry.get("richhf18k_multi_head").output_features["inputs"].vocabulary
    assert vocabulary.sentencepiece_model_file == T5_VOCABULARY
    nowhere = str(tmp_path / "sentencepiece.model")
    tasks.richhf18k.register(prepared, vocabulary=seqio.SentencePieceVocabulary(nowhere))
    with pytest.raises(ValueError, match=f"{nowhere}, does not exist.*VOCABULARY in gin, or `vocabulary`"):
        training_stream.train_iterator(train)


def test_a_folder_without_records_says_what_to_run(train, tmp_path):
    tasks.richhf18k.register(tmp_path)
    with pytest.raises(ValueError, match=f"richhf prepare .* --out {tmp_path}"):
        datasets.get_task(dataclasses.replace(train, split="dev"))
    tasks.richhf18k.register("build/richhf18k")
