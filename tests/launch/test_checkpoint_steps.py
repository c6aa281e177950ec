import shutil
import threading
import time

import pytest

from launch.checkpoint_steps import check_step, checkpoint_folders, finished_steps, last_step
from launch.eval_job import is_deleted, load_params


@pytest.fixture
def run(tmp_path):
    """A run's folder; `add` makes the folders of checkpoints."""

    class Run:
        path = tmp_path / "run"
        notes: list[str] = []  # noqa: RUF012

        def add(self, *steps):
            for step in steps:
                (self.path / "checkpoints" / str(step) / "params").mkdir(parents=True)

        def ends_at(self, step):
            (self.path / "config.gin").write_text(f"BATCH_SIZE = 8\nTRAIN_STEPS = {step}\n")

        def folders(self, step, *, checkpoint=None, done=(), timeout=0.0):
            found = checkpoint_folders(
                str(checkpoint or self.path),
                step,
                is_done=lambda folder: int(folder.name) in done,
                timeout=timeout,
                note=self.notes.append,
            )
            return (int(folder.name) for folder in found)

    Run.notes = []
    return Run()


def test_one_the_latest_or_all(run):
    run.add(9, 10, 200)
    assert list(run.folders(9)) == [9]
    assert list(run.folders(None)) == [200]
    assert list(run.folders("all")) == [9, 10, 200]
    assert list(run.folders("all", checkpoint=run.path / "checkpoints", done={10})) == [9, 200]
    assert run.notes == ["evaluated before: step 10"]
    # One that is asked for is gone through again.
    assert list(run.folders(9, done={9})) == [9]


def test_a_checkpoint_that_is_being_written_is_not_there_yet(run):
    run.add(1, "2.orbax-checkpoint-tmp", "damaged-3")
    assert finished_steps(run.path / "checkpoints") == [1]
    (run.path / "checkpoints" / "2.orbax-checkpoint-tmp").rename(run.path / "checkpoints" / "2")
    assert finished_steps(run.path / "checkpoints") == [1, 2]
    assert finished_steps(run.path / "nowhere") == []


def test_following_gives_each_once_and_ends_with_the_run(run):
    """What comes while one is gone through comes next, in order, whatever is deleted meanwhile."""
    run.add(1, 2)
    found = run.folders("follow", done={1}, timeout=60)
    assert next(found) == 2
    run.add(4, 3)
    shutil.rmtree(run.path / "checkpoints" / "2")
    assert next(found) == 3
    shutil.rmtree(run.path / "checkpoints" / "4")
    later = threading.Timer(1.5, lambda: (run.ends_at(6), run.add(6)))
    later.start()
    assert list(found) == [6]
    later.join()
    assert "waiting for a new checkpoint" in run.notes[1]
    assert run.notes[-1] == "step 6 is the run's last: nothing more to wait for"
    assert last_step(run.path) == 6


def test_a_run_that_has_been_gone_through_is_not_waited_for(run):
    run.add(5)
    run.ends_at(5)
    started = time.monotonic()
    assert list(run.folders("follow", done={5}, timeout=60)) == []
    assert time.monotonic() - started < 5


def test_waiting_ends_in_time(run):
    run.add(3)
    run.ends_at(8)
    assert list(run.folders("follow", timeout=0.1)) == [3]
    assert "in 0.1 s (FOLLOW_TIMEOUT); the run is to end at step 8: run the same command" in run.notes[-1]


def test_what_is_not_there_is_said(run):
    with pytest.raises(ValueError, match=r"no checkpoint came to .*checkpoints in 0.1 s .*MODEL_DIR"):
        list(run.folders("follow", timeout=0.1))
    with pytest.raises(ValueError, match=r"no checkpoint in .*found steps none"):
        list(run.folders("all"))
    run.add(3, 6)
    with pytest.raises(ValueError, match=r"no checkpoint of step 4 in .*found steps \[3, 6\]"):
        list(run.folders(4))
    with pytest.raises(ValueError, match=r"CHECKPOINT is one step.*leave CHECKPOINT_STEP at None"):
        list(run.folders("all", checkpoint=run.path / "checkpoints" / "3"))


@pytest.mark.parametrize(
    ("step", "said"), [("folow", "Did you mean 'follow'"), (-1, "is -1; expected"), (1.5, "is 1.5; expected")]
)
def test_a_step_that_is_none(step, said):
    with pytest.raises(ValueError, match=said):
        check_step(step)


def test_a_checkpoint_deleted_while_it_is_read_is_left_out(tmp_path):
    """A run that keeps the last N empties a folder file by file."""
    step = tmp_path / "7"
    (step / "params").mkdir(parents=True)
    (step / "params" / "_METADATA").write_text("{}")
    notes = []
    threading.Timer(0.5, shutil.rmtree, [step]).start()
    assert load_params(step, None, notes.append) is None
    assert notes == ["step 7: the checkpoint was deleted before it was read; left out"]
    assert is_deleted(step)
    # Asked for by name it is an error.
    with pytest.raises(Exception, match="7"):
        load_params(step, None)
