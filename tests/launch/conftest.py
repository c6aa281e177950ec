"""A small synthetic set, and the shipped gin files shrunk until they compile in seconds."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import gin
from launch import configurables, gin_config
from launch import eval as launch_eval
from launch import train as launch_train
from richhf.data.synthetic import synthesize
from richhf.models.batch_spec import batch_spec
from richhf.training.partitioning import Partitioner
from richhf.training.programs import param_target

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHRUNK = """
TASK_FEATURE_LENGTHS = {"image": 32, "inputs": 24, "targets": 24}
ViTConfig.image_size = 32
ViTConfig.patch_size = 8
ViTConfig.width = 16
ViTConfig.depth = 1
ViTConfig.num_heads = 2
ViTConfig.mlp_width = 16
ViTConfig.stem_widths = (4, 4)
ViTConfig.stem_strides = (2, 1)
T5Config.d_model = 16
T5Config.num_heads = 4
T5Config.d_kv = 4
T5Config.d_ff = 16
T5Config.encoder_layers = 1
T5Config.decoder_layers = 1
HeatmapHeadConfig.conv_widths = (8,)
HeatmapHeadConfig.deconv_widths = (8,)
HeatmapHeadConfig.final_width = 8
ScoreHeadConfig.conv_widths = (8,)
ScoreHeadConfig.dense_widths = (8,)
RichFeedbackModel.keyword_length = 6
CORRUPT_UNTIL_EXAMPLE = 24
BATCH_SIZE = 8
Partitioner.num_devices = 1
"""


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, train=40, dev=10, test=10, size=32, seed=0, workers=1)
    return folder


@pytest.fixture
def gin_files(tmp_path, monkeypatch):
    """Arguments for one of the shipped models, shrunk, one of the shipped runs and one of the data sets."""
    monkeypatch.chdir(ROOT)
    shrunk = tmp_path / "shrunk.gin"
    shrunk.write_text(SHRUNK)
    yield lambda model, run, data="synthetic": [
        f"--gin_file=gin/models/{model}.gin",
        f"--gin_file=gin/data/{data}.gin",
        f"--gin_file=gin/runs/{run}.gin",
        f"--gin_file={shrunk}",
    ]
    gin.clear_config()


@pytest.fixture
def start_two():
    """Starts a main in two processes of four devices each; those that still run are killed at the end."""
    started = []

    def start(module, flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = [*flags, f"--coordinator_address={address}", "--process_count=2"]
        environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=4")}
        running = [
            subprocess.Popen(
                [sys.executable, "-m", module, *flags, f"--process_index={index}"],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(2)
        ]
        started.extend(running)
        return running

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def train(gin_files, data_dir, tmp_path):
    """Runs launch.train in this process; returns its exit status."""

    def run(*arguments, model="tiny_multi_head", run_file="train", name="run", steps=2, data="synthetic"):
        common = {
            "MODEL_DIR": tmp_path / name,
            "DATA_DIR": data_dir,
            "TRAIN_STEPS": steps,
            "EVAL_PERIOD": 0,
            "LR_FACTORS": "constant",
        }
        flags = [f"--gin.{name}={value}" for name, value in common.items()]
        return launch_train.main([*gin_files(model, run_file, data), *flags, *arguments])

    return run


@pytest.fixture
def evaluate(gin_files, data_dir, tmp_path):
    """Runs launch.eval in this process; returns its exit status."""

    def run(*arguments, model="tiny_multi_head", name="run", data="synthetic"):
        flags = [f"--gin.MODEL_DIR={tmp_path / name}", f"--gin.DATA_DIR={data_dir}"]
        return launch_eval.main([*gin_files(model, "eval", data), *flags, *arguments])

    return run


@pytest.fixture
def made_run(gin_files, data_dir, tmp_path):
    """A run's folder, `run`, with a checkpoint of random parameters."""

    def make(model="tiny_multi_head"):
        required = ("INPUT", "OUTPUT_DIR", "MODEL_DIR")
        flags = [*gin_files(model, "infer"), *(f"--gin.{name}=unread" for name in required)]
        gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
        built = configurables.CONFIGURABLES["models.RichFeedbackModel"]()
        lengths = gin.get_bindings("launch.infer_job")["task_feature_lengths"]
        shapes = {name: spec.shape for name, spec in batch_spec(built.config, lengths, 1, labels=()).items()}
        params = param_target(built, Partitioner(), shapes)
        rng = np.random.default_rng(0)
        params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), params)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "run/checkpoints/1/params", params)
        shutil.copy(data_dir / "vocabulary.model", tmp_path / "run")
        (tmp_path / "run/config.gin").write_text("SEE_PROMPT = True\n")

    return make
