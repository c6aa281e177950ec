"""Ctrl-C and SIGTERM while training: noted, acted on between two steps."""

import signal
import sys
import threading


class Interrupted(SystemExit):
    """Training was stopped by a signal after its checkpoint was saved; the exit code is 128 + signal number.

    Attributes:
      step: the step of that checkpoint.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(128 + signum)
        self.step = step


class SignalWatch:
    """A context in which the first SIGINT or SIGTERM is remembered in `received`; a second one acts at once.

    Outside the main thread, where Python allows no handlers, it watches nothing.
    """

    def __init__(self):
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exc_info):
        self._restore()

    def _note(self, signum, frame):
        del frame
        self.received = signum
        self._restore()
        name = signal.Signals(signum).name
        print(
            f"\n{name}: saving a checkpoint after this step; once more stops at once",
            file=sys.stderr,
            flush=True,
        )

    def _restore(self):
        while self._before:
            signum, handler = self._before.popitem()
            signal.signal(signum, handler)
