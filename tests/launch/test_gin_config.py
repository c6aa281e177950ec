import subprocess
import sys

import pytest

import gin
from launch import gin_config
from launch.gin_config import ConfigError, load, parse_flags


def build(size, name="x", path=None):
    return size, name, path


BUILD = gin.external_configurable(build, "build", module="test_gin_config")
PARAMETERS = {"test_gin_config.build": build}
RUN = """
# Required:
SIZE = %gin.REQUIRED
PATH = %gin.REQUIRED
NAME = "n"
build.size = %SIZE
build.name = %NAME
build.path = %PATH
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.gin").write_text(RUN)
    (tmp_path / "sizes.gin").write_text("SIZE = 3\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/base.gin").write_text('include "shared/more.gin"\n')
    (tmp_path / "shared/more.gin").write_text("SIZE = 4\n")
    yield tmp_path
    gin.clear_config()


def configure(*argv):
    load(parse_flags(argv), PARAMETERS)
    return BUILD()


@pytest.mark.parametrize("order", [("sizes.gin", "run.gin"), ("run.gin", "sizes.gin")])
def test_a_required_value_may_come_before_or_after(folder, order):
    assert configure(*(f"--gin_file={f}" for f in order), "--gin.PATH='p'") == (3, "n", "p")


def test_the_last_value_counts_and_flags_come_last(folder):
    argv = [
        "--gin.NAME=later",
        "--gin_file=sizes.gin",
        "--gin_file",
        "run.gin",
        "--gin.PATH=p",
        "--gin.SIZE=9",
    ]
    assert configure(*argv) == (9, "later", "p")


def test_a_name_that_a_command_never_reads_may_stay_open(folder):
    load(parse_flags(["--gin_file=run.gin", "--gin.SIZE=1"]), PARAMETERS, unread=("PATH",))
    assert BUILD() == (1, "n", None)


def test_a_commands_own_flags_have_defaults_and_near_misses(folder):
    options = {"--step": "train", "--to": ""}
    assert parse_flags(["--to=a", "--to", "b"], options).options == {"--step": "train", "--to": "b"}
    with pytest.raises(ConfigError, match=r"unknown argument '--steps'\. Did you mean '--step=train'"):
        parse_flags(["--steps=x"], options)


def test_files_and_includes_are_found_on_the_search_path(folder, monkeypatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    argv = [
        f"--gin_search_paths={folder}",
        "--gin_file=run.gin",
        "--gin_file=shared/base.gin",
        "--gin.PATH=p",
    ]
    assert configure(*argv) == (4, "n", "p")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("build/run-1.x", "build/run-1.x"),
        ("'quoted'", "quoted"),
        ("2.5", 2.5),
        ("{'a': (1, 2)}", {"a": (1, 2)}),
        ("None", None),
        ("%NAME", "n"),
    ],
)
def test_values_are_gins_and_bare_words_are_strings(folder, text, value):
    assert configure("--gin_file=run.gin", "--gin.SIZE=1", f"--gin.PATH={text}")[2] == value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no gin file: give at least one --gin_file"),
        (["--gin_file=rum.gin"], r"no gin file 'rum.gin' \(looked in .*\)\. Did you mean 'run.gin'"),
        (["--ginfile=run.gin"], "unknown argument '--ginfile'. Did you mean '--gin_file=FILE'"),
        (["--gin_file=run.gin", "--gin.SIZE"], "--gin.SIZE has no value"),
        (["--gin_file=run.gin", "--gin.SIZ=1"], r"no gin file uses SIZ .*Did you mean 'SIZE'"),
        (["--gin_file=run.gin"], "PATH, SIZE have no value"),
        (["--gin_file=run.gin", "--gin.PATH=%SISE", "--gin.SIZE=1"], "SISE has no value"),
        (
            ["--gin_file=run.gin", "--gin.biuld.size=1"],
            "No configurable matching 'biuld'.* Did you mean 'build'",
        ),
        (["--gin_file=run.gin", "--gin.PATH=@biuld()"], "biuld.* Did you mean 'build'"),
        (
            ["--gin_file=run.gin", "--gin.build.sise=1"],
            "'sise'.* Did you mean 'size'.* It has size, name, path",
        ),
        (["--gin_file=run.gin", "--gin.PATH=[1, 2"], "(?i)PATH|never closed|EOF"),
    ],
)
def test_what_is_wrong_is_named_with_the_near_miss(folder, argv, message):
    with pytest.raises(ConfigError, match=message) as error:
        configure(*argv)
    assert "\n" not in str(error.value)


def test_reading_a_configuration_allocates_nothing_and_exits_with_2(folder):
    code = (
        "import sys; from launch import train; status = train.main(sys.argv[1:]); "
        "from jax._src import xla_bridge; assert not xla_bridge.backends_are_initialized(); sys.exit(status)"
    )
    root = gin_config.__file__.rsplit("/launch/", 1)[0]
    result = subprocess.run(
        [sys.executable, "-c", code, "--gin_file=gin/runs/train.gin", "--gin.MODEL_DIRR=x"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("launch.train: no gin file uses MODEL_DIRR")
    assert result.stderr.count("\n") == 1
