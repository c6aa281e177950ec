"""Worker processes, which leave Ctrl-C to their parent."""

import contextlib
import multiprocessing
import multiprocessing.context
import multiprocessing.resource_tracker
import os
import signal
import sys
from collections.abc import Iterator

from richhf.interruption import holding


def worker_context() -> multiprocessing.context.SpawnContext:
    """Returns what pools of workers and their events are made with.

    Python's resource tracker frees what a process left that was ended by a signal. It is started here without
    a terminal, on which it would list all of that.
    """
    sys.stderr.flush()
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        multiprocessing.resource_tracker.ensure_running()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)
    return multiprocessing.get_context("spawn")


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Processes that are started inside the block never see Ctrl-C, not even while they still import.

    For this process it is put off until the end of the block, as is SIGTERM.
    """
    with holding():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
