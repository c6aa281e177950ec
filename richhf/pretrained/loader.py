"""The strict loader: arrays of another make into a model's parameters by a table, and out.

Strict both ways: what the model has and the source lacks, what the source has and nobody takes, and what has
another shape are errors, listed together. Exceptions are a table's explicit ones, and are told.
"""

import dataclasses
import functools
import re
from collections.abc import Container, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from flax.core import meta

from richhf.models.model import RichFeedbackModel
from richhf.models.rahf import RAHFConfig
from richhf.models.stack import stack_layers, unstack_layers
from richhf.pretrained.rules import Rule, Table, reason


class WeightsError(ValueError):
    """Weights that do not fit the model or the table."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """What came of an import.

    Attributes:
        params: arrays by path, the layers of a stack one by one.
        notes: what was not simply taken over: left out, begun afresh, resampled.
    """

    params: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


@functools.cache
def initial_shapes(config: RAHFConfig) -> dict[str, Any]:
    """Shapes and dtypes of a network's parameters: nested dicts, laid out as the network takes them."""
    side = config.vit.image_size
    shapes = {"image": (1, side, side, 3), "encoder_input_tokens": (1, config.rows, 2)}
    made = jax.eval_shape(
        lambda key: RichFeedbackModel(config).get_initial_variables(key, shapes), jax.random.key(0)
    )
    return meta.unbox(made["params"])


def flat_shapes(params: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a model's parameters by path, boxed or not, the layers of a stack one by one.

    Args:
        params: nested dicts of arrays or of shapes.
    """
    unstacked = jax.eval_shape(unstack_layers, meta.unbox(params))
    return traverse_util.flatten_dict(unstacked, sep="/")


def nest(params: Mapping[str, Any], like: Any) -> Any:
    """Parameters by path as nested dicts, their layers stacked where those of another tree are.

    Args:
        params: arrays by path, one by one.
        like: nested dicts.
    """
    nested = traverse_util.unflatten_dict(dict(params), sep="/")
    stacked = any(part in ("blocks", "layers") for path in traverse_util.flatten_dict(like) for part in path)
    return jax.tree.map(np.asarray, stack_layers(nested)) if stacked else nested


def import_params(
    table: Table,
    source: Mapping[str, np.ndarray],
    target: Mapping[str, jax.ShapeDtypeStruct],
    origin: str,
    not_wanted: Container[str] = (),
) -> Imported:
    """Parameters from arrays of another make.

    Args:
        table: its rules.
        source: arrays by name.
        target: shapes and dtypes by path (`flat_shapes`), of the parts that the table covers.
        origin: what the source is called in errors.
        not_wanted: paths that the source may have arrays for and that are left as they are.

    Returns:
        the parameters, in the dtypes of the target.

    Raises:
        WeightsError: what is missing, not used or of another shape, all of it.
    """
    names = _without_prefix(source, table.prefix, origin)
    problems: list[str] = []
    notes: list[str] = []
    params: dict[str, np.ndarray] = {}
    for path, wanted in target.items():
        rules = [(name, rule) for rule in table.rules if (name := rule.source_of(path))]
        found = [(name, rule) for name, rule in rules if name in names]
        why = reason(path, table.fresh)
        if found:
            value = _convert(found, {name: source[names[name]] for name, _ in found}, path, wanted, problems)
            if value is not None:
                params[path] = value
                _note_positions(notes, path, source[names[found[0][0]]], value)
        elif why:
            notes.append(f"{path} starts fresh: {why}")
        else:
            expected = " or ".join(dict.fromkeys(name for name, _ in rules)) or "no rule of the table"
            problems.append(f"missing: {expected} (for {path} {tuple(wanted.shape)})")
    for name in names:
        places = [place for rule in table.rules if (place := rule.target_of(name))]
        if any(place in target or place in not_wanted for place in places):
            continue
        exception = "never used" if name in table.unused else reason(name, table.left_out)
        if exception is None:
            problems.append(f"not used: {name} {tuple(source[names[name]].shape)}")
        else:
            notes.append(f"{name} left out: {exception}")
    _raise_all(problems, f"{origin} ({table.name})", "does not fit this model")
    return Imported(params, tuple(notes))


def export_params(table: Table, params: Mapping[str, np.ndarray], origin: str) -> dict[str, np.ndarray]:
    """The way back of `import_params`: arrays by the names of another make.

    Args:
        table: its rules.
        params: arrays by path, one by one.
        origin: what the parameters are called in errors.

    Raises:
        WeightsError: parameters that the format has no place for.
    """
    problems, result = [], {}
    for path, value in params.items():
        rules = [(name, rule) for rule in table.rules if rule.written and (name := rule.source_of(path))]
        for name, rule in rules:
            if rule.transform.outward is None:
                problems.append(f"no way out: {path} ({rule.transform.name})")
            else:
                result[name] = np.ascontiguousarray(rule.transform.outward(np.asarray(value)))
        if not rules:
            problems.append(f"no place for: {path} {np.shape(value)}")
    _raise_all(problems, origin, f"cannot be written as {table.name}")
    kind = next(iter(result.values())).dtype if result else np.float32
    return result | {name: np.zeros(shape, kind) for name, shape in table.unused.items()}


def _convert(
    found: list[tuple[str, Rule]],
    arrays: Mapping[str, np.ndarray],
    path: str,
    wanted: jax.ShapeDtypeStruct,
    problems: list[str],
) -> np.ndarray | None:
    """The array for a path, or None and the problem told."""
    first, rule = found[0]
    array = arrays[first]
    if not jax.dtypes.issubdtype(array.dtype, np.floating):
        problems.append(f"wrong type: {first} is {array.dtype}; expected floating-point numbers")
        return None
    for name, _ in found[1:]:
        if not np.array_equal(arrays[name], array):
            problems.append(f"not equal: {first} and {name}, which are one array in this model ({path})")
            return None
    try:
        value = rule.transform.inward(array, tuple(wanted.shape))
    except ValueError as error:
        problems.append(f"wrong shape: {first} {array.shape} for {path} {tuple(wanted.shape)}: {error}")
        return None
    if value.shape != tuple(wanted.shape):
        made = "" if value.shape == array.shape else f", {rule.transform.name} {value.shape}"
        problems.append(f"wrong shape: {first} {array.shape}{made}; {path} has {tuple(wanted.shape)}")
        return None
    with np.errstate(over="ignore"):
        value = value.astype(wanted.dtype)
    if not np.isfinite(value).all():
        problems.append(f"not finite: {first} has NaN or infinite numbers as {wanted.dtype}")
        return None
    return value


def _note_positions(notes: list[str], path: str, before: np.ndarray, after: np.ndarray) -> None:
    if not path.endswith("position_embedding"):
        return
    rows = before.shape[-2]
    if rows != len(after):
        notes.append(f"{path}: {rows} positions made {len(after)} (resampled, or a class token's dropped)")


def _without_prefix(source: Mapping[str, Any], prefix: str, origin: str) -> dict[str, str]:
    """The source's names by what they are without the prefix that a format may have."""
    names: dict[str, str] = {}
    for name in source:
        short = re.sub(f"^(?:{prefix})", "", name) if prefix else name
        if short in names:
            raise WeightsError(f"{origin} has {names[short]} and {name}, which would both be {short}.")
        names[short] = name
    return names


def _raise_all(problems: list[str], origin: str, what: str) -> None:
    if not problems:
        return
    counts: dict[str, int] = {}
    for problem in problems:
        kind = problem.partition(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    listed = "\n  ".join(problems)
    raise WeightsError(
        f"{origin} {what} ({len(problems)} problems: {summary}). Check that the format and the model's sizes "
        f"are those of the weights.\n  {listed}"
    )
