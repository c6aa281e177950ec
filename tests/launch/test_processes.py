"""One job in several processes: the same batches, the same numbers, one checkpoint for any number of them."""

import json

import jax
import numpy as np
import pytest

from launch import processes
from launch.gin_config import ConfigError
from richhf.evaluation import flatten_metrics
from richhf.training.run_log import read_log
from richhf.training.saved_params import restore_params

STEPS = 4
WHOLE = {"Partitioner.num_devices": None, "training.train.log_period": 1, "EMA_DECAY": 0.0}


@pytest.fixture
def two_processes(gin_files, data_dir, start_two):
    """Runs a main in two processes of four devices each."""

    def run(module, run_file, **settings):
        flags = [*gin_files("tiny_multi_head", run_file), f"--gin.DATA_DIR={data_dir}"]
        flags += [f"--gin.{name}={value}" for name, value in settings.items()]
        running = start_two(module, flags)
        errors = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], errors

    return run


def test_two_processes_are_as_one(train, evaluate, two_processes, tmp_path):
    """Also where a run goes on in another number of processes than it was begun in."""
    flags = [f"--gin.{name}={value}" for name, value in WHOLE.items()]
    run = {
        "MODEL_DIR": tmp_path / "parts",
        "TRAIN_STEPS": 2,
        "EVAL_PERIOD": 2,
        "LR_FACTORS": "constant",
        **WHOLE,
    }
    two_processes("launch.train", "train", **run)
    assert train(*flags, name="parts", steps=STEPS) == 0
    assert train(*flags, "--gin.EVAL_PERIOD=2", name="whole", steps=STEPS) == 0
    parts, whole = (
        [line for line in read_log(tmp_path / name) if "loss" in line] for name in ("parts", "whole")
    )
    assert [line["step"] for line in parts] == [line["step"] for line in whole] == [1, 2, 3, 4]
    for one, other in zip(parts, whole, strict=True):
        for name in (name for name in other if "loss" in name or name == "grad_norm"):
            np.testing.assert_allclose(
                one[name], other[name], rtol=1e-4, err_msg=f"step {one['step']}, {name}"
            )
    evaluated = [
        next(line for line in read_log(tmp_path / name) if "eval/dev/loss" in line)
        for name in ("parts", "whole")
    ]
    assert evaluated[0]["eval/dev/loss"] == pytest.approx(evaluated[1]["eval/dev/loss"], rel=1e-4)
    one, other = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(restore_params(tmp_path / name))])
        for name in ("parts", "whole")
    )
    # Of gradients near 0 the optimizers that divide by their size keep the sign alone.
    assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(other)

    two_processes("launch.eval", "eval", MODEL_DIR=tmp_path / "whole", **{"Partitioner.num_devices": None})
    found = json.loads((tmp_path / "whole/metrics.json").read_text())
    assert evaluate(name="whole") == 0
    expected = json.loads((tmp_path / "whole/metrics.json").read_text())
    assert flatten_metrics(found["model"]) == pytest.approx(
        flatten_metrics(expected["model"]), rel=1e-3, abs=1e-5
    )


@pytest.mark.parametrize(
    ("address", "count", "index"),
    [("auto", "2", ""), ("", "2", "0"), ("here:1", "2", "2"), ("here:1", "", "")],
)
def test_flags_that_do_not_go_together(address, count, index):
    with pytest.raises(ConfigError, match="--process_count"):
        processes.join({processes.ADDRESS: address, processes.COUNT: count, processes.INDEX: index})
