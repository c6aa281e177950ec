import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import tensorflow as tf
from seqio import SentencePieceVocabulary

import richhf
from launch import eval_job, train_job
from launch.data_fit import explained_reading
from richhf.data.datasets import DatasetConfig, get_task
from richhf.data.records import read_records, write_records
from richhf.data.synthetic.vocabulary import train_vocabulary
from richhf.data.training_stream import train_iterator
from richhf.evaluation import flatten_metrics, write_metrics
from richhf.feedback import HEATMAPS, SCORES
from richhf.pretrained import write_t5x_checkpoint
from richhf.training.run_log import read_log
from richhf.training.saved_params import find_checkpoint, restore_params
from tasks.synthetic import register


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_train_resume_and_evaluate(train, evaluate, data_dir, tmp_path, monkeypatch):
    """A run that is stopped by SIGTERM and started again ends as one that is not; then it is evaluated."""
    assert train(name="whole", steps=4) == 0
    plain = train_job.train_iterator

    class Shot:
        """Sends SIGTERM while the second batch is read."""

        def __init__(self, cfg, share):
            self.inner, self.taken = plain(cfg, share), 0
            self.element_spec, self.save, self.restore = (
                self.inner.element_spec, self.inner.save, self.inner.restore
            )  # fmt: skip

        def __next__(self):
            self.taken += 1
            if self.taken == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return next(self.inner)

    with monkeypatch.context() as patch:
        patch.setattr(train_job, "train_iterator", Shot)
        with pytest.raises(SystemExit) as stopped:
            train(name="parts", steps=4)
    assert stopped.value.code == 143
    assert find_checkpoint(tmp_path / "parts").name == "2"
    assert train("--gin.EVAL_PERIOD=4", name="parts", steps=4) == 0
    assert_same(restore_params(tmp_path / "whole"), restore_params(tmp_path / "parts"))
    evaluated = [line for line in read_log(tmp_path / "parts") if "eval/dev/loss" in line]
    assert [line["step"] for line in evaluated] == [4]
    assert (tmp_path / "parts/vocabulary.model").read_bytes() == (data_dir / "vocabulary.model").read_bytes()
    config = (tmp_path / "parts/config.gin").read_text()
    kept = [tmp_path / f"parts/checkpoints/{step}/run/config.gin" for step in (2, 4)]
    assert ["train.eval_period = %EVAL_PERIOD" in file.read_text() for file in kept] == [True, True]
    assert ["\nEVAL_PERIOD = 4\n" in file.read_text() for file in kept] == [False, True]
    assert kept[1].read_text() == config
    assert "HeatmapHeadConfig.conv_widths = (8,)" in config
    assert "DatasetConfig.batch_size" in config
    predictor = richhf.load(tmp_path / "parts")
    assert_same(predictor.params, restore_params(tmp_path / "parts"))
    assert predictor.settings.see_prompt
    assert (tmp_path / "parts/checkpoints/4/run/model.json").exists()

    arguments = ["--gin.EVAL_OUTPUT_DIR=" + str(tmp_path / "out")]
    assert evaluate(*arguments, name="parts") == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["examples"] == 10
    assert {"model", "mean_baseline", "noise_ceiling"} <= metrics.keys()
    assert metrics["noise_ceiling"]["scores"]["plausibility"]["plcc"] > 0.5
    assert (tmp_path / "out/metrics.md").read_text().count("|") > 50
    assert (tmp_path / "out/report.html").stat().st_size > 10_000

    mesh = (
        "--gin.Partitioner.num_devices=4",
        "--gin.Partitioner.fsdp=2",
        "--gin.EVAL_OUTPUT_DIR=" + str(tmp_path),
    )
    # The same weights as T5X keeps them.
    trained = write_t5x_checkpoint(tmp_path / "t5x", restore_params(tmp_path / "parts"), 4)
    assert evaluate(*mesh, f"--gin.CHECKPOINT={trained}", name="parts") == 0
    split = json.loads((tmp_path / "metrics.json").read_text())
    one, four = flatten_metrics(metrics["model"]), flatten_metrics(split["model"])
    assert one.keys() == four.keys()
    np.testing.assert_allclose(list(four.values()), list(one.values()), rtol=1e-3, atol=1e-5)


def test_augmented_prompt_learns_from_the_other_runs_weights(train, tmp_path):
    assert train(model="tiny_augmented_prompt", name="first", steps=1) == 0
    params = restore_params(tmp_path / "first")
    write_t5x_checkpoint(tmp_path / "t5x", params, 1)
    for start, name in (("first", "second"), ("t5x", "third")):
        flags = [f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path / start}", "--gin.LEARNING_RATE=0.0"]
        assert train(*flags, model="tiny_augmented_prompt", name=name, steps=1) == 0
        assert_same(params, restore_params(tmp_path / name, ema=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gin.MIXTURE_OR_TASK_NAME=synthetic_multihead"], "Did you mean 'synthetic_multi_head'"),
        (
            ["--gin.MIXTURE_OR_TASK_NAME=synthetic_augmented_prompt"],
            "7 prompt row.*set MIXTURE_OR_TASK_NAME to",
        ),
        (
            ["--gin.MIXTURE_OR_TASK_NAME=richhf18k_multi_head"],
            "which is not of this data file.*It has synthetic_multi_head, synthetic_augmented_prompt",
        ),
        (["--gin.RAHFConfig.variant=multihead"], "Did you mean 'multi_head'"),
        (["--gin.DATA_DIR=/nowhere"], "/nowhere does not exist.*richhf synthesize /nowhere"),
        (
            ["--gin.TASK_FEATURE_LENGTHS={'image': 64, 'inputs': 24, 'targets': 24}"],
            "the model takes images of 32 px",
        ),
        (
            ["--gin.TASK_FEATURE_LENGTHS={'image': 32, 'input': 24}"],
            "expected positive numbers for image, inputs",
        ),
        (["--gin.T5Config.vocab_size=100"], r"pieces, but the model embeds 100"),
        (
            ["--gin.BATCH_SIZE=7", "--gin.Partitioner.num_devices=2"],
            "a batch of 7 examples cannot be split over 2 device",
        ),
        (
            ["--gin.EVAL_BATCH_SIZE=3", "--gin.Partitioner.num_devices=2"],
            "a batch of 3 examples cannot be split over 2 device",
        ),
        (["--gin.training.train.num_microbatches=3"], "x 3 microbatch.*multiple of 3"),
        (["--gin.LR_FACTORS=constnt"], "Did you mean 'constant'"),
        (["--gin.INITIAL_CHECKPOINT_PATH=/nowhere"], "no checkpoint in /nowhere"),
        (["--gin.TRAIN_STEPS=0"], "TRAIN_STEPS is 0; expected at least 1"),
        (
            ["--gin.KEEP_BEST=1", "--gin.EVAL_PERIOD=500", "--gin.BEST_METRIC=eval/dev/los"],
            "BEST_METRIC is 'eval/dev/los'.*Did you mean 'eval/dev/loss'",
        ),
        (["--gin.BEST_MODE=least"], "BEST_MODE is 'least'; expected one of 'min', 'max'"),
        (["--gin.MAX_NONFINITE_STEPS=0"], "MAX_NONFINITE_STEPS is 0; expected at least 1"),
        (["--gin.EVAL_EXAMPLES=0"], "EVAL_EXAMPLES is 0; expected at least 1"),
        (["--gin.SEE_PROMPT=false"], "the value 'false' would be a string: write False"),
    ],
)
def test_configurations_that_cannot_work(train, capsys, tmp_path, arguments, message):
    assert train(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("launch.train: ")
    assert re.search(message, error.replace("\n", " "))
    assert not [path for path in tmp_path.glob("run/**/*") if path.is_file()]


def test_a_number_that_is_not_whole(gin_files, data_dir, tmp_path):
    """In a process of its own: in this one the tests' type checks would come first."""
    flags = [f"--gin.MODEL_DIR={tmp_path / 'run'}", f"--gin.DATA_DIR={data_dir}", "--gin.TRAIN_STEPS=1e4"]
    command = [sys.executable, "-m", "launch.train", *gin_files("tiny_multi_head", "train"), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "launch.train: TRAIN_STEPS is 10000.0; expected a whole number.\n"
    assert not (tmp_path / "run").exists()


def test_images_of_another_size_than_the_model(train, data_dir, tmp_path, capsys):
    side = "--gin.TASK_FEATURE_LENGTHS={'image': 64, 'inputs': 24, 'targets': 24}"
    assert train(side, "--gin.ViTConfig.image_size=64") == 2
    assert "[(32, 32)], expected (64, 64)" in capsys.readouterr().err


def test_data_folder_with_problems(train, data_dir, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert train(f"--gin.DATA_DIR={empty}") == 2
    assert "No records for the split 'train'" in capsys.readouterr().err
    for split in ("train", "dev"):
        records = list(read_records(next(data_dir.glob(f"{split}-*"))))
        write_records(empty / f"{split}-00000-of-00001.tfrecord", records[:8])
    assert train(f"--gin.DATA_DIR={empty}") == 2
    assert "vocabulary" in capsys.readouterr().err


def test_checkpoint_of_another_architecture(train, evaluate, tmp_path, capsys):
    assert train(steps=1) == 0
    capsys.readouterr()
    for main in (train, evaluate):
        assert main("--gin.ViTConfig.width=24") == 2
        error = capsys.readouterr().err
        assert "does not fit this model" in error
        assert "vit/block_0/attention/key/kernel" in error
        assert "compiling" not in error
    assert evaluate("--gin.CHECKPOINT=" + str(tmp_path / "nowhere")) == 2
    assert "no checkpoint in" in capsys.readouterr().err


def test_weights_of_another_architecture_leave_nothing_behind(train, tmp_path, capsys):
    assert train(steps=1, name="first") == 0
    weights = f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path / 'first'}"
    assert train(weights, "--gin.ViTConfig.width=24") == 2
    assert "does not fit this model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_data_settings_than_the_runs(train, evaluate, capsys):
    """A sound run is neither taken for damaged nor evaluated as what it is not."""
    assert train(steps=1) == 0
    capsys.readouterr()
    assert train("--gin.SEED=1", steps=2) == 2
    assert "is of a stream in another order, with other seed: seed 0, now seed 1" in capsys.readouterr().err
    for main in (train, evaluate):
        assert main("--gin.SEE_PROMPT=False") == 2
        assert "the run was trained with True: set --gin.SEE_PROMPT=True" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("feature", "value", "message"),
    [
        ("prompt_misalignment_label", b"1 x", "prompt_misalignment_label: found label 1 is 'x'"),
        ("overall_score", 7.0, "overall_score: found 7.0; expected a number in \\[0, 1\\]"),
        ("overall_score", float("nan"), "overall_score: found nan"),
        ("prompt", None, "record 5, has no prompt"),
        ("image", b"\x89PNG\r\n\x1a\n...", "cannot be decoded"),
    ],
)
def test_a_malformed_record_is_named(data_dir, tmp_path, feature, value, message):
    shutil.copytree(data_dir, tmp_path / "data")
    file = next((tmp_path / "data").glob("train-*"))
    examples = [tf.train.Example.FromString(raw) for raw in tf.data.TFRecordDataset(file).as_numpy_iterator()]
    features = examples[5].features.feature
    if value is None:
        del features[feature]
    elif isinstance(value, bytes):
        features[feature].bytes_list.value[0] = value
    else:
        features[feature].float_list.value[0] = value
    with tf.io.TFRecordWriter(str(file)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    register(tmp_path / "data")
    lengths = {"image": 32, "inputs": 24, "targets": 24}
    cfg = DatasetConfig("synthetic_multi_head", lengths, "train", batch_size=8, shuffle=True, seed=0)
    iterator = train_iterator(cfg)
    with pytest.raises(ValueError, match=message) as caught, explained_reading(get_task(cfg), "train"):
        list(itertools.islice(iterator, len(examples) // 8))
    assert feature == "image" or f"{file}, record 5" in str(caught.value)


def test_training_stops_at_a_malformed_record(train, data_dir, tmp_path, capsys):
    shutil.copytree(data_dir, tmp_path / "data")
    file = next((tmp_path / "data").glob("train-*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert train(f"--gin.DATA_DIR={tmp_path / 'data'}", steps=5) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"launch.train: {file}, record ")
    assert "found a damaged record" in error


def test_vocabulary_of_another_data_set(train, evaluate, data_dir, tmp_path, capsys):
    """Neither training nor evaluation takes another vocabulary than the run's own, or that of its weights."""
    (tmp_path / "run/checkpoints/1/params").mkdir(parents=True)
    files = [tmp_path / "run/vocabulary.model", data_dir / "vocabulary.model"]
    train_vocabulary(files[0], ["a cat"] * 9, [[0, 1]] * 9, size=300)
    trained, given = (f"{file} ({SentencePieceVocabulary(str(file)).vocab_size} pieces" for file in files)
    weights = f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path / 'run'}"
    for main in (train, evaluate, lambda: train(weights, name="other")):
        assert main() == 2
        error = capsys.readouterr().err
        assert f"{given}), is not the one that the run was trained with, {trained}" in error
        assert "new MODEL_DIR" in error
        assert "compiling" not in error


def test_comparisons_are_read_before_the_evaluation(evaluate, tmp_path, capsys, monkeypatch):
    (tmp_path / "run/checkpoints/1/params").mkdir(parents=True)
    monkeypatch.setattr(eval_job, "load_weights", lambda *_: pytest.fail("loads the parameters"))
    assert evaluate(f"--gin.COMPARE={{'other': '{tmp_path}/nowhere.json'}}") == 2
    assert "There is no" in capsys.readouterr().err
    names = {"scores": SCORES, "heatmaps": HEATMAPS, "keywords": ("pooled", "per_sample")}
    result = {group: {name: {} for name in names} for group, names in names.items()}
    write_metrics(tmp_path / "metrics.json", {"model": result, "split": "test", "examples": 9})
    assert evaluate(f"--gin.COMPARE={{'other': '{tmp_path}'}}") == 2
    assert "evaluated on 9 examples of test, this run on 10 of test" in capsys.readouterr().err
