import pytest

from launch import benchmark as launch_benchmark


@pytest.fixture
def run(gin_files, data_dir):
    """Runs launch.benchmark in this process; returns its exit status."""

    def run(*arguments):
        files = [*gin_files("tiny_augmented_prompt", "benchmark"), f"--gin.DATA_DIR={data_dir}"]
        return launch_benchmark.main([*files, "--gin.NUM_IMAGES=8", "--gin.BATCH_SIZE=4", *arguments])

    return run


def test_every_stage_is_timed_and_the_slowest_is_named(run, capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    names = [
        "read", "parse and shuffle", "gather labels", "corrupt prompts", "tokenize", "decode pictures",
        "check sides", "convert", "batch", "to the device",
    ]  # fmt: skip
    rows = [line for line in lines if line.split("  ")[0] in names]
    assert [row.split("  ")[0] for row in rows] == names
    rates = [float(row[24:40]) for row in rows]
    assert min(rates) > 1
    assert rates[0] > rates[-1]
    assert f"{rates[-1]:.1f} images/s reach the device; bottleneck: " in lines[-1]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--gin.BENCHMARK=inputs", "no benchmark is named 'inputs'. Did you mean 'input'"),
        ("--gin.NUM_IMAGES=0", "NUM_IMAGES is 0; expected at least 1"),
        ("--gin.MIXTURE_OR_TASK_NAME=synthetic_augmented", "Did you mean 'synthetic_augmented_prompt'"),
    ],
)
def test_what_cannot_be_measured_is_explained(run, capsys, argument, message):
    assert run(argument) == 2
    assert message in capsys.readouterr().err
