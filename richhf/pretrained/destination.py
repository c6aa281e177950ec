"""Where something is to be written: what cannot be is told before anything is read or computed."""

import os
from pathlib import Path


def check_writable(path: str | os.PathLike) -> None:
    """Raises ValueError unless a file or folder of that name can be made, with the folders above it."""
    parent = next(one for one in Path(path).resolve().parents if os.path.lexists(one))
    if not parent.is_dir():
        raise ValueError(f"{path} cannot be written, because {parent} is no folder; name another place.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(
            f"{path} cannot be written, because nothing may be written to {parent}; name another place, or "
            "change its permissions."
        )
