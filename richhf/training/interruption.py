"""Ctrl-C and SIGTERM while training: noted, acted on between two steps, at the same one in all processes."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


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

    Among several processes SIGTERM to any of them is meant for all: JAX, which then watches for it, has them
    agree on a step; SIGINT is passed on as SIGTERM. Outside the main thread, where Python allows no handlers,
    it watches nothing.
    """

    def __init__(self):
        self.received: int | None = None
        self._noted = False
        self._before: dict[int, object] = {}

    def ask_to_stop(self, step: int) -> bool:
        """Whether to stop behind this step; to be asked at every one."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            # Among several processes the handler of SIGTERM is JAX's.
            watched = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)
            for signum in watched:
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exc_info):
        self._restore()

    def _note(self, signum, frame):
        del frame
        if self._noted:
            # The handlers stay until here: `richhf.interruption` must not take the first signal for its own.
            self._restore()
            os.kill(os.getpid(), signum)
            return
        self._noted = True
        several = jax.process_count() > 1
        if several:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.received = signum
        when = "at a step that all processes agree on" if several else "after this step"
        name = signal.Signals(signum).name
        # Not by print, which cannot be called again while it is interrupted.
        os.write(2, f"\n{name}: saving a checkpoint {when}; once more stops at once\n".encode())

    def _restore(self):
        while self._before:
            signum, handler = self._before.popitem()
            signal.signal(signum, handler)
