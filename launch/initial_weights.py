"""What a new run starts from: weights of any make, one source or several, each for the parts it covers."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from launch.checkpoint_source import find_weights, read_weights, run_folder
from launch.data_fit import VOCABULARY_FILE
from richhf.models import RichFeedbackModel, parameter_parts
from richhf.models.choices import check_choice
from richhf.pretrained import WeightFile, flat_shapes, import_weights, initial_shapes, nest
from richhf.pretrained import read_weights as read_file
from richhf.pretrained.formats import RICHHF, find_format, part_of
from richhf.pretrained.weight_files import FILES

VOCABULARIES = (VOCABULARY_FILE, "spiece.model", "tokenizer.json")
"""The file of a vocabulary beside weights: ours, then Hugging Face's. The first that exists counts."""

Given = str | Sequence[str] | Mapping[str, str]


class InitialWeights:
    """The parameters of INITIAL_CHECKPOINT_PATH, read and checked against a model.

    Attributes:
      paths: what was read, in order.
      fresh: the parts of the network that no source covers.
      fresh_sizes: how many parameters start fresh, by part of the network; parts without any are left out.
      lines: what comes from where, for people.
    """

    def __init__(self, given: Given, model: RichFeedbackModel):
        """Reads all sources.

        Args:
          given: a path, several, or a path for each part: a run of ours or of T5X, a native model folder, or
            a file or folder of weights of another make (`richhf.pretrained.FORMATS`).
          model: what is to be trained.

        Raises:
          ValueError: nothing is there, or of no known format; it does not fit the model; two sources cover
            one part.
        """
        self._shapes = initial_shapes(model.config)
        target = flat_shapes(self._shapes)
        parts = list(parameter_parts(self._shapes))
        self.paths: list[Path] = []
        self._params: dict[str, np.ndarray] = {}
        origin: dict[str, str] = {}
        notes: list[str] = []
        sources = _sources(given)
        for part, _ in sources:
            if part:
                check_choice("a part in INITIAL_CHECKPOINT_PATH", part, parts)
        for part, path in sources:
            file, whole = _read_source(path)
            found = find_format(file)
            wanted = [part] if part else parts if whole and found.name == RICHHF else None
            imported = import_weights(file, model.config, target, parts=wanted)
            covered = {part_of(name) for name in imported.params}
            twice = [name for name in covered if name in origin]
            if twice:
                raise ValueError(
                    f"INITIAL_CHECKPOINT_PATH has {twice[0]} twice, in {origin[twice[0]]} and in "
                    f"{file.path}; say which counts: {{'{twice[0]}': '{path}', ...}}."
                )
            self._params |= imported.params
            origin |= dict.fromkeys(covered, f"{file.path} ({found.what})")
            notes += imported.notes
            self.paths.append(file.path)
        self.fresh = tuple(part for part in parts if part not in origin)
        self.fresh_sizes = part_sizes({path: x for path, x in target.items() if path not in self._params})
        self.lines = tuple(self._describe(parts, target, origin)) + tuple(f"  {note}" for note in notes)

    def take(self) -> dict[str, Any]:
        """The parameters as the model has them, None where they start fresh; they are kept no longer here."""
        given = traverse_util.flatten_dict(nest(self._params, self._shapes))
        self._params = {}
        return traverse_util.unflatten_dict(
            {path: given.get(path) for path in traverse_util.flatten_dict(self._shapes)}
        )

    def _describe(
        self, parts: Sequence[str], target: Mapping[str, Any], origin: Mapping[str, str]
    ) -> Iterator[str]:
        yield "initial parameters:"
        sizes = part_sizes(target)
        for part in parts:
            size, fresh = sizes[part], self.fresh_sizes.get(part, 0)
            where = origin.get(part, "fresh")
            some = f"; {fresh:,} of them fresh" if part in origin and fresh else ""
            yield f"  {part:<24}{size / 1e6:>9.2f} M  {where}{some}"


def part_sizes(target: Mapping[str, Any]) -> dict[str, int]:
    """Returns the number of parameters by part of the network, of shapes by path."""
    sizes: dict[str, int] = {}
    for path, leaf in target.items():
        sizes[part_of(path)] = sizes.get(part_of(path), 0) + leaf.size
    return sizes


def model_sizes(model: RichFeedbackModel) -> dict[str, int]:
    """Returns the number of parameters by part of a model."""
    return part_sizes(flat_shapes(initial_shapes(model.config)))


def fresh_line(model: RichFeedbackModel, fresh_sizes: Mapping[str, int]) -> str:
    """Returns how many parameters of how many start fresh, in words, by part."""
    total, fresh = sum(model_sizes(model).values()), sum(fresh_sizes.values())
    parts = ", ".join(f"{part} {_millions(size)}" for part, size in fresh_sizes.items())
    return f"{_millions(fresh)} of {_millions(total)} parameters start fresh" + (
        f" ({parts})" if parts else ""
    )


def fresh_warning(model: RichFeedbackModel) -> str:
    """Returns a warning for fine-tuning without anything to start from."""
    return (
        f"warning: all {_millions(sum(model_sizes(model).values()))} parameters start fresh, but this run is "
        "made for pretrained ones: give INITIAL_CHECKPOINT_PATH (README, RichHF-18K, names the files)"
    )


def _millions(size: int) -> str:
    return f"{size / 1e6:.2f} M"


def _sources(given: Given) -> list[tuple[str | None, str]]:
    """Parts and paths; a path without a part is for all that it covers."""
    if isinstance(given, str | os.PathLike):
        return [(None, os.fspath(given))]
    if isinstance(given, Mapping):
        pairs: list[tuple[str | None, str]] = list(given.items())
    else:
        pairs = [(None, path) for path in given]
    wrong = [path for _, path in pairs if not isinstance(path, str)]
    if wrong or not pairs:
        raise ValueError(
            f"INITIAL_CHECKPOINT_PATH is {given!r}; expected a path, several, or paths by part, such as "
            "{'vit': 'vit.npz', 't5': 't5-base'}."
        )
    return pairs


def find_vocabularies(given: Given) -> list[Path]:
    """Returns the vocabularies that the sources of a text model were trained with, where they keep one."""
    found = []
    for part, path in _sources(given):
        there = Path(path) if _is_foreign(Path(path)) else run_folder(_find_run(path))
        there = there.parent if there.is_file() else there
        files = (there / name for name in VOCABULARIES)
        found += [file for file in files if part in (None, "t5") and file.is_file()][:1]
    return found


def _is_foreign(path: Path) -> bool:
    """Whether a path is a file or folder of weights, not a run."""
    return path.is_file() or any((path / name).is_file() for name in FILES)


def _read_source(path: str) -> tuple[WeightFile, bool]:
    """The arrays of a path, and whether they are those of a whole run."""
    if _is_foreign(Path(path)):
        return read_file(path), False
    folder = _find_run(path)
    return WeightFile(folder, traverse_util.flatten_dict(read_weights(folder), sep="/")), True


def _find_run(path: str) -> Path:
    there = Path(path)
    try:
        return find_weights(there)
    except ValueError as error:
        found = sorted(one.name for one in there.iterdir())[:8] if there.is_dir() else ()
        holds = f" The folder holds {', '.join(found) or 'nothing'}." if there.is_dir() else ""
        raise ValueError(
            f"{error}{holds} Or give weights of another make: a folder with one of {', '.join(FILES)}, or a "
            ".safetensors, .npz, .bin, .pt or .pth file."
        ) from error
