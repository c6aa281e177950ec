"""Which column of a table holds what: guessed from likely names, or given."""

import dataclasses
import difflib
from collections.abc import Sequence

LIKELY = {
    "uid": (
        *("uid", "image_uid", "image_id", "filename", "file_name", "image_filename", "image_name"),
        *("image_path", "key", "__key__", "id"),
    ),
    "image": ("image", "jpg", "jpeg", "png", "img", "picture", "image_bytes", "webp", "image_path", "path"),
    "prompt": ("prompt", "caption", "text", "txt", "prompt_text", "image_caption", "description"),
}
"""Names in use, the likeliest first."""


@dataclasses.dataclass(frozen=True)
class Overrides:
    """Columns named by the user; None where they are to be guessed."""

    uid: str | None = None
    image: str | None = None
    prompt: str | None = None

    def given(self) -> dict[str, str]:
        """Those that are given, by what they hold."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def find_column(
    what: str, there: Sequence[str], overrides: Overrides, where: str, setting: str = "--{}-column"
) -> str:
    """Finds the column of the uid, the image or the prompt.

    Args:
        what: `uid`, `image` or `prompt`.
        there: all columns.
        overrides: the user's choice.
        where: the file, for the error.
        setting: what names a column, for the error.

    Raises:
        ValueError: if the column given is not there, or none was given and no name is likely.
    """
    if (given := overrides.given().get(what)) is not None:
        if given not in there:
            raise ValueError(f"{where} has no column {given!r}{nearest(given, there)}")
        return given
    found = guess_column(what, there)
    if found is None:
        matches = (difflib.get_close_matches(name, there, n=1, cutoff=0.75) for name in LIKELY[what])
        near = next((f"the nearest is {found[0]!r}; " for found in matches if found), "")
        raise ValueError(
            f"no column of {where} looks like the {what} (there are: {', '.join(there)}); {near}"
            f"name it with {setting.format(what)}"
        )
    return found


def guess_column(what: str, there: Sequence[str]) -> str | None:
    """The likeliest column for `what`, in any letter case, if there is one."""
    by_name = {name.lower(): name for name in reversed(there)}
    return next((by_name[name] for name in LIKELY[what] if name in by_name), None)


def nearest(name: str, there: Sequence[str]) -> str:
    """How an error goes on after naming something that is not there."""
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return f"{suggestion} (there are: {', '.join(there)})"
