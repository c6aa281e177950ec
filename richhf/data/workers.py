"""Worker processes, which leave Ctrl-C to their parent."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Processes that are started inside the block never see Ctrl-C, not even while they still import.

    For this process it is put off until the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
