import io
import json
import resource

import pytest

from richhf.training.run_log import Progress, RunLog, read_log


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    log = RunLog(tmp_path)
    for step in (10, 20, 30):
        log.scalars(step, {"loss": 1.0 / step, "seconds": float(step)})
    log.close()
    resumed = RunLog(tmp_path, start_step=20)
    assert resumed.seconds_before == 20.0
    resumed.scalars(30, {"loss": 7.0})
    resumed.close()
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path)] == [(10, 0.1), (20, 0.05), (30, 7.0)]
    for line in (tmp_path / "train_log.jsonl").read_text().splitlines():
        json.loads(line)


def test_only_the_primary_process_writes(tmp_path):
    log = RunLog(tmp_path, primary=False)
    log.scalars(1, {"loss": 1.0})
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("largest", [10, 100])
def test_a_disk_that_is_full_is_said(tmp_path, largest):
    """For the log's lines and, a little later, for TensorBoard's file."""
    log = RunLog(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        with pytest.raises(OSError, match=r"log could not be written(.|\n)*run the same command again"):
            log.scalars(1, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.close()
    assert len(read_log(tmp_path)) == (largest == 100)


def test_line_on_a_terminal_is_redrawn_and_ends_at_the_last_step():
    stream = Terminal()
    progress = Progress(100, stream=stream)
    progress.update(1, 2.5, 64.0)
    progress.update(100, 0.25, 32.0)
    first, last = stream.getvalue().split("\r\033[K")[1:]
    assert first.startswith("step   1/100    1%  loss 2.5  64.0 images/s")
    assert last == "step 100/100  100%  loss 0.25  32.0 images/s  0:00 left\n"


def test_lines_elsewhere_come_only_so_often(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = Progress(1000, stream=stream, interval=10.0)
    for step in range(1, 101):
        progress.update(step, 1.0, 1.0)
        now[0] += 1.0
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[1].startswith("step   11/1000")
    assert lines[1].endswith("16:29 left")
    assert "\033" not in stream.getvalue()


@pytest.mark.parametrize("text", ["", '{"step": 1}\n{"st'])
def test_log_of_a_killed_run_is_readable(tmp_path, text):
    (tmp_path / "train_log.jsonl").write_text(text)
    assert [line["step"] for line in read_log(tmp_path)] == [1][: text.count("\n")]
