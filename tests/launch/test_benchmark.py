import re

import pytest

from launch import benchmark as launch_benchmark
from launch.chips import STATED_PEAKS
from launch.step_benchmark import product_rate


@pytest.fixture
def run(gin_files, data_dir):
    """Runs launch.benchmark in this process; returns its exit status."""

    def run(*arguments):
        files = gin_files("tiny_augmented_prompt", "train")
        settings = {
            "DATA_DIR": data_dir,
            "NUM_IMAGES": 8,
            "NUM_STEPS": 2,
            "BATCH_SIZE": 4,
            "EVAL_BATCH_SIZE": 2,
        }
        flags = [f"--gin.{name}={value}" for name, value in settings.items()]
        return launch_benchmark.main([*files, "--gin_file=gin/runs/benchmark.gin", *flags, *arguments])

    return run


def read_table(text):
    """The rows of the last table by name: images/s, GFLOP/s, shares and memory as they are printed."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows[1:]}


def test_all_are_measured_and_make_one_table(run, capsys, monkeypatch):
    monkeypatch.setitem(STATED_PEAKS, "cpu", 100e9)
    assert run() == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    names = [
        "read", "parse and shuffle", "gather labels", "corrupt prompts", "tokenize", "decode pictures",
        "check sides", "convert", "batch", "to the device",
    ]  # fmt: skip
    rows = [line for line in lines if line.split("  ")[0] in names]
    assert [row.split("  ")[0] for row in rows] == names
    rates = [float(row[24:40]) for row in rows]
    assert min(rates) > 1
    assert rates[0] > rates[-1]
    assert f"{rates[-1]:.1f} images/s reach the device; bottleneck: " in text

    table = read_table(text)
    assert list(table) == ["input pipeline", "training step, batch of 4", "prediction, batch of 2"]
    assert float(table["input pipeline"][0]) == pytest.approx(rates[-1], rel=0.01, abs=0.1)
    for name in list(table)[1:]:
        images, gflops, share, peak, memory = table[name]
        assert float(images) > 0
        assert 0 < float(share.rstrip("%")) <= 100
        rounding = 0.51 if float(gflops) >= 10 else 0.006
        assert float(peak.rstrip("%")) == pytest.approx(float(gflops), abs=rounding)
        assert re.fullmatch(r"[\d.]+ [MG]iB", memory)
    assert table["training step, batch of 4"][4] != table["prediction, batch of 2"][4]
    # One image costs three forward passes in training, without decoding one token after another.
    training, predicting = (float(table[name][1]) / float(table[name][0]) for name in list(table)[1:])
    assert 2 < training / predicting < 4


def test_rate_of_a_product():
    assert 1e8 < product_rate("float32", 256) < 1e15


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--gin.BENCHMARK=inputs", "no benchmark is named 'inputs'. Did you mean 'input'"),
        ("--gin.NUM_IMAGES=0", "NUM_IMAGES is 0; expected at least 1"),
        ("--gin.NUM_STEPS=0", "NUM_STEPS is 0; expected at least 1"),
        ("--gin.MIXTURE_OR_TASK_NAME=synthetic_augmented", "Did you mean 'synthetic_augmented_prompt'"),
    ],
)
def test_what_cannot_be_measured_is_explained(run, capsys, argument, message):
    only = "train" if "STEPS" in argument else "input"
    assert run(f"--gin.BENCHMARK={only}", argument) == 2
    assert message in capsys.readouterr().err
