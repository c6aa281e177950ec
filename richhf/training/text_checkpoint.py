"""Small text files as an item of an Orbax checkpoint, committed with the parameters."""

import dataclasses
from collections.abc import Mapping

import jax
import orbax.checkpoint as ocp
from etils import epath


class TextCheckpointHandler(ocp.CheckpointHandler):
    """Writes text files under their names; they are read as the files they are."""

    def save(self, directory: epath.Path, args: "TextSave"):
        """Writes args.files under directory, from the first process."""
        if jax.process_index() == 0:
            for name, text in args.files.items():
                (directory / name).write_text(text)

    def restore(self, directory: epath.Path, args: "TextRestore"):
        """The text of args.names under directory, by name.

        Raises:
          FileNotFoundError: one is not there.
        """
        return {name: (directory / name).read_text() for name in args.names}


@ocp.args.register_with_handler(TextCheckpointHandler, for_save=True)
@dataclasses.dataclass
class TextSave(ocp.args.CheckpointArgs):
    """What to save: text by file name, `files`."""

    files: Mapping[str, str]


@ocp.args.register_with_handler(TextCheckpointHandler, for_restore=True)
@dataclasses.dataclass
class TextRestore(ocp.args.CheckpointArgs):
    """What to restore: the files called `names`."""

    names: tuple[str, ...]
