"""The command `richhf`: one subcommand a job."""

import os
import sys
from collections.abc import Sequence

import richhf
from richhf.cli.models import add_convert, add_predict
from richhf.cli.parser import EXIT_ERROR, EXIT_INTERRUPTED, Parser, Run, parse
from richhf.cli.records import add_inspect, add_prepare, add_synthesize


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    0: done. 1: done, and `inspect` found problems. 2: it could not be done; one line on stderr says why.
    130: interrupted.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser, commands = build_parser()
    arguments = parse(parser, commands, list(sys.argv[1:] if argv is None else argv))
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("richhf: interrupted; run the same command again and it goes on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`head`, a pager) has gone; nothing is left to say, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (ValueError, OSError, ImportError) as error:
        print(f"richhf: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser, and those of the subcommands by name."""
    parser = Parser(prog="richhf", description="Rich human feedback for text-to-image generation.")
    parser.add_argument("--version", action="version", version=f"richhf {richhf.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    commands: dict[str, Parser] = {}

    def add(name: str, run: Run, text: str) -> Parser:
        commands[name] = subparsers.add_parser(name, help=text, description=text)
        commands[name].set_defaults(run=run)
        return commands[name]

    for add_command in (add_synthesize, add_prepare, add_predict, add_inspect, add_convert):
        add_command(add)
    return parser, commands
