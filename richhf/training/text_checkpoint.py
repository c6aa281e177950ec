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
        """The text of the files under directory, by name."""
        del args
        return {path.name: path.read_text() for path in directory.iterdir()}


@ocp.args.register_with_handler(TextCheckpointHandler, for_save=True)
@dataclasses.dataclass
class TextSave(ocp.args.CheckpointArgs):
    """What to save: text by file name, `files`."""

    files: Mapping[str, str]


@ocp.args.register_with_handler(TextCheckpointHandler, for_restore=True)
@dataclasses.dataclass
class TextRestore(ocp.args.CheckpointArgs):
    """What to restore: all of them."""
