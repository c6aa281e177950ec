"""The command `richhf`: its parser, and a module of subcommands for each kind of thing they are about."""

from richhf.cli.command import main
from richhf.cli.status import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_PROBLEMS

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "EXIT_PROBLEMS", "main"]
