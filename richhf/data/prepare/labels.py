"""Labels: RichHF-18K's records, checked, by split and in the order of the files."""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Collection

from richhf.data import words
from richhf.data.checks import (
    HEATMAP_FEATURES,
    LABEL_FEATURE,
    SCORE_FEATURES,
    Checker,
    RecordError,
)
from richhf.data.examples import parse_features
from richhf.data.framing import read_content
from richhf.data.prepare.images import image_size
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.uids import to_uid
from richhf.feedback import SPLITS

MAP_SIZE = (512, 512)
FEATURES = {
    **dict.fromkeys(("filename", *HEATMAP_FEATURES.values(), LABEL_FEATURE), "bytes_list"),
    **dict.fromkeys(SCORE_FEATURES.values(), "float_list"),
}
"""The eight features of RichHF-18K and their kinds."""


@dataclasses.dataclass(frozen=True)
class Label:
    """A well-formed label record, and where its bytes are.

    Attributes:
        split: of `SPLITS`.
        file: where it comes from, relative to the folder of labels (or of the mirror).
        index: its position there.
        path: a file that holds it, serialized.
        offset: of its first byte there, in what the file holds uncompressed.
        length: in bytes.
        uid: of its image, once checked.
        labels: number of words labelled, once checked.
        checksum: of its bytes, once checked.
    """

    split: str
    file: str
    index: int
    path: pathlib.Path
    offset: int
    length: int
    uid: str = ""
    labels: int = 0
    checksum: str = ""

    def read(self) -> dict[str, bytes | float]:
        """Reads the eight features again, their bytes and floats as found."""
        serialized = read_content(self.path, self.offset, self.length)
        return feature_values(serialized, Checker(self.file, self.index))


def feature_values(serialized: bytes, check: Checker) -> dict[str, bytes | float]:
    """Takes the eight features out of a record.

    Raises:
        RecordError: if one is missing or of the wrong kind.
    """
    features = parse_features(serialized, check)
    return {name: check.value(features, name, kind) for name, kind in FEATURES.items()}


def check_label(serialized: bytes, label: Label) -> Label | Problem:
    """Checks a record of labels as `richhf.data.records.example_to_record` does, and more.

    Args:
        serialized: the record.
        label: where it is.

    Returns:
        the label with `uid`, `labels` and `checksum`, or the first thing that is wrong with it.
    """
    check, uid, kind = Checker(label.file, label.index), "", Kind.RECORD
    try:
        features = parse_features(serialized, check)
        if missing := [name for name in FEATURES if name not in features]:
            kind = Kind.MISSING_FEATURE
            check.value(features, missing[0], FEATURES[missing[0]])
        uid = to_uid(check.text(features, "filename"))
        if not uid:
            raise check.error("filename", "no name", "<uid>.png")
        kind = Kind.SCORE
        for name in SCORE_FEATURES.values():
            check.score(name, check.value(features, name, "float_list"))
        kind = Kind.LABELS
        labels = words.parse_labels(check.text(features, LABEL_FEATURE))
        for name in HEATMAP_FEATURES.values():
            kind, encoded = Kind.MAP, check.value(features, name, "bytes_list")
            if (size := image_size(encoded)) not in (None, MAP_SIZE):
                kind = Kind.MAP_SIZE
                raise check.error(name, f"{size[0]} x {size[1]} pixels", f"{MAP_SIZE[0]} x {MAP_SIZE[1]}")
            check.heatmap(name, encoded)
    except RecordError as error:
        detail = f"{error.feature}: found {error.found}; expected {error.expected}"
        return Problem(kind, label.file, label.index, detail, uid)
    except ValueError as error:
        return Problem(kind, label.file, label.index, f"{LABEL_FEATURE}: {error}", uid)
    checksum = hashlib.sha256(serialized).hexdigest()
    return dataclasses.replace(label, uid=uid, labels=len(labels), checksum=checksum)


class Labels:
    """All labels, and what was left out.

    Attributes:
        usable: well-formed records of different images, in order.
        found: number of records found, by split.
        left_out: number of records that are not usable, by split and `Kind`.
    """

    def __init__(self, note: Note):
        """Starts without any.

        Args:
            note: told of each record that is left out.
        """
        self._note = note
        self._by_uid: dict[str, Label] = {}
        self.found: collections.Counter[str] = collections.Counter()
        self.left_out: dict[str, collections.Counter[Kind]] = {
            split: collections.Counter() for split in SPLITS
        }

    @property
    def usable(self) -> Collection[Label]:
        """See above."""
        return self._by_uid.values()

    def add(self, label: Label, serialized: bytes) -> None:
        """Checks a record and takes it, or leaves it out; of a repeated uid the first stays."""
        checked = check_label(serialized, label)
        if isinstance(checked, Problem):
            self.leave_out(label.split, checked)
            return
        self.found[label.split] += 1
        if (first := self._by_uid.setdefault(checked.uid, checked)) is not checked:
            detail = f"found it again; expected once: {first.file}, index {first.index} is kept"
            self._refuse(label.split, Problem(Kind.REPEATED, label.file, label.index, detail, checked.uid))

    def leave_out(self, split: str, problem: Problem) -> None:
        """Counts a record that is not usable."""
        self.found[split] += 1
        self._refuse(split, problem)

    def _refuse(self, split: str, problem: Problem) -> None:
        self.left_out[split][problem.kind] += 1
        self._note(problem)
