"""T5X's own launchers with the gin files of gin/t5x. Slow, and run only where T5X is installed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import flax.traverse_util
import jax
import numpy as np
import pytest

from launch import configurables, gin_config
from richhf.data.datasets import DatasetConfig, eval_batches, get_task
from richhf.evaluation import evaluate_feedback, flatten_metrics
from richhf.evaluation.evaluator import predicted_arrays, target_arrays
from richhf.pretrained import read_t5x_checkpoint, write_t5x_checkpoint
from tasks.synthetic import register

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("t5x"), reason="T5X is not installed")

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASK, STEPS = "synthetic_multi_head", 20
PERIODS = {
    "LOG_PERIOD": 5,
    "EVAL_PERIOD": 10,
    "EVAL_BATCHES": 1,
    "CHECKPOINT_PERIOD": 10,
    "LR_FACTORS": "constant",
}


@pytest.fixture
def t5x(gin_files, data_dir):
    """Runs one of T5X's launchers; returns what it logs."""

    def run(job, *, devices=1, **settings):
        files = [f"--gin_file=gin/t5x/{name}.gin" for name in ("tiny_multi_head", job)]
        shrunk = gin_files("tiny_multi_head", "train")[-1]
        given = settings | {"DATA_DIR": str(data_dir)}
        flags = [f"--gin.{name}={value!r}" for name, value in given.items()]
        xla = os.environ["XLA_FLAGS"].replace("count=8", f"count={devices}")
        done = subprocess.run(
            [sys.executable, "-m", f"t5x.{job}", *files, shrunk, *flags, "--alsologtostderr"],
            env=os.environ | {"XLA_FLAGS": xla},
            stderr=subprocess.PIPE,
            text=True,
            timeout=480,
        )
        assert done.returncode == 0, done.stderr[-8000:]
        return done.stderr

    return run


@pytest.fixture
def our_model(gin_files):
    argv = [*gin_files("tiny_multi_head", "eval"), "--gin.MODEL_DIR=x", "--gin.DATA_DIR=x"]
    gin_config.load(gin_config.parse_flags(argv), configurables.PARAMETERS)
    return configurables.CONFIGURABLES["models.RichFeedbackModel"]()


def losses(log):
    """Logged losses of training by step."""
    found = re.findall(r"\[(\d+)\] collection=train .*?\bloss=([\d.e+-]+)", log)
    return {int(step): float(loss) for step, loss in found}


def assert_close(found, expected, **tolerance):
    found, expected = (flax.traverse_util.flatten_dict(tree) for tree in (found, expected))
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], **tolerance, err_msg=str(name))


def moved(params):
    """Without biases of keys: their gradient is 0, and steps are of rounding errors."""
    flat = flax.traverse_util.flatten_dict(params)
    return {path: value for path, value in flat.items() if path[-2:] != ("key", "bias")}


def test_t5x_trains_goes_on_evaluates_and_predicts(t5x, our_model, data_dir, tmp_path):
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    log = losses(t5x("train", MODEL_DIR=whole, TRAIN_STEPS=STEPS, **PERIODS))
    assert list(log) == [5, 10, 15, 20]
    assert log[20] < log[5]
    # T5X's mesh of CPUs splits the model over the devices of a process.
    split = losses(t5x("train", devices=2, MODEL_DIR=parts, TRAIN_STEPS=10, **PERIODS))
    split |= losses(t5x("train", MODEL_DIR=parts, TRAIN_STEPS=STEPS, **PERIODS))
    assert_close(split, log, rtol=1e-3)
    params = read_t5x_checkpoint(parts)
    assert_close(moved(params), moved(read_t5x_checkpoint(whole, STEPS)), rtol=1e-2, atol=2e-3)

    checkpoint = str(tmp_path / f"parts/checkpoint_{STEPS}")
    found = {"CHECKPOINT_PATH": checkpoint, "EVAL_OUTPUT_DIR": str(tmp_path / "evaluated"), "BATCH_SIZE": 4}
    t5x("eval", **found)
    metrics = read_metrics(tmp_path / "evaluated")
    register(data_dir)
    cfg = DatasetConfig(TASK, {"image": 32, "inputs": 24, "targets": 24}, "test", 10)
    batch = next(eval_batches(cfg))
    inputs = {name: batch.features[name] for name in ("image", "encoder_input_tokens")}
    prediction = jax.jit(our_model.predict_batch)(params, inputs)
    target, decode = target_arrays(batch), get_task(cfg).output_features["targets"].vocabulary.decode
    predicted = predicted_arrays(prediction, target, decode)
    predicted = dataclasses.replace(predicted, heatmaps=np.asarray(prediction["heatmaps"]))
    ours = flatten_metrics(evaluate_feedback(predicted, target))
    assert metrics.pop("step") == STEPS
    assert_close(metrics, ours, rtol=1e-3, atol=1e-4)

    t5x("infer", CHECKPOINT_PATH=checkpoint, INFER_OUTPUT_DIR=str(tmp_path / "predicted"), BATCH_SIZE=4)
    (file,) = (tmp_path / "predicted").glob(f"{TASK}-predict_with_aux.jsonl-00000-of-00001")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["inputs"]["filename"] for line in lines] == list(batch.filenames)
    for name in ("scores", "heatmaps", "word_probabilities"):
        found = np.array([line["aux"][name] for line in lines])
        np.testing.assert_allclose(found, prediction[name], atol=1e-4)

    back = write_t5x_checkpoint(tmp_path / "back", params, STEPS)
    t5x("eval", CHECKPOINT_PATH=str(back), EVAL_OUTPUT_DIR=str(tmp_path / "again"), BATCH_SIZE=4)
    assert_close(read_metrics(tmp_path / "again"), metrics | {"step": STEPS}, rtol=1e-6)
    started = {"INITIAL_CHECKPOINT_PATH": str(back), "MODEL_DIR": str(tmp_path / "started"), "TRAIN_STEPS": 1}
    # And what T5X writes in its own format, without Orbax.
    t5x("train", **PERIODS, **started, **{"__main__.train.use_orbax": False})
    assert (tmp_path / "started/checkpoint_0/target.word_head.kernel/.zarray").is_file()
    assert_close(read_t5x_checkpoint(tmp_path / "started", 0), params, rtol=0)


REAL_SIZES = """
import sys
import gin, jax
import flax.core
import launch.configurables
from richhf.models import parameter_counts
from richhf.models.batch_spec import batch_spec
from t5x import utils
from t5x.train import train

gin.configurable(train)
for name in sys.argv[1:]:
    gin.clear_config()
    files = [f"gin/t5x/{name}.gin", "gin/t5x/finetune.gin"]
    gin.parse_config_files_and_bindings(files, ["MODEL_DIR = 'x'"])
    given = gin.get_bindings("t5x.train.train")
    model, cfg = given["model"], given["train_dataset_cfg"]
    spec = batch_spec(model.model.config, cfg.task_feature_lengths, cfg.batch_size)
    shapes = {feature: one.shape for feature, one in spec.items()}
    made = utils.TrainStateInitializer(
        model.optimizer_def, model.get_initial_variables, shapes, given["partitioner"]
    )
    parts = parameter_counts({"params": flax.core.unfreeze(made.global_train_state_shape.params)})
    moments = sum(x.size for x in jax.tree.leaves(made.global_train_state_shape.param_states))
    print(name, cfg.mixture_or_task_name, cfg.batch_size, given["total_steps"], parts["vit"], moments)
"""


def test_real_sizes_are_fine_tuned_as_in_the_paper(monkeypatch):
    monkeypatch.chdir(ROOT)
    sizes = {"base_augmented_prompt": 86e6, "large384_multi_head": 304e6}
    command = [sys.executable, "-W", "ignore", "-c", REAL_SIZES, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stderr[-4000:]
    for line, (name, size) in zip(done.stdout.splitlines(), sizes.items(), strict=True):
        found, task, batch, steps, vit, moments = line.split()
        assert (found, task) == (name, f"richhf18k_{name.split('_', 1)[1]}")
        assert (int(batch), int(steps)) == (256, 20000)
        assert int(vit) == pytest.approx(size, rel=0.02)
        assert int(moments) > 4 * int(vit)


def read_metrics(folder):
    (line,) = (folder / f"inference_eval/{TASK}-metrics.jsonl").read_text().splitlines()
    return json.loads(line)
