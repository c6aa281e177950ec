"""Checks of what gin's files and flags give: the type and range of every value, before a job starts.

An error names the macro that holds the wrong value (`TRAIN_STEPS`), or the parameter where there is no macro
(`ViTConfig.depth`).
"""

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gin
from launch.gin_config import ConfigError, is_required, macros, near
from richhf.models import RichFeedbackModel
from richhf.models.choices import check_choice
from richhf.models.rahf import BLOCKS, NO_REMAT

MACRO = "gin.macro"
UNCHECKED = object()
TYPES = {"MODEL": RichFeedbackModel | None}
"""Of macros whose parameters take anything."""
LEAST = {
    **dict.fromkeys(
        (
            *("TRAIN_STEPS", "BATCH_SIZE", "EVAL_BATCH_SIZE", "EVAL_EXAMPLES", "NUM_EXAMPLES"),
            *(
                "CHECKPOINT_PERIOD",
                "KEEP_CHECKPOINTS",
                "MAX_NONFINITE_STEPS",
                "NUM_MICROBATCHES",
                "SHARD_SIZE",
            ),
            *("MAX_PIXELS", "WORKERS", "NUM_IMAGES", "NUM_STEPS", "IMAGE_SIZE", "HEATMAP_SIZE"),
            *("PROMPT_LENGTH", "KEYWORD_LENGTH", "TASK_FEATURE_LENGTHS", "EVAL_TASK_FEATURE_LENGTHS"),
        ),
        1,
    ),
    **dict.fromkeys(
        (
            *("EVAL_PERIOD", "KEEP_BEST", "WARMUP_STEPS", "LEARNING_RATE", "EMA_DECAY", "SEED", "RATES"),
            *("CHECKPOINT_STEP", "FOLLOW_TIMEOUT", "CORRUPTION_RATE", "CORRUPT_UNTIL_EXAMPLE"),
            *("COPY_UNTIL_EXAMPLE",),
        ),
        0,
    ),
}
"""The least value of each macro that holds numbers."""
CHOICES = {"BEST_MODE": ("min", "max"), "REMAT": (NO_REMAT, BLOCKS)}
"""The values of each macro that holds one of a few names."""
MOST = {"EMA_DECAY": 1, "CORRUPTION_RATE": 1}


def check_values(parameters: Mapping[str, Callable[..., Any]], unread: Sequence[str] = ()) -> None:
    """Checks all values that gin would give to parameters.

    Args:
      parameters: what gin files may configure, by module-qualified name.
      unread: names of macros that the command never reads, which may be None.

    Raises:
      ConfigError: a value of another type than its parameter takes, or out of range; with the near miss.
    """
    for (_, selector), bindings in sorted(gin.config._CONFIG.items()):
        target = parameters.get(selector)
        if target is None:
            continue
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
        for parameter, value in bindings.items():
            name = f"{selector.rpartition('.')[2]}.{parameter}"
            if _resolve(value, name)[0] is not None or _resolve(value, name)[1] not in unread:
                _check(value, hints.get(parameter, Any), name, parameters)


def fit_warmup(note: Callable[[str], None]) -> None:
    """Shortens a warm-up that is longer than training, and notes it.

    Args:
      note: prints a line.
    """
    values = macros()
    steps, warmup, factors = (values.get(name) for name in ("TRAIN_STEPS", "WARMUP_STEPS", "LR_FACTORS"))
    if not isinstance(steps, int) or not isinstance(warmup, int) or "_decay" not in str(factors):
        return
    # Decays by a square root have no end.
    if warmup < steps or not any(f"{kind}_decay" in str(factors) for kind in ("linear", "cosine")):
        return
    shorter = max(steps - 1, 1)
    with gin.unlock_config():
        gin.bind_parameter("WARMUP_STEPS/macro.value", shorter)
        gin.bind_parameter("utils.create_learning_rate_scheduler.decay_steps", shorter + 1)
    note(
        f"WARMUP_STEPS is {warmup}, but training has TRAIN_STEPS = {steps} steps: the learning rate warms up "
        f"for {shorter}."
    )


def _check(value: Any, hint: Any, name: str, parameters: Mapping[str, Callable[..., Any]]) -> None:
    value, name = _resolve(value, name)
    hint = TYPES.get(name, hint)
    if is_required(value) or value is UNCHECKED:
        return
    if not _fits(value, hint, parameters):
        raise ConfigError(
            f"{name} is {_shown(value)}; expected {_described(hint, parameters)}."
            f"{_near_reference(value, hint, parameters)}"
        )
    for element, element_hint in _elements(value, hint):
        _check(element, element_hint, name, parameters)
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_range(value, name)
    if name in CHOICES:
        check_choice(name, value, CHOICES[name])


def _resolve(value: Any, name: str) -> tuple[Any, str]:
    """The value behind macros, and the name of the last one."""
    while isinstance(value, gin.config.ConfigurableReference) and value.selector == MACRO:
        if is_required(value) or "/".join(value.scopes) not in macros():
            return UNCHECKED, name
        name = "/".join(value.scopes)
        value = macros()[name]
    return value, name


def _check_range(value: float, name: str) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{name} is {value}; expected a finite number.")
    if name in LEAST and value < LEAST[name]:
        raise ConfigError(f"{name} is {value}; expected at least {LEAST[name]}.")
    if name in MOST and value > MOST[name]:
        raise ConfigError(f"{name} is {value}; expected at most {MOST[name]}.")


def _fits(value: Any, hint: Any, parameters: Mapping[str, Callable[..., Any]]) -> bool:
    """Whether a value may be given for a type hint; elements of containers are not looked at."""
    origin = typing.get_origin(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, member, parameters) for member in typing.get_args(hint))
    if isinstance(value, gin.config.ConfigurableReference):
        return _refers_to(value, hint, parameters)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin or hint
    if kind is tuple:
        return isinstance(value, list | tuple) and _length_fits(value, hint)
    if kind is collections.abc.Sequence:
        return isinstance(value, list | tuple)
    if kind is collections.abc.Callable:
        return callable(value)
    return isinstance(value, kind) if isinstance(kind, type) else True


def _length_fits(value: Any, hint: Any) -> bool:
    members = typing.get_args(hint)
    return not members or Ellipsis in members or len(value) == len(members)


def _refers_to(value: Any, hint: Any, parameters: Mapping[str, Callable[..., Any]]) -> bool:
    """Whether `@name` or `@name()` may stand for a value of a type."""
    kind = typing.get_origin(hint) or hint
    if not value.evaluate:
        return kind is collections.abc.Callable
    target = parameters.get(value.selector)
    if target is None:
        return True
    result = _result(target)
    if kind in (int, float, str, bool, type(None)) or (isinstance(kind, type) and isinstance(result, type)):
        return isinstance(result, type) and isinstance(kind, type) and issubclass(result, kind)
    return (typing.get_origin(result) or result) is kind


def _result(target: Callable[..., Any]) -> Any:
    """What a call gives: a class itself, of a function the type that it returns."""
    return target if inspect.isclass(target) else typing.get_type_hints(target).get("return", Any)


def _elements(value: Any, hint: Any) -> Iterator[tuple[Any, Any]]:
    """The elements of a container, each with its type hint."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        fitting = [member for member in typing.get_args(hint) if _fits(value, member, {})]
        hint = fitting[0] if len(fitting) == 1 else Any
    members = typing.get_args(hint)
    if isinstance(value, Mapping):
        for key, element in value.items():
            yield key, members[0] if members else Any
            yield element, members[1] if members else Any
    elif isinstance(value, list | tuple):
        fixed = len(members) == len(value) and Ellipsis not in members and typing.get_origin(hint) is tuple
        for number, element in enumerate(value):
            yield element, members[number] if fixed else members[0] if members else Any


def _shown(value: Any) -> str:
    if isinstance(value, gin.config.ConfigurableReference):
        return f"@{value.scoped_selector}{'()' if value.evaluate else ''}"
    return repr(value)


def _described(hint: Any, parameters: Mapping[str, Callable[..., Any]]) -> str:
    """A type hint in words."""
    names = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
    kind, members = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_described(member, parameters) for member in members))
    if kind in names:
        return names[kind]
    if kind is type(None):
        return "None"
    if kind in (tuple, collections.abc.Sequence):
        inner = list(dict.fromkeys(_described(member, {}) for member in members if member is not Ellipsis))
        length = f" of {len(members)}" if kind is tuple and Ellipsis not in members else ""
        return f"a tuple{length} (each {' or '.join(inner)})" if inner else "a tuple"
    if kind is collections.abc.Mapping:
        return f"a mapping {{name: {_described(members[1], {})}}}" if members else "a mapping"
    if kind is collections.abc.Callable:
        return "a reference such as @module.function"
    references = _references(hint, parameters)
    return " or ".join(references) or f"a value of type {getattr(kind, '__name__', kind)}"


def _references(hint: Any, parameters: Mapping[str, Callable[..., Any]]) -> list[str]:
    """What gin can call for a value of a class, as `@module.name()`."""
    if not isinstance(hint, type):
        return []
    results = {name: _result(target) for name, target in parameters.items()}
    return [
        f"@{name}()"
        for name, result in results.items()
        if isinstance(result, type) and issubclass(result, hint)
    ]


def _near_reference(value: Any, hint: Any, parameters: Mapping[str, Callable[..., Any]]) -> str:
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    known = {
        ref.rpartition(".")[2].removesuffix("()"): ref for m in members for ref in _references(m, parameters)
    }
    if not isinstance(value, str) or not known:
        return ""
    close = {short.lower(): ref for short, ref in known.items()}
    matches = near(value.rpartition(".")[2].removesuffix("()"), close)
    return f" Did you mean {close[matches.split(chr(39))[1]]}?" if matches else ""
