"""JSON Lines: one object a line."""

import json
from collections.abc import Iterator
from typing import Any

from richhf.data.readers.encoding import LINE_BREAK


class _RepeatedKey(ValueError):
    pass


def split_objects(text: str) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
    """Parses a file's lines. Blank lines are left out.

    Yields:
        the line's number from 1, its object or None, and what is wrong with the line or "".
    """
    for line, content in enumerate(LINE_BREAK.split(text), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content, object_pairs_hook=_object)
        except _RepeatedKey as error:
            yield line, None, f"found the key {error.args[0]!r:.80} twice in one object"
        except (ValueError, RecursionError) as error:
            why = getattr(error, "msg", None) or "it cannot be parsed"
            yield line, None, f"found {content.strip()!r:.80}, which is not JSON ({why})"
        else:
            if isinstance(value, dict):
                yield line, value, ""
            else:
                yield line, None, f"found {content.strip()!r:.80}; expected a JSON object"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise _RepeatedKey(key)
        value[key] = item
    return value
