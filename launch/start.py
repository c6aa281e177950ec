"""How a module of `launch` begins and ends as a process of its own; imports nothing heavy."""

import sys
from collections.abc import Callable

from richhf import interruption


def start(name: str, main: Callable[[], int]) -> None:
    """Runs a main function as this process: signals end it in one line, with status 130 or 143.

    Args:
        name: of the module, such as `launch.train`.
        main: what returns the exit status; should import what is heavy itself.
    """
    interruption.watch(name)
    try:
        status = main()
    except SystemExit as stop:  # A training that was stopped, or a command line that cannot be read.
        if not isinstance(stop.code, int):
            raise
        status = stop.code
    from launch.processes import among_several

    if among_several():
        sys.exit(status)  # JAX parts from the other processes on the way.
    interruption.finish(status)
