"""A model's sizes as plain JSON, and back: no class names, no code, defaults written out.

Every field of the configuration's dataclasses is there under its own name, so that a default that changes
later changes no model that was written before. A field that a file lacks has its default: fields that came
later are made so that theirs is what was done before.
"""

import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

CONFIG = "config.json"
"""The file of a model's folder that says what it is: ours, and that of Hugging Face."""

Config = TypeVar("Config")


def config_to_json(config: Any) -> dict[str, Any]:
    """A dataclass of numbers, strings, tuples and further such dataclasses, as nested dicts for JSON."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def config_from_json(kind: type[Config], values: Any, name: str = "model") -> Config:
    """The dataclass that `config_to_json` was given.

    Args:
        kind: its type.
        values: what JSON gave.
        name: what the values are called in errors.

    Raises:
        ValueError: a name that is no field of `kind`, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {values!r:.60}; expected values by name.")
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{name} has {key!r}, which is not one of {', '.join(fields)}.{hint} A newer version of "
                "richhf may have written it."
            )
    return kind(**{key: _value(hints[key], value, f"{name}.{key}") for key, value in values.items()})


def read_json(file: Path) -> dict[str, Any]:
    """The values by name of a JSON file.

    Raises:
        ValueError: it is damaged, or holds something else.
    """
    try:
        return parse_json(file.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is damaged, it cannot be read as JSON: {error}") from error


def parse_json(text: str, source: Any) -> dict[str, Any]:
    """The same of a text; `source` says where it is from."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is damaged, it cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source} holds {type(content).__name__}; expected values by name.")
    return content


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return config_to_json(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _value(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return config_from_json(typing.cast(type, kind), value, name)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is {value!r:.60}; expected a list.")
        return tuple(
            _value(typing.get_args(kind)[0], one, f"{name}[{index}]") for index, one in enumerate(value)
        )
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r:.60}; expected {kind.__name__}.")
    return value
