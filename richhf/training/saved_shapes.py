"""The shapes in a checkpoint, and whether they are those of a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from richhf.training.iterator_checkpoint import MismatchError


def saved_shapes(folder: Path) -> Any:
    """The shapes of one item of a checkpoint, as a tree of objects with `shape`."""
    return ocp.StandardCheckpointHandler().metadata(folder).tree


def check_same(found: Any, expected: Any, source: str) -> None:
    """Raises MismatchError where two trees of arrays, or of their shapes, differ; all differences are listed.

    Args:
      found: what is in source; None stands for what need not be there.
      expected: the model's, or its optimizer's.
      source: where found is from, for the message.
    """
    found, expected = _named_shapes(found, is_leaf=lambda x: x is None), _named_shapes(expected)
    problems = [f"missing there: {name} {expected[name]}" for name in expected if name not in found]
    problems += [
        f"not in the model: {name} {shape}"
        for name, shape in found.items()
        if shape is not None and name not in expected
    ]
    problems += [
        f"of shape {found[name]}, the model's is {expected[name]}: {name}"
        for name in expected
        if name in found and found[name] not in (None, expected[name])
    ]
    if problems:
        listed = "\n  ".join(
            problems[:12] + ([f"... and {len(problems) - 12} more"] if len(problems) > 12 else [])
        )
        raise MismatchError(
            f"{source} does not fit this model ({len(problems)} differences):\n  {listed}\n"
            "Use the gin model file (and the OPTIMIZER) it was trained with, or a new MODEL_DIR."
        )


def _named_shapes(
    tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> dict[str, tuple[int, ...] | None]:
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf)[0]
    names = ["/".join(_key_name(key) for key in path) for path, _ in leaves]
    shapes = [None if leaf is None else tuple(leaf.shape) for _, leaf in leaves]
    return dict(zip(names, shapes, strict=True))


def _key_name(key: Any) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)
