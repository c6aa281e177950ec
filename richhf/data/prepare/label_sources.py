"""Where labels come from: RichHF-18K's own files, or a mirror that holds them beside the images."""

import abc
import pathlib
import re
from typing import Any

import tqdm

from richhf.atomic import atomic_path
from richhf.data.checks import RecordError
from richhf.data.dataset_info import sha256
from richhf.data.examples import read_examples, serialize_features
from richhf.data.framing import FRAME, HEAD
from richhf.data.prepare import files
from richhf.data.prepare.labels import Label, Labels
from richhf.data.prepare.mirror import Mirror
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.feedback import SPLITS

_RECORD_FILE = re.compile(r"\.tfrecords?($|[-_.])")


class LabelSource(abc.ABC):
    """Labels, record by record.

    Attributes:
        root: the folder.
        by_split: its files, in order.
    """

    root: pathlib.Path
    by_split: dict[str, list[str]]

    def describe(self) -> dict[str, Any]:
        """Which files these are, as JSON values."""
        return files.describe_files(self.root, [name for names in self.by_split.values() for name in names])

    @abc.abstractmethod
    def read(self, store: pathlib.Path, note: Note) -> Labels:
        """Reads and checks all records.

        Args:
            store: a file for labels that are in no record file yet.
            note: told of each problem.
        """


class RecordFiles(LabelSource):
    """RichHF-18K's files: `train.tfrecord` or `train-*.tfrecord*`; dev may be called validation."""

    def __init__(self, root: pathlib.Path):
        """Finds the files.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if it holds none, or mere pointers of Git LFS.
        """
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise FileNotFoundError(f"{root} {what}; expected the folder of RichHF-18K's train.tfrecord")
        names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        self.root, self.by_split = root, {split: [] for split in SPLITS}
        for name in names:
            split = files.split_of(name)
            if split is not None and _RECORD_FILE.search(name) and (root / name).is_file():
                self.by_split[split].append(name)
        if not any(self.by_split.values()):
            more = ", ..." if len(names) > 8 else ""
            there = f"it holds {', '.join(names[:8])}{more}" if names else "it is empty"
            raise ValueError(f"no train.tfrecord, dev.tfrecord or test.tfrecord in {root}; {there}")
        for found in self.by_split.values():
            files.refuse_pointers(root, found)

    def describe(self) -> dict[str, Any]:
        """See `LabelSource`; with a checksum for each file, which are small beside the images."""
        names = [name for names in self.by_split.values() for name in names]
        return super().describe() | {"sha256": {name: sha256(self.root / name) for name in names}}

    def read(self, store: pathlib.Path, note: Note) -> Labels:
        """See `LabelSource`; the rest of a damaged file is lost."""
        labels, size = Labels(note), super().describe()["bytes"]
        with tqdm.tqdm(desc="labels", total=size, unit="B", unit_scale=True, disable=None) as bar:
            for split, names in self.by_split.items():
                for name in names:
                    self._read_file(labels, split, name, note, bar)
        return labels

    def _read_file(self, labels: Labels, split: str, name: str, note: Note, bar: tqdm.tqdm) -> None:
        def damaged(error: RecordError) -> None:
            detail = f"found {error.found}, all from it on is lost; expected {error.expected}"
            note(Problem(Kind.DAMAGED_FILE, name, error.index, detail))

        path, offset = self.root / name, 0
        for index, serialized in enumerate(read_examples(str(path), damaged)):
            place = (path, offset + HEAD, len(serialized))
            labels.add(Label(split, name, index, *place), serialized)
            offset += len(serialized) + FRAME
            bar.update(len(serialized) + FRAME)


class MirrorLabels(LabelSource):
    """The labels of a mirror, by splits that the names of its files or folders tell."""

    def __init__(self, mirror: Mirror):
        """Sorts the mirror's files by split.

        Raises:
            ValueError: if it has no labels, or a file's split cannot be told.
        """
        self._mirror = mirror
        self.root, self.by_split = mirror.root, mirror.label_files()

    def read(self, store: pathlib.Path, note: Note) -> Labels:
        """See `LabelSource`; `store` will hold them all, serialized."""
        labels, offset = Labels(note), 0
        with (
            tqdm.tqdm(desc="labels", unit=" rows", disable=None) as bar,
            atomic_path(store) as temporary,
            temporary.open("wb") as file,
        ):
            for split, names in self.by_split.items():
                for name in names:
                    for row, features in self._mirror.read_labels(name, note):
                        bar.update()
                        if isinstance(features, Problem):
                            labels.leave_out(split, features)
                            continue
                        serialized = serialize_features(features)
                        labels.add(Label(split, name, row, store, offset, len(serialized)), serialized)
                        offset += file.write(serialized)
        return labels
