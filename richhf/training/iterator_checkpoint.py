"""The input iterator's position as an item of an Orbax checkpoint, committed with the parameters."""

import dataclasses
import re
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath


class IteratorCheckpointHandler(ocp.CheckpointHandler):
    """Writes and reads iterators that have `save(filename)` and `restore(filename)` (clu's DatasetIterator).

    Each process keeps its own position in `process-<index>-of-<count>`. Saving is synchronous: an
    asynchronous one would record the position of a later batch.
    """

    def save(self, directory: epath.Path, args: "IteratorSave"):
        """Writes args.iterator's position under directory."""
        args.iterator.save(directory / _file_name())

    def restore(self, directory: epath.Path, args: "IteratorRestore"):
        """Moves args.iterator to the position saved under directory.

        Raises:
          MismatchError: the checkpoint was written by another number of processes, or for other settings of
            the data.
          FileNotFoundError: this process's position is missing.
        """
        name = _file_name()
        if not any(directory.glob(f"{name}*")):
            found = sorted(path.name for path in directory.iterdir())
            counts = {int(match[1]) for match in map(_FILE_NAME.match, found) if match}
            if counts - {jax.process_count()}:
                raise MismatchError(
                    f"{directory} has the input positions of {max(counts)} process(es), this run has "
                    f"{jax.process_count()}: go on with as many processes as wrote it."
                )
            raise FileNotFoundError(f"{directory} has no input position {name!r}, found {found}.")
        try:
            args.iterator.restore(directory / name)
        except Exception as error:
            if "dataset definition" not in str(error):
                raise
            raise MismatchError(
                f"the input position in {directory} is of another input pipeline: a setting of the data (of "
                "its task, its corruption, its shuffling) differs from that run's. Set it as config.gin in "
                "the run's folder has it, or take a new MODEL_DIR."
            ) from error
        return args.iterator


class MismatchError(ValueError):
    """A checkpoint is sound, but not of this model, these settings or this number of processes."""


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


_FILE_NAME = re.compile(r"process-\d{5}-of-(\d{5})")


def _file_name() -> str:
    return f"process-{jax.process_index():05d}-of-{jax.process_count():05d}"
