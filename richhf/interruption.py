"""Ctrl-C and SIGTERM end a command at once: one line on stderr, status 130 or 143, nothing half written.

No exception is raised. `KeyboardInterrupt` is swallowed where modules are being imported, aborts the process
where C++ calls Python, and the interpreter's exit crashes while XLA compiles in its threads. Instead the
signal wakes a thread, also while the main thread is in native code. That thread removes temporary files, ends
worker processes and leaves by `os._exit`. Outputs appear under their names only when they are complete, so
nothing is lost.

This module imports nothing but light parts of the standard library, so that a command can begin with it.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = "run the same command again to resume"
_PATIENCE = 5.0
"""Seconds that cleaning up may take, and that a file operation is waited for."""

_received: int | None = None
_writer = -1
_holders: set[tuple[int, object]] = set()
_clean_ups: dict[object, Callable[[], object]] = {}


def watch(name: str) -> None:
    """Makes SIGINT and SIGTERM end this process; to be called first, in the main thread.

    A signal that is ignored already stays ignored, as in the background jobs of a shell. A handler that is
    installed later takes its signal over for as long as it is there.

    Args:
      name: of the command, begins the line on stderr.
    """
    global _writer
    reader, _writer = os.pipe()
    os.set_blocking(_writer, False)
    # stderr may point elsewhere when the signal comes (`quiet.quiet_import`).
    stderr = os.dup(2)
    signal.set_wakeup_fd(_writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(name, reader, stderr), name="interruption", daemon=True).start()
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _stop_here)
    os.register_at_fork(after_in_child=_forget)


def finish(status: int) -> NoReturn:
    """Ends the process with this status, without the interpreter's teardown, in which signals are lost."""
    # A flush to a pipe whose reader has gone fails; nothing is left to say then.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    wait_if_interrupted()
    os._exit(status)


def wait_if_interrupted() -> None:
    """Returns at once unless a signal is ending this process; then it never returns.

    To be called before a failure is reported that the signal may have caused.
    """
    while _received is not None:
        time.sleep(1)


@contextlib.contextmanager
def cleaning_up(clean_up: Callable[[], object]) -> Iterator[None]:
    """If a signal ends the process inside the block, `clean_up` is called first, in another thread."""
    token = object()
    _clean_ups[token] = clean_up
    try:
        yield
    finally:
        del _clean_ups[token]


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """A signal ends the process only after the block: for a few quick operations that belong together."""
    token = threading.get_ident(), object()
    # First the token, then the question: either this thread sees the signal or the watching one the token.
    _holders.add(token)
    if _received is not None:
        _holders.discard(token)
        wait_if_interrupted()
    try:
        yield
    finally:
        _holders.discard(token)
        wait_if_interrupted()


def _stop_here(signum: int, frame: FrameType | None) -> None:
    """The handler, in the main thread: nothing more is done there while the process ends."""
    del frame
    if threading.get_ident() in {thread for thread, _ in tuple(_holders)}:
        return
    while True:
        time.sleep(1)
        if _received is None:  # Somebody else took the file descriptor that wakes the watching thread.
            os.write(_writer, bytes([signum]))


def _forget() -> None:
    """In a forked process, which the thread that watches is not part of."""
    signal.set_wakeup_fd(-1)
    for signum in SIGNALS:
        if signal.getsignal(signum) is _stop_here:
            signal.signal(signum, signal.SIG_DFL)


def _watch(name: str, reader: int, stderr: int) -> None:
    """Waits for the first signal that is meant for `_stop_here`, and ends the process."""
    while True:
        for signum in os.read(reader, 1):
            if signal.getsignal(signum) is _stop_here:
                _end(signum, name, reader, stderr)


def _end(signum: int, name: str, reader: int, stderr: int) -> NoReturn:
    global _received
    _received = signum
    deadline = time.monotonic() + _PATIENCE
    try:
        # A second signal ends the waiting.
        while _holders and time.monotonic() < deadline and not _again(reader, 0.01):
            pass
        cleaning = threading.Thread(target=_clean_up, name="clean up", daemon=True)
        cleaning.start()
        while cleaning.is_alive() and time.monotonic() < deadline and not _again(reader, 0.01):
            pass
        what = "interrupted" if signum == signal.SIGINT else f"stopped by {signal.Signals(signum).name}"
        line = f"{name}: {what}; {AGAIN}\n"
        # The cursor stands behind ^C on a terminal, or behind a progress bar.
        os.write(stderr, (line if not _is_behind_text(stderr) else f"\n{line}").encode())
    finally:
        os._exit(128 + signum)


def _again(reader: int, seconds: float) -> bool:
    readable, _, _ = select.select([reader], [], [], seconds)
    return bool(readable) and any(signum in SIGNALS for signum in os.read(reader, 1))


def _clean_up() -> None:
    """Ends worker processes, removes what is unfinished, and flushes what was printed."""
    multiprocessing = sys.modules.get("multiprocessing")
    with contextlib.suppress(Exception):
        for child in getattr(multiprocessing, "active_children", list)():
            child.kill()
            child.join(1)
    for clean_up in reversed(list(_clean_ups.values())):
        with contextlib.suppress(Exception):
            clean_up()
    # Last: the main thread may have been stopped while it printed, and then keeps the stream's lock.
    with contextlib.suppress(Exception):
        sys.stdout.flush()


def _is_behind_text(stderr: int) -> bool:
    bars: Any = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return os.isatty(stderr) or any(not bar.disable for bar in getattr(bars, "_instances", ()))
