"""T5X's command line: gin files, search paths and `--gin.NAME=VALUE`, with errors that name the near miss."""

import ast
import dataclasses
import difflib
import inspect
import os
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gin
from launch.gin_sources import where_from

CONFIG_FILE = "config.gin"
AS_TRAINED = ("SEE_PROMPT", "SCAN_LAYERS")
"""Macros that must not change after training: what is fed, and how parameters are laid out."""
BEGINNINGS = ("@", "%", "(", "[", "{", "'", '"')
"""Of gin values that are no bare words."""


class ConfigError(ValueError):
    """A configuration that cannot work."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """A parsed command line.

    Attributes:
      gin_files: in order; of two values of a name the later counts.
      search_paths: where gin files and their includes are looked for, after the working folder.
      bindings: gin lines of the `--gin.NAME=VALUE` flags, in order; they come after the files.
      options: values of a command's own flags, by name.
    """

    gin_files: tuple[str, ...]
    search_paths: tuple[str, ...]
    bindings: tuple[str, ...]
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse_flags(
    argv: Sequence[str], options: Mapping[str, str] | None = None, bare: Mapping[str, str] | None = None
) -> Flags:
    """Parses `--gin_file=F`, `--gin_search_paths=A,B` and `--gin.NAME=VALUE`, each as often as wanted.

    VALUE is a gin value: a Python literal, `@reference` or `%MACRO`. Anything else that begins with none of
    `@ % ( [ {` and quotes is taken as a string.

    Args:
      argv: the command line.
      options: further flags of a command: their names (`--step`) and defaults; of several values the last
        counts.
      bare: those of them that may stand without a value (`--dry-run`), and the value that they then have;
        they take another one behind `=` only.

    Raises:
      ConfigError: any other argument, or a VALUE such as `false` that is meant for Python's `False`.
    """
    chosen = dict(options or {})
    values: dict[str, list[str]] = {"--gin_file": [], "--gin_search_paths": [], "--gin.": []}
    rest = list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        key = "--gin." if name.startswith("--gin.") else name
        if key not in values and key not in chosen:
            own = (
                option if bare and option in bare else f"{option}={default or 'VALUE'}"
                for option, default in (options or {}).items()
            )
            known = (
                *own,
                "--gin_file=FILE",
                "--gin_search_paths=FOLDER,FOLDER",
                "--gin.NAME=VALUE",
                "--help",
            )
            raise ConfigError(f"unknown argument {name!r}.{near(name, known)} Known: {', '.join(known)}.")
        if not equals and bare and key in bare:
            value = bare[key]
        elif not equals:
            if key == "--gin." or not rest:
                raise ConfigError(f"{name} has no value: write {name}=VALUE.")
            value = rest.pop(0)
        if key in chosen:
            chosen[key] = value
            continue
        values[key].append(
            f"{name.removeprefix('--gin.')} = {_gin_value(value)}" if key == "--gin." else value
        )
    paths = [path for value in values["--gin_search_paths"] for path in value.split(",") if path]
    return Flags(tuple(values["--gin_file"]), tuple(paths), tuple(values["--gin."]), chosen)


def load(flags: Flags, parameters: Mapping[str, Callable[..., Any]], unread: Sequence[str] = ()) -> None:
    """Reads files and bindings into gin, and checks that nothing is unknown or left open.

    A macro that one file requires (`NAME = %gin.REQUIRED`) may be given by a file before it as well as
    after it.

    Args:
      flags: the command line.
      parameters: what gin files may configure, by module-qualified name; for suggestions.
      unread: names that the command never reads, which may stay open: they are None.

    Raises:
      ConfigError: a file that is not there, a syntax error, an unknown name, or a REQUIRED one without a
        value.
    """
    if not flags.gin_files:
        raise ConfigError("no gin file: give at least one --gin_file=FILE; see gin/runs/*.gin for the jobs.")
    gin.clear_config()
    for path in ("", *flags.search_paths):
        gin.add_config_file_search_path(path)
    given: dict[str, Any] = {}
    for file in flags.gin_files:
        _check_file(file, flags.search_paths)
        with _explained(parameters):
            gin.parse_config_file(file)
        for name, value in macros().items():
            if not is_required(value):
                given[name] = value
            elif name in given:
                gin.bind_parameter(f"{name}/macro.value", given[name])
    known = sorted({*macros(), *used_macros()})
    for binding in flags.bindings:
        with _explained(parameters, binding):
            gin.parse_config(binding)
    unknown = [name for name in macros() if name not in known]
    if unknown:
        raise ConfigError(
            f"no gin file uses {unknown[0]} (--gin.{unknown[0]}).{near(unknown[0], known)} "
            f"Known: {', '.join(known)}."
        )
    undefined = [name for name in used_macros() if name not in macros()]
    unset = [name for name, value in macros().items() if is_required(value)]
    for name in {*undefined, *unset} & {*unread}:
        gin.bind_parameter(f"{name}/macro.value", None)
    if missing := sorted({*undefined, *unset} - {*unread}):
        raise ConfigError(
            f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value. To give "
            f"{'it' if len(missing) == 1 else 'them'}, {where_from(missing)}."
        )
    with _explained(parameters):
        gin.finalize()


def macros() -> dict[str, Any]:
    """Values of all macros by name; gin has no public way to list them."""
    config = gin.config._CONFIG
    return {
        scope: params["value"] for (scope, name), params in config.items() if name == "gin.macro" and params
    }


def used_macros() -> list[str]:
    """Names of the macros that any value refers to."""
    references = gin.config.iterate_references(gin.config._CONFIG)
    return sorted({"/".join(ref.scopes) for ref in references if ref.selector == "gin.macro"})


def is_required(value: Any) -> bool:
    """Whether a value is `%gin.REQUIRED`."""
    return isinstance(value, gin.config.ConfigurableReference) and value.scopes == ["gin.REQUIRED"]


def near(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing."""
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[found[0]]!r}?" if found else ""


def _gin_value(text: str) -> str:
    if text.lower() in ("true", "false", "none") and text != text.capitalize():
        raise ConfigError(f"the value {text!r} would be a string: write {text.capitalize()}.")
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text if text.startswith(BEGINNINGS) else repr(text)
    return text


def _check_file(file: str, search_paths: Sequence[str]) -> None:
    folders = ("", *search_paths)
    if any(os.path.isfile(os.path.join(folder, file)) for folder in folders):
        return
    places = [os.path.join(folder, os.path.dirname(file)) or "." for folder in folders]
    there = [
        os.path.join(os.path.dirname(file), name)
        for place in places
        if os.path.isdir(place)
        for name in sorted(os.listdir(place))
        if name.endswith(".gin")
    ]
    looked = ", ".join(os.path.abspath(place) for place in places)
    raise ConfigError(f"no gin file {file!r} (looked in {looked}).{near(file, there)}")


def check_recorded(names: Iterable[str], config_file: str | os.PathLike) -> None:
    """Checks that macros have the values that a run was trained with.

    Args:
      names: the macros; one that this configuration or the run's lacks is not checked.
      config_file: the run's operative configuration.

    Raises:
      ConfigError: values differ.
    """
    if not os.path.exists(config_file):
        return
    with open(config_file, encoding="utf-8") as file:
        recorded = dict(re.findall(r"^(\w+) = (.*)$", file.read(), re.MULTILINE))
    for name in names:
        value = repr(macros().get(name))
        if name in macros() and recorded.get(name, value) != value:
            raise ConfigError(
                f"{name} is {value}, but {os.fspath(config_file)} says that the run was trained with "
                f"{recorded[name]}: set --gin.{name}={recorded[name]}, or take a new MODEL_DIR."
            )


class _explained:
    """Turns gin's errors inside the block into ConfigErrors that name the near miss."""

    def __init__(self, parameters: Mapping[str, Callable[..., Any]], binding: str = ""):
        self._parameters, self._binding = parameters, binding

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(
            error, (ValueError, SyntaxError, tokenize.TokenError, OSError, TypeError, ImportError)
        ):
            return
        message = " ".join(str(error).split())
        short = [name.split(".")[-1] for name in self._parameters]
        if match := re.search(r"No configurable matching (?:reference )?'@?(?:[^']*/)?([^'/(]*)", message):
            known = short + list(self._parameters)
            message += f"{near(match[1], known)} Known: {', '.join(sorted(short))}."
        elif match := re.search(r"Configurable '([^']*)' doesn't have a parameter named '([^']*)'", message):
            target = self._parameters.get(match[1]) or dict(
                zip(short, self._parameters.values(), strict=True)
            ).get(match[1].split(".")[-1])
            known = list(inspect.signature(target).parameters) if target else []
            message += f"{near(match[2], known)} It has {', '.join(known)}."
        elif self._binding:
            flag = self._binding.replace(" = ", "=", 1)
            message = f"--gin.{flag} cannot be read ({message}); strings inside of brackets take quotes."
        raise ConfigError(message) from error
