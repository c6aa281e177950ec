"""How an image is named in a file: by its uid, or by a path whose last part is the uid."""

import pathlib

from richhf.data.prepare.images import SUFFIXES


def to_uid(name: object) -> str:
    """Returns the uid of `train/<uid>.png`, `<uid>.jpg` or `<uid>`; "" if there is none.

    Args:
        name: what stands in a file: text, UTF-8 bytes, or a number.
    """
    if isinstance(name, bytes):
        name = name.decode(errors="replace")
    if name is None or isinstance(name, bool | float):
        return ""
    last = str(name).strip().replace("\\", "/").rsplit("/", 1)[-1]
    path = pathlib.PurePosixPath(last)
    return path.stem if path.suffix.lower() in SUFFIXES else last
