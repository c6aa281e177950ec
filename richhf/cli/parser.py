"""What every subcommand's arguments are parsed with."""

import argparse
import difflib
from collections.abc import Callable
from typing import Any

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser that remembers its options, to suggest one for a misspelt name."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.options: list[str] = []
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        """Adds an argument, and remembers its name if it is an option."""
        self.options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **kwargs)


Add = Callable[[str, Run, str], Parser]
"""Adds a subcommand of a name, with what runs it and one sentence of help."""


def parse(parser: Parser, commands: dict[str, Parser], argv: list[str]) -> argparse.Namespace:
    """Parses, naming the nearest known name for an unknown one."""
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        parser.error(f"unknown command {argv[0]!r}{nearest(argv[0], list(commands))}")
    arguments, unknown = parser.parse_known_args(argv)
    if isinstance(getattr(arguments, "image", None), list):
        # Images that stand between or behind options, which argparse leaves over.
        arguments.image += [name for name in unknown if not name.startswith("-")]
        unknown = [name for name in unknown if name.startswith("-")]
    if unknown:
        command = commands[argv[0]]
        name = unknown[0].split("=")[0]
        command.error(f"unknown argument {name!r}{nearest(name, command.options)}")
    return arguments


def nearest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"


def positive(text: str) -> int:
    """A type of arguments: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        why = "too few" if text.isdecimal() else "not a whole number"
        raise argparse.ArgumentTypeError(f"{text!r} is {why}; expected 1 or more")
    return int(text)


def count(text: str) -> int:
    """A type of arguments: a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; expected 0 or a positive whole number")
    return int(text)
