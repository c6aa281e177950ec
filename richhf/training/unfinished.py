"""What Orbax leaves unfinished when one of several reads or writes fails."""

import sys
import types
from typing import Any

CLOSED = "Event loop is closed"


def ignore_unfinished() -> None:
    """Keeps back the tracebacks of reads and writes that Orbax leaves unfinished; called once or more.

    Orbax reads and writes arrays in an event loop of its own. If one fails, it raises that error and closes
    the loop without waiting for the others. When TensorStore finishes these, the loop is closed, and when
    Python collects their coroutines, they raise again. `sys.unraisablehook` would print pages about an error
    that has been raised already.
    """
    previous = sys.unraisablehook
    if isinstance(previous, _Hook):
        return
    sys.unraisablehook = _Hook(previous)


class _Hook:
    def __init__(self, previous: Any):
        self._previous = previous

    def __call__(self, unraisable: Any) -> None:
        if not is_unfinished(unraisable.exc_value, unraisable.object):
            self._previous(unraisable)


def is_unfinished(error: BaseException | None, origin: Any) -> bool:
    """Whether an error that nobody can catch comes from a read or write of Orbax that it has given up.

    Args:
      error: what was raised.
      origin: the coroutine that was collected; None for a call into an event loop.
    """
    if isinstance(origin, types.CoroutineType):
        return "orbax" in origin.cr_code.co_filename
    return isinstance(error, RuntimeError) and str(error) == CLOSED
