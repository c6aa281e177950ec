"""What the mains share: command line to configuration to job, errors to one message and a status."""

import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.processes import ends_at_once
from richhf import interruption
from richhf.quiet import quiet_import

EXIT_FAILED, EXIT_BAD_CONFIG, EXIT_INTERRUPTED = 1, 2, 130
TRACEBACK = "RICHHF_TRACEBACK"


@ends_at_once
def run(
    name: str,
    usage: str,
    job: Callable[[], int | None],
    argv: Sequence[str] | None = None,
    *,
    options: Mapping[str, str] | None = None,
    bare: Mapping[str, str] | None = None,
    prepare: Callable[[Mapping[str, str]], None] | None = None,
    unread: Sequence[str] = (),
) -> int:
    """Runs a job and returns the exit status.

    0: done. 1: training went astray, memory or the disk ran out, or a file system failed. 2: the
    configuration cannot work. 130, 143: stopped by Ctrl-C, SIGTERM.
    With RICHHF_TRACEBACK=1 in the environment errors keep their traceback.

    Args:
      name: of the module, `launch.train`.
      usage: printed for --help.
      job: called without arguments after gin is configured; may return the exit status.
      argv: the command line; sys.argv's if None.
      options: flags of the command besides gin's: their names and defaults.
      bare: values of the options that may be given without one.
      prepare: called with the values of options before JAX is imported.
      unread: required names of gin files that the job does not read.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(argv):
        print(f"{usage.strip()}\n\nWith {TRACEBACK}=1 in the environment errors keep their traceback.")
        return 0

    def print_note(text: str) -> None:
        print(f"{name}: {' '.join(text.split())}", file=sys.stderr, flush=True)

    def show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        # People read what is wrong with their files, not the line of code that found it.
        if issubclass(category, UserWarning):
            print_note(str(message))
        else:
            shown_before(message, category, *place, **more)

    shown_before, warnings.showwarning = warnings.showwarning, show_warning
    try:
        try:
            with quiet_import():
                from launch import gin_config
                from launch.places import check_places

            flags = gin_config.parse_flags(argv, options, bare)
            if prepare:
                prepare(flags.options)
            with quiet_import():
                import tensorflow as tf

                # TensorFlow reads the data; the accelerator's memory is JAX's.
                tf.config.set_visible_devices([], "GPU")
                from launch import configurables, macro_checks

            gin_config.load(flags, configurables.PARAMETERS, unread)
            macro_checks.check_values(configurables.PARAMETERS, unread)
            check_places(gin_config.macros())
            macro_checks.fit_warmup(print_note)
            return job() or 0
        except Exception:
            interruption.wait_if_interrupted()
            raise
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; {interruption.AGAIN}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except RuntimeError as error:
        found = re.search(r"RESOURCE_EXHAUSTED: (.*)", str(error))
        if not found or os.environ.get(TRACEBACK):
            raise
        hint = (
            "Take more microbatches (NUM_MICROBATCHES), a smaller BATCH_SIZE, REMAT='blocks' or more devices"
        )
        print(f"{name}: {found[1]} {hint}; launch.precompile says what fits.", file=sys.stderr)
        return EXIT_FAILED
    except (ValueError, TypeError, OSError, FloatingPointError, ImportError) as error:
        if os.environ.get(TRACEBACK):
            raise
        # Gin adds how it came to the call behind the message.
        message = str(error).split("\n  In call to configurable")[0].strip()
        if isinstance(error, ImportError) and "pip install" not in message:
            message += "; a checkout is installed with: pip install -e '.[train]'"
        elif isinstance(error, TypeError):
            message += f" (a value of the wrong type? {TRACEBACK}=1 shows where)"
        print(f"{name}: {message}", file=sys.stderr)
        return EXIT_FAILED if is_passing(error) else EXIT_BAD_CONFIG
    finally:
        warnings.showwarning = shown_before


def is_passing(error: BaseException) -> bool:
    """Whether the same command may do better: of a full disk, say, but not of a file that is not there."""
    if isinstance(error, FloatingPointError):
        return True
    wrong_place = FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError
    return isinstance(error, OSError) and not isinstance(error, wrong_place)
