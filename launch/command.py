"""What the mains share: command line to configuration to job, errors to one message and a status."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

EXIT_FAILED, EXIT_BAD_CONFIG, EXIT_INTERRUPTED = 1, 2, 130
AGAIN = "run the same command again to go on"


def run(
    name: str,
    usage: str,
    job: Callable[[], int | None],
    argv: Sequence[str] | None = None,
    *,
    options: Mapping[str, str] | None = None,
    prepare: Callable[[Mapping[str, str]], None] | None = None,
    unread: Sequence[str] = (),
) -> int:
    """Runs a job and returns the exit status.

    0: done. 1: training went astray. 2: the configuration cannot work. 130, 143: stopped by Ctrl-C, SIGTERM.
    With RICHHF_TRACEBACK=1 in the environment errors keep their traceback.

    Args:
      name: of the module, `launch.train`.
      usage: printed for --help.
      job: called without arguments after gin is configured; may return the exit status.
      argv: the command line; sys.argv's if None.
      options: flags of the command besides gin's: their names and defaults.
      prepare: called with the values of options before JAX is imported.
      unread: required names of gin files that the job does not read.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(argv):
        print(usage.strip())
        return 0
    with quiet_import():
        import tensorflow as tf

        # TensorFlow reads the data; the accelerator's memory is JAX's.
        tf.config.set_visible_devices([], "GPU")
    try:
        with quiet_import():
            from launch import gin_config

        flags = gin_config.parse_flags(argv, options)
        if prepare:
            prepare(flags.options)
        with quiet_import():
            from launch import configurables

        gin_config.load(flags, configurables.PARAMETERS, unread)
        return job() or 0
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; {AGAIN}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, OSError, FloatingPointError, tf.errors.OpError) as error:
        if os.environ.get("RICHHF_TRACEBACK"):
            raise
        # Gin adds how it came to the call behind the message.
        message = str(error).split("\n  In call to configurable")[0].strip()
        print(f"{name}: {message}", file=sys.stderr)
        return EXIT_FAILED if isinstance(error, FloatingPointError) else EXIT_BAD_CONFIG


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps back what libraries print to stderr while they are imported, unless the import fails.

    TensorFlow greets with several lines about the machine that no setting turns off.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
