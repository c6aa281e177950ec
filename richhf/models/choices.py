"""Configuration values that must be one of a few names, or numbers in a range."""

import difflib
import math
from collections.abc import Sequence
from typing import Any

ANY = "any"
CPU = "cpu"
PROCESSORS = (ANY, CPU)
"""What computation is optimized for: the function is the same, to rounding."""


def check_choice(field: str, value: str, options: Sequence[str]) -> None:
    """Raises a ValueError that names the near miss when `value` is not one of `options`."""
    if value in options:
        return
    near = difflib.get_close_matches(str(value), options, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{field} is {value!r}; expected one of {', '.join(map(repr, options))}.{hint}")


def check_range(config: Any, names: Sequence[str], least: int = 1, below: int | None = None) -> None:
    """Raises a ValueError that names the first of a dataclass's numbers, or of its tuples', out of range."""
    for name in names:
        value = getattr(config, name)
        for one in value if isinstance(value, tuple) else (value,):
            if not least <= one < (math.inf if below is None else below):
                expected = f"{least} or more" + (f" and below {below}" if below is not None else "")
                raise ValueError(f"{type(config).__name__}.{name} is {value!r:.60}; expected {expected}.")
