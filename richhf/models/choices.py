"""Configuration values that must be one of a few names."""

import difflib
from collections.abc import Sequence

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
