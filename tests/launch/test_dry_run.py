"""--dry-run: the checks of the job, its plan, and nothing else."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from launch import dry_run, gin_config, processes
from launch.chips import parse_topology

PLAN = ("model", "data", "devices", "a device holds", "batch", "steps", "start", "evaluation", "writes")


def plan(capsys):
    """What was printed, by heading."""
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("dry run")
    found, name = {}, ""
    for line in lines:
        name = line[2:18].strip() or name
        found[name] = f"{found.get(name, '')} {line[18:].strip()}".strip()
    assert tuple(found) == PLAN
    return found


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_plan_says_what_a_run_would_do_and_writes_nothing(train, tmp_path, capsys):
    flags = ("--gin.Partitioner.num_devices=4", "--gin.Partitioner.data=2", "--gin.Partitioner.fsdp=2")
    assert train(*flags, "--gin.NUM_MICROBATCHES=2", "--dry-run", steps=3) == 0
    assert not (tmp_path / "run").exists()
    said = plan(capsys)
    assert "multi_head" in said["model"]
    assert "split train, 40 examples; lengths: image 32, inputs 24, targets 24" in said["data"]
    assert "4 of this machine (cpu); mesh data=2 x fsdp=2 x model=1" in said["devices"]
    assert said["batch"] == "8 images, 2 a device in 2 microbatches of 1"
    assert said["steps"].startswith("3 (0.6 epochs)")
    total, parts = re.search(r", ([\d.]+ M) parameters \((.*?)\)", said["model"]).groups()
    assert said["start"].startswith("new, at step 0 (")
    assert f"; {total} of {total} parameters start fresh (" in said["start"]
    assert sorted(parts.split(", ")) == sorted(re.search(r"fresh \((.*)\)", said["start"])[1].split(", "))
    assert said["evaluation"] == "none during training"


def test_a_plan_says_what_training_then_does_and_where_it_starts(train, tmp_path, capsys):
    assert train() == 0
    before = tree(tmp_path)
    size = re.search(r"([\d.]+) M parameters; data=1 x fsdp=1 x model=1; batch 8", capsys.readouterr().err)

    assert train("--dry-run", steps=4) == 0
    said = plan(capsys)
    assert f", {size[1]} M parameters (" in said["model"]
    for written in ("checkpoints", "train_log.jsonl", "config.gin", "vocabulary.model"):
        assert written in said["writes"]
        assert (tmp_path / "run" / written).exists()
    assert said["start"] == f"going on from step 2 of 4: {tmp_path}/run/checkpoints/2"
    initial = f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path / 'run'}"
    assert train("--dry-run", "--gin.EVAL_PERIOD=1", initial, name="other") == 0
    said = plan(capsys)
    total = re.search(r", ([\d.]+ M) parameters", said["model"])[1]
    started = f"new, at step 0 with the parameters of {tmp_path}/run/checkpoints/2"
    assert said["start"] == f"{started}; 0.00 M of {total} parameters start fresh"
    assert said["evaluation"].startswith("10 examples of dev every 1 steps")

    for wrong, message in (
        (("--gin.ScoreHeadConfig.dense_widths=(9,)",), "does not fit this model"),
        (("--gin.SEED=1",), "is of a stream in another order, with other seed"),
    ):
        assert train("--dry-run", *wrong, steps=4) == 2
        assert message in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_fine_tuning_from_nothing_is_warned_of(train, tmp_path, capsys):
    """Of all shipped runs those that fine-tune say that they expect pretrained weights."""
    expects = "--gin.train_job.expects_pretrained=True"
    assert train("--dry-run", expects) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: all ")]
    assert len(warnings) == 1
    assert re.search(r"all [\d.]+ M parameters start fresh, .* give INITIAL_CHECKPOINT_PATH", warnings[0])
    assert train("--dry-run") == 0
    assert "warning" not in capsys.readouterr().out
    runs = pathlib.Path(__file__).resolve().parents[2] / "gin/runs"
    named = {file.stem for file in runs.glob("*.gin") if "expects_pretrained = True" in file.read_text()}
    assert named == {"finetune", "finetune_author"}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--gin.BATCH_SIZ=8", "no gin file uses BATCH_SIZ .*Did you mean 'BATCH_SIZE'"),
        ("--gin.BATCH_SIZE=7", "BATCH_SIZE: a batch of 7 examples cannot be split over 2 device"),
        ("--gin.CHECKPOINT_PERIOD=0", "CHECKPOINT_PERIOD is 0; expected at least 1"),
        ("--gin.OPTIMIZER=adam", r"OPTIMIZER is 'adam'; expected .*Did you mean @optimizers.adamw\(\)"),
        ("--gin.EMA_DECAY=1.0", r"ema_decay must be in \[0, 1\)"),
        ("--gin.INITIAL_CHECKPOINT_PATH=missing", "no checkpoint in .*missing"),
        ("--gin.DATA_DIR=gs://bucket/data", "mount the bucket bucket and give --gin.DATA_DIR=MOUNT/data"),
        ("--gin.MODEL_DIR=gs://bucket", "MODEL_DIR is gs://bucket, expected a path"),
        ("--dry-run=v5e:4x4", r"--dry-run=v5e:4x4 asks for 16 device\(s\), but JAX has 8 already"),
    ],
)
def test_what_cannot_work_is_said_before_and_nothing_is_written(train, tmp_path, capsys, flag, message):
    before = tree(tmp_path)
    assert train("--gin.Partitioner.num_devices=2", "--dry-run", flag) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(message, said.err)
    assert said.err.count("\n") == 1
    assert {path.name for path in {*tree(tmp_path)} - {*before}} <= {"shrunk.gin"}
    assert not pathlib.Path("gs:").exists()


def test_the_flag_may_stand_without_a_value():
    def value(*argv):
        flags = gin_config.parse_flags(argv, dry_run.OPTIONS, dry_run.BARE)
        assert flags.gin_files == ("run.gin",)
        return flags.options[dry_run.FLAG]

    assert value("--gin_file=run.gin") == ""
    assert value("--dry-run", "--gin_file=run.gin") == dry_run.HERE
    assert value("--dry-run=v5e:4x4", "--gin_file", "run.gin") == "v5e:4x4"
    with pytest.raises(gin_config.ConfigError, match=r"'--dryrun'\. Did you mean '--dry-run'\?"):
        value("--dryrun")


def test_a_dry_run_joins_no_other_process(monkeypatch):
    joined = []
    monkeypatch.setattr(processes, "join", lambda options, **_: joined.append(options))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    options = {processes.ADDRESS: "auto", processes.COUNT: "", processes.INDEX: ""}
    assert dry_run.prepare({**options, dry_run.FLAG: dry_run.HERE}) == dry_run.HERE
    assert joined == []
    assert dry_run.prepare({**options, dry_run.FLAG: ""}) == ""
    assert len(joined) == 1
    with pytest.raises(ValueError, match=r"--process_count"):
        dry_run.prepare({**options, processes.COUNT: "2", dry_run.FLAG: dry_run.HERE})
    with pytest.raises(ValueError, match=r"--dry-run=v5e:4x5x: .*Did you mean 'v5e:4x8'"):
        dry_run.prepare({**options, dry_run.FLAG: "v5e:4x5x"})


def test_a_slice_that_is_not_there_gives_its_number_of_devices():
    code = (
        "from launch import dry_run, processes; "
        "dry_run.prepare({**processes.OPTIONS, '--dry-run': 'v4:2x2x2'}); "
        "import jax; print(jax.device_count())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    root = pathlib.Path(__file__).parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    assert int(shown.stdout) == parse_topology("v4:2x2x2").size == 8
