"""The real step compiled ahead, on virtual CPU devices; for TPUs where libtpu is installed."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

import gin
from launch import configurables, gin_config, precompile
from launch.chips import importable_libtpu
from launch.precompile_report import advice
from launch.step_program import model_flops, program_flops
from richhf.data.datasets import DatasetConfig
from richhf.data.training_stream import train_iterator
from richhf.feedback import VARIANTS
from richhf.models import RAHFConfig
from richhf.models.batch_spec import batch_spec
from richhf.training.partitioning import Partitioner

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = ["--gin.Partitioner.num_devices=None", "--gin.BATCH_SIZE=16"]


@pytest.fixture
def arguments(gin_files, monkeypatch):
    """What configures a shrunk model, without a folder of data or of a model."""
    # The command sets the environment of its own process, which here is that of all tests.
    assert len(jax.devices()) == 8
    for name in ("JAX_PLATFORMS", "XLA_FLAGS", "TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD"):
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def make(model="tiny_multi_head", run="train"):
        steps = [] if run == "eval" else ["--gin.TRAIN_STEPS=1000"]
        return [*gin_files(model, run), *FLAGS, *steps]

    return make


SPLIT = ["--gin.NUM_MICROBATCHES=2", "--gin.Partitioner.model=2"]


def run_command(*argv):
    flags = "--xla_backend_optimization_level=0"  # compiles in half the time
    return subprocess.run(
        [sys.executable, "-m", "launch.precompile", *argv],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"XLA_FLAGS": flags},
    )  # fmt: skip


def values(text):
    """The lines of a report by their first words."""
    rows = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_the_training_step_on_eight_virtual_devices(arguments):
    result = run_command(*arguments("tiny_augmented_prompt", "finetune"), "--topology=cpu:8", *SPLIT)
    assert result.returncode == 0, result.stderr
    assert "cpu:8: 8 chip(s) of " in result.stdout
    assert "mesh data=1 x fsdp=4 x model=2" in result.stdout
    assert "train step: augmented_prompt, 16 images of 32 px, 2 microbatch(es) of 2 a chip" in result.stdout
    found = values(result.stdout)
    assert re.search(r"fsdp\+model \d", found["t5"])
    assert {"parameters", "optimizer", "batch", "activations, temporaries", "in all"} <= found.keys()
    assert 0.9 < float(found["ratio"]) < 1.3
    assert re.search(r"^fits: \d+% of a chip's memory", result.stdout, re.M)
    assert "no estimate of time: cpu" in result.stdout


def test_the_prediction_step_fits_or_not(arguments, capsys):
    argv = [*arguments(run="eval"), "--topology=cpu:2", "--step=predict"]
    assert precompile.main(argv) == 0
    printed = capsys.readouterr().out
    assert "predict step: multi_head, 16 images of 32 px, 8 a chip" in printed
    found = values(printed)
    assert found["t5"].endswith("whole 100.0%")
    assert found["optimizer"].startswith("0.00")
    assert re.search("^fits: ", printed, re.M)
    needed = found["in all"].split(" of ")[0].split()[-2:]
    assert precompile.main([*argv, "--gin.launch.precompile.chip_memory=100000"]) == 1
    printed = capsys.readouterr().out
    assert f"\ndoes not fit: {' '.join(needed)} of 0.10 MiB. Try a smaller BATCH_SIZE; " in printed


def test_what_to_change_is_what_has_not_been_done():
    config = RAHFConfig()
    whole = Partitioner()
    first = advice(config, whole, 1, 2, training=True)
    assert "REMAT='blocks'" in first
    assert "NUM_MICROBATCHES=2" in first
    assert "Partitioner.fsdp=-1" in first
    split = Partitioner(data=1, fsdp=-1)
    second = advice(dataclasses.replace(config, remat="blocks"), split, 16, 1, training=True)
    assert (
        second
        == "Try split heads and MLPs too (Partitioner.model=2); chips with more memory, or more of them."
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v5:4x4"], "there is no chip 'v5'. Did you mean 'v5"),
        (["--topology=cpu:3"], "a batch of 16 examples cannot be split over 3 device"),
        (
            ["--topology=cpu:8", "--gin.EVAL_BATCH_SIZE=4"],
            "EVAL_BATCH_SIZE: a batch of 4 examples cannot be split over 8 device",
        ),
        (["--topolgy=cpu:2"], "unknown argument '--topolgy'. Did you mean '--topology=v5e:4x4'"),
        (
            ["--topology=cpu:2", "--step=trian"],
            "--step=trian: expected train or predict. Did you mean 'train'",
        ),
        (["--topology=cpu:2", "--gin.BACH_SIZE=2"], "no gin file uses BACH_SIZE.*Did you mean 'BATCH_SIZE'"),
        (["--topology=cpu:2", "--gin.RAHFConfig.remat=all"], "RAHFConfig.remat is 'all'; expected one of"),
        (
            ["--topology=cpu:2", "--gin.launch.precompile.labels=('score',)"],
            "a kind of label is 'score'.*Did you mean 'scores'",
        ),
        (["--topology=cpu:2", "--gin.ViTConfig.image_size=64"], "the model takes images of 64 px"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_compiled(arguments, capsys, flags, message):
    assert precompile.main([*arguments(), *flags]) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.err.startswith("launch.precompile: ")
    assert "compiling" not in captured.out


def test_a_run_that_does_not_train_has_no_training_step(arguments, capsys):
    assert precompile.main([*arguments(run="eval"), "--topology=cpu:2"]) == 2
    assert "--gin_file=gin/runs/finetune.gin, or --step=predict" in capsys.readouterr().err


def test_lengths_are_those_of_the_real_data_without_a_data_file(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    files = [f"--gin_file=gin/{file}.gin" for file in ("models/base_multi_head", "runs/finetune")]
    assert precompile.main([*files, "--topology=cpu:2", "--gin.BATCH_SIZE=3"]) == 2
    assert "a batch of 3 examples cannot be split over 2 device" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["tiny", "base", "large384"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_step_asks_for_no_more_than_three_forward_passes(size, variant, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = (f"models/{size}_{variant}", "data/synthetic", "runs/train")
    flags = [f"--gin_file=gin/{file}.gin" for file in files]
    required = {"MODEL_DIR": "x", "TRAIN_STEPS": 1000, "LEARNING_RATE": 1.0, "OPTIMIZER": "@adamw()"}
    flags += [f"--gin.{name}={value}" for name, value in required.items()]
    layers = ("ViTConfig.depth", "T5Config.encoder_layers", "T5Config.decoder_layers")
    flags += [f"--gin.{name}=1" for name in layers]  # traced in seconds
    gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
    model = configurables.CONFIGURABLES["models.RichFeedbackModel"]()
    gin.clear_config()
    batch = batch_spec(model.config, {"image": model.config.vit.image_size, "inputs": 128, "targets": 64}, 16)
    ratio = program_flops(model, batch, train=True) / model_flops(model, batch, train=True)
    assert 0.9 <= ratio <= 1.15


def test_the_specified_batch_is_the_one_that_tasks_give(arguments, data_dir):
    argv = [*arguments(), f"--gin.DATA_DIR={data_dir}", "--gin.MODEL_DIR=x"]
    gin_config.load(gin_config.parse_flags(argv), configurables.PARAMETERS)
    model = configurables.CONFIGURABLES["models.RichFeedbackModel"]()
    configurables.CONFIGURABLES["synthetic.register"]()
    cfg = DatasetConfig(**gin.get_bindings("train/utils.DatasetConfig"))
    given = train_iterator(cfg).element_spec
    wanted = batch_spec(model.config, cfg.task_feature_lengths, cfg.batch_size)
    assert {name: (tuple(x.shape), x.dtype) for name, x in given.items()} == {
        name: (x.shape, x.dtype) for name, x in wanted.items()
    }


@pytest.mark.skipif(not importable_libtpu(), reason="libtpu is not installed (pip install -e '.[tpu]')")
def test_the_training_step_for_tpus_without_one(arguments):
    result = run_command(*arguments("tiny_augmented_prompt", "finetune"), "--topology=v5e:2x2", *SPLIT)
    assert result.returncode == 0, result.stderr
    assert "v5e:2x2: 4 chip(s) of 16.00 GiB" in result.stdout
    assert "estimate, not a measurement: a step takes at least" in result.stdout


def test_libtpu_is_asked_for_by_name(arguments, capsys):
    if importable_libtpu():
        pytest.skip("libtpu is installed")
    assert precompile.main([*arguments(), "--topology=v5e:2x2"]) == 2
    assert "pip install -e '.[tpu]'" in capsys.readouterr().err
