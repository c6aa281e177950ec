"""What befalls one process alone, both act on alike."""

import json
import multiprocessing
import signal
import socket

import pytest

from richhf.training.saved_params import steps_in
from tests.training import pair


@pytest.fixture
def run(tmp_path):
    """Runs two processes to their end and gives their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([pair.__name__])

    def call(steps, **troubles):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        both = [
            context.Process(target=pair.run, args=(address, index, tmp_path, steps, troubles))
            for index in range(2)
        ]
        try:
            for process in both:
                process.start()
            for process in both:
                process.join(120)
            return [process.exitcode for process in both]
        finally:
            for process in both:
                process.kill()

    return call


def test_a_signal_to_one_stops_both_and_damage_seen_by_one_sends_both_back(run, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    assert run(1000, interrupted_at=7) == [128 + signal.SIGTERM] * 2
    *_, stopped = steps_in(checkpoints)
    assert 7 < stopped < 1000
    # Each process verifies a part of the files: one alone finds this.
    manifest = checkpoints / f"{stopped}/params/manifest.ocdbt"
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"?")
    assert run(stopped + 1) == [0, 0]
    assert (checkpoints / f"damaged-{stopped}").is_dir()
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == steps_in(checkpoints)[-1] == stopped + 1
    assert json.loads((checkpoints / f"{stopped + 1}/iterator/position.json").read_text()) == stopped + 1
