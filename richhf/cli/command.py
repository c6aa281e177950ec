"""The command `richhf`: one subcommand a job.

What takes time to import is imported inside the functions, so that Ctrl-C is watched for from the start.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import richhf
from richhf import interruption
from richhf.cli.status import EXIT_ERROR, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from richhf.cli.parser import Parser, Run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    0: done. 1: done, and `inspect` found problems. 2: it could not be done; one line on stderr says why.
    130, 143: interrupted by Ctrl-C, stopped by SIGTERM.

    Args:
        argv: the command line, run like a function of Python. None: that of this process, which then ends
            here: signals end it in an orderly way, and so does the end of the command.
    """
    if argv is not None:
        return _run(argv)
    interruption.watch("richhf")
    try:
        status = _run(sys.argv[1:])
    except SystemExit as stop:  # --help, or a command line that cannot be read.
        if not isinstance(stop.code, int):
            raise
        status = stop.code
    interruption.finish(status)


def _run(argv: Sequence[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from richhf.cli.parser import parse

    parser, commands = build_parser()
    arguments = parse(parser, commands, list(argv))
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print(f"richhf: interrupted; {interruption.AGAIN}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`head`, a pager) has gone; nothing is left to say, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (ValueError, OSError, ImportError) as error:
        interruption.wait_if_interrupted()
        print(f"richhf: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR


def build_parser() -> "tuple[Parser, dict[str, Parser]]":
    """Returns the parser, and those of the subcommands by name."""
    from richhf.cli.models import add_convert, add_predict
    from richhf.cli.parser import Parser
    from richhf.cli.records import add_inspect, add_prepare, add_synthesize

    parser = Parser(prog="richhf", description="Rich human feedback for text-to-image generation.")
    parser.add_argument("--version", action="version", version=f"richhf {richhf.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    commands: dict[str, Parser] = {}

    def add(name: str, run: "Run", text: str) -> Parser:
        commands[name] = subparsers.add_parser(name, help=text, description=text)
        commands[name].set_defaults(run=run)
        return commands[name]

    for add_command in (add_synthesize, add_prepare, add_predict, add_inspect, add_convert):
        add_command(add)
    return parser, commands
