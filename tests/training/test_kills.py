"""Training that is killed goes on as if nothing had happened; `tests.benchmarks.soak` kills it more often."""

import itertools
import multiprocessing
import os
import signal
import time

import jax
import numpy as np
import pytest

from richhf.data.synthetic import synthesize
from richhf.training.example_log import read_examples
from richhf.training.saved_params import restore_params, steps_in
from tests.training import victim

STEPS = 24


@pytest.fixture
def start(tmp_path):
    """Starts the training of a name in a process that is forked from one which has imported everything."""
    synthesize(tmp_path / "data", train=20, dev=1, test=1, size=32, seed=0, workers=1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([victim.__name__])

    def call(name):
        process = context.Process(target=victim.run, args=(tmp_path / "data", tmp_path / name, STEPS))
        process.start()
        return process

    return call


def kill_when(process, condition):
    """Kills the process at a moment when the condition holds."""
    while process.is_alive():
        if condition():
            os.kill(process.pid, signal.SIGSTOP)
            if condition():
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL
                return
            os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
    pytest.fail("the run ended before")


def test_killed_after_a_save_and_in_one_it_ends_as_if_undisturbed(start, tmp_path):
    whole = start("whole")
    checkpoints = tmp_path / "killed/checkpoints"
    kill_when(start("killed"), lambda: steps_in(checkpoints) == [5])
    # The folder of a save that is under way.
    kill_when(start("killed"), lambda: any(checkpoints.glob("15.orbax-checkpoint-tmp*")))
    assert steps_in(checkpoints) == [5, 10]
    last = start("killed")
    for process in (whole, last):
        process.join()
        assert process.exitcode == 0
    examples = read_examples(tmp_path / "killed")
    assert examples == read_examples(tmp_path / "whole")
    assert list(examples) == list(range(1, STEPS + 1))
    taken = list(itertools.chain(*examples.values()))
    assert {taken.count(one) for one in taken} <= {STEPS * 8 // 20, STEPS * 8 // 20 + 1}
    for ema in (True, False):
        found, expected = (restore_params(tmp_path / name, STEPS, ema=ema) for name in ("killed", "whole"))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
