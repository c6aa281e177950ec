"""What the scripts do over a preemption, with stand-ins for the tools of the cloud."""

import os
import pathlib
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
# Writes down what it was asked; the queued resource is as `state` says; each question for the status of
# training takes one line of `answers`: nothing yet, a status, or that the TPU is taken away.
GCLOUD = """
echo "$*" >> log
case "$*" in
  *"queued-resources list"*) [[ ! -f state ]] || printf 'other\\tACTIVE\\nrun\\t%s\\n' "$(cat state)" ;;
  *"queued-resources create"*) echo ACTIVE > state ;;
  *"queued-resources delete"*) rm state ;;
  *"cat train.status"*)
    answer=$(head -n 1 answers)
    sed -i 1d answers
    if [[ $answer == preempted ]]; then
      echo SUSPENDED > state
      exit 255
    fi
    echo "$answer"
    ;;
esac
"""


@pytest.fixture
def tools(tmp_path):
    """Runs a script in tmp_path, where the tools are what `tools(name=body)` says."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(script, *arguments, environment, **bodies):
        for name, body in bodies.items():
            (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (folder / name).chmod(0o755)
        path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
        return subprocess.run(
            ["bash", LAUNCH / script, *arguments], env=path | environment, cwd=tmp_path,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


def run_tpu_vm(tools, tmp_path, *answers):
    """The exit status of `tpu_vm.sh run`, and what it did."""
    (tmp_path / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    environment = {"PROJECT": "p", "BUCKET": "b", "NAME": "run", "FLAGS": "--gin.SEED=7"}
    ended = tools("tpu_vm/tpu_vm.sh", "run", environment=environment, gcloud=GCLOUD, sleep="", git="")
    steps = {
        "queued-resources create": "create", "queued-resources delete": "delete", "tpu-vm scp": "copy",
        "install.sh": "install", "train.sh": "train", "tail": "tail",
    }  # fmt: skip
    lines = (tmp_path / "log").read_text().splitlines()
    return ended.returncode, [step for line in lines for part, step in steps.items() if part in line]


BEGIN = ["create", "copy", "install", "train"]
END = ["tail", "delete"]


@pytest.mark.parametrize(
    ("answers", "status", "did"),
    [
        (["", "", "0"], 0, [*BEGIN, *END]),
        (["", "preempted", "", "0"], 0, [*BEGIN, "delete", *BEGIN, *END]),
        (["143", "0"], 0, [*BEGIN, *BEGIN[1:], *END]),
        (["2"], 1, [*BEGIN, *END]),
        (["1", "134", "1"], 1, [*BEGIN, *BEGIN[1:], *BEGIN[1:], *END]),
    ],
    ids=["done", "preempted", "saved", "bad configuration", "fails again and again"],
)
def test_a_run_on_tpu_vms_goes_on_after_a_preemption_and_always_ends_the_costs(
    tools, tmp_path, answers, status, did
):
    assert run_tpu_vm(tools, tmp_path, *answers) == (status, did)
    assert not (tmp_path / "state").exists()
    log = (tmp_path / "log").read_text()
    assert "--spot" in log
    assert "--worker=all" in log
    assert "train.sh base_augmented_prompt run --gin.SEED=7 > train.log" in log


@pytest.mark.parametrize("arguments", [[], ["rum"]])
def test_a_command_that_is_none_prints_the_usage(tools, arguments):
    environment = {"PROJECT": "p", "BUCKET": "b", "IMAGE": "i"}
    for script in ("tpu_vm/tpu_vm.sh", "gke/gke.sh", "gke/xpk.sh"):
        ended = tools(script, *arguments, environment=environment)
        assert (ended.returncode, "down" in ended.stdout or "delete" in ended.stdout) == (2, True)
        missing = tools(script, "status", environment={})
        assert missing.returncode == 1
        assert "=..." in missing.stderr


@pytest.mark.parametrize("status", [0, 2, 143])
def test_a_host_leaves_the_exit_status_behind(tools, tmp_path, status):
    (tmp_path / "richhf").mkdir()
    (tmp_path / "venv/bin").mkdir(parents=True)
    python = tmp_path / "venv/bin/python"
    python.write_text(f'#!/usr/bin/env bash\necho "$*" > {tmp_path}/asked\nexit {status}\n')
    python.chmod(0o755)
    (tmp_path / "train.status").write_text("1")
    asked_for = ("base_multi_head", "run", "--gin.SEED=7")
    assert tools("tpu_vm/train.sh", *asked_for, environment={}).returncode == status
    assert (tmp_path / "train.status").read_text() == f"{status}\n"
    assert int((tmp_path / "train.pid").read_text()) > 0
    asked = (tmp_path / "asked").read_text()
    assert "gin/models/base_multi_head.gin" in asked
    assert f"--gin.MODEL_DIR={tmp_path}/bucket/runs/run" in asked
    assert asked.endswith(" --gin.SEED=7\n")


@pytest.mark.parametrize(("status", "again"), [(0, False), (1, False), (143, True)])
def test_a_slurm_job_that_was_stopped_is_queued_again(tools, tmp_path, status, again):
    environment = {
        "SHARED": "/shared",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "run",
        "SLURM_CPUS_PER_TASK": "6",
    }
    ended = tools(
        "slurm/train.sbatch", "--gin.SEED=7", environment=environment,
        srun=f'echo "$*" > asked; exit {status}', scontrol='echo "$*" > queued',
    )  # fmt: skip
    assert ended.returncode == status
    asked = (tmp_path / "asked").read_text()
    assert "--cpus-per-task=6" in asked
    assert "--gin.MODEL_DIR=/shared/runs/run" in asked
    assert asked.endswith(" --gin.SEED=7\n")
    assert (tmp_path / "queued").exists() == again
    assert not again or (tmp_path / "queued").read_text() == "requeue 7\n"
