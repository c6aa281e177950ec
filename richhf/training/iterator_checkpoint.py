"""The input iterator's position as an item of an Orbax checkpoint, committed with the parameters."""

import dataclasses
import json
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

POSITION = "position.json"


class IteratorCheckpointHandler(ocp.CheckpointHandler):
    """Writes and reads iterators that have `save(filename)` and `restore(filename)`.

    A position is the same on all processes: the first one writes it, any number of them goes on from it.
    Saving is synchronous: an asynchronous one would record the position of a later batch.
    """

    def save(self, directory: epath.Path, args: "IteratorSave"):
        """Writes args.iterator's position under directory."""
        if jax.process_index() == 0:
            args.iterator.save(directory / POSITION)

    def restore(self, directory: epath.Path, args: "IteratorRestore"):
        """Moves args.iterator to the position saved under directory.

        Raises:
          MismatchError: it is not of this input: a ValueError of the iterator's `restore`.
          FileNotFoundError: there is none.
        """
        try:
            args.iterator.restore(directory / POSITION)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise
        except ValueError as error:
            raise MismatchError(str(error)) from error
        return args.iterator


class MismatchError(ValueError):
    """A checkpoint is sound, but not of this model or these settings."""


@ocp.args.register_with_handler(IteratorCheckpointHandler, for_save=True)
@dataclasses.dataclass
class IteratorSave(ocp.args.CheckpointArgs):
    """What to save: `iterator`, at its present position."""

    iterator: Any


@ocp.args.register_with_handler(IteratorCheckpointHandler, for_restore=True)
@dataclasses.dataclass
class IteratorRestore(ocp.args.CheckpointArgs):
    """What to restore into: `iterator`."""

    iterator: Any
