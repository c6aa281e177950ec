"""Ctrl-C and SIGTERM at random times; tests.benchmarks.interruptions does so more often."""

import random
import signal
import subprocess
import sys

import pytest

from tests.benchmarks.interruptions import contents, draw_images, interrupt, taking_signals, with_output

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    """The command on a folder of images, its output, how long it took."""
    images = tmp_path_factory.mktemp("predict") / "images"
    draw_images(images, 12)
    command = [sys.executable, "-m", "richhf.cli", "predict", "--folder", str(images), "--outputs"]
    return [*command, "scores", "--out", "{out}"]


def test_a_prediction_is_ended_anywhere_in_one_line_and_resumes(predict, tmp_path):
    chance = random.Random(17)
    interrupted = 0
    for number in range(8):
        # Most of the time goes to imports and to compilation.
        status, wrong, _ = interrupt(
            with_output(predict, tmp_path / "part"), SIGNALS[number % 2], chance.uniform(0, 5)
        )
        assert not wrong
        interrupted += status != "finished"
    assert interrupted > 2
    for name in ("part", "whole"):
        subprocess.run(with_output(predict, tmp_path / name), check=True, capture_output=True)
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_synthesis_ends_its_workers(tmp_path, workers):
    command = [sys.executable, "-m", "richhf.cli", "synthesize", str(tmp_path / "set"), "--train", "100000"]
    for signum, delay in zip(SIGNALS, (3.5, 6.0), strict=True):
        status, wrong, _ = interrupt([*command, "--workers", workers], signum, delay)
        assert (status, wrong) == (str(128 + signum), "")
    assert not list((tmp_path / "set").rglob("*.tmp"))


def test_launch_ends_in_the_same_way(tmp_path):
    flags = ["--gin_file=gin/models/tiny_multi_head.gin", "--gin_file=gin/data/synthetic.gin"]
    flags += ["--gin_file=gin/runs/eval.gin", f"--gin.MODEL_DIR={str(tmp_path)!r}"]
    for signum, delay in zip(SIGNALS, (0.0, 1.5), strict=True):
        status, wrong, _ = interrupt([sys.executable, "-m", "launch.eval", *flags], signum, delay)
        assert (status, wrong) == (str(128 + signum), "")


CODE = """
import os, signal, sys, threading, time
from pathlib import Path
from richhf import interruption
from richhf.atomic import atomic_folder, atomic_path
interruption.watch("toy")
folder = Path(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("code", "left"),
    [
        # Swallowed exceptions do not matter, as none is raised.
        ("try:\n  os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\nexcept BaseException: pass", []),
        ("with atomic_path(folder / 'a') as t: t.write_text(''); os.kill(os.getpid(), signal.SIGINT)", []),
        ("with atomic_folder(folder / 'a') as t: os.kill(os.getpid(), signal.SIGINT)", []),
        ("with interruption.holding():\n  os.kill(os.getpid(), signal.SIGINT); time.sleep(1)\n"
         "  (folder / 'a').touch()\n(folder / 'b').touch()", ["a"]),
        # The main thread is in native code, as it is while XLA compiles.
        ("import threading; threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
         "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)", []),
        ("print('text'); os.kill(os.getpid(), signal.SIGINT); interruption.finish(0)", []),
        ("os.kill(os.getpid(), signal.SIGINT)\nraise ValueError('another')", []),
    ],
)  # fmt: skip
def test_the_process_ends_where_it_is(tmp_path, code, left):
    command = [sys.executable, "-c", f"{CODE}{code}\ninterruption.finish(0)", str(tmp_path)]
    done = subprocess.run(taking_signals(command), capture_output=True, text=True, timeout=60)
    line = "toy: interrupted; run the same command again to resume\n"
    assert (done.returncode, done.stderr) == (130, line)
    assert done.stdout == ("text\n" if "print" in code else "")
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    code = f"{CODE}os.kill(os.getpid(), signal.SIGINT); interruption.finish(7)"
    command = taking_signals([sys.executable, "-c", code, str(tmp_path)], "SIG_IGN")
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")


def test_a_second_signal_ends_what_the_first_waits_for(tmp_path):
    code = f"{CODE}with interruption.holding():\n  (folder / 'a').touch()\n  time.sleep(30)\n"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(taking_signals(command), stderr=subprocess.PIPE) as process:
        while not (tmp_path / "a").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(2) == 130


def test_training_takes_the_first_signal_and_leaves_the_second(tmp_path):
    code = f"""{CODE}
from richhf.training.interruption import SignalWatch
with SignalWatch() as signals:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    (folder / str(signals.received)).touch()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
"""
    done = subprocess.run(
        taking_signals([sys.executable, "-c", code, str(tmp_path)]),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 130
    assert done.stderr.strip().splitlines() == [
        "SIGINT: saving a checkpoint after this step; once more stops at once",
        "toy: interrupted; run the same command again to resume",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [str(int(signal.SIGINT))]
