"""Joining labels with what was fetched: which records there will be, and why others not."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from richhf.data import words
from richhf.data.prepare.labels import Label, Labels
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.spool import Entry
from richhf.feedback import SPLITS


@dataclasses.dataclass(frozen=True)
class Pair:
    """A label record with its image and prompt."""

    label: Label
    entry: Entry

    def checksums(self) -> tuple[str, str, str]:
        """What the record's bytes depend on."""
        return self.label.checksum, self.entry.checksum, self.entry.prompt

    def mismatch(self) -> Problem | None:
        """The problem, where labels differ in number from the prompt's words."""
        label, found = self.label, len(words.split_words(self.entry.prompt))
        if found == label.labels:
            return None
        detail = f"found {label.labels} labels; expected {found}, one for each word of the prompt"
        return Problem(Kind.MISMATCH, label.file, label.index, detail, label.uid)


def first_entries(entries: Iterable[Entry], note: Note) -> dict[str, Entry]:
    """By uid the first usable place, files in order, then rows, then columns: pieces come in that order.

    Args:
        entries: all usable places, in order. What they hold does not decide.
        note: told of each place that is not the first of its uid.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        if (used := first.setdefault(entry.uid, entry)) is not entry:
            same = (used.checksum, used.prompt) == (entry.checksum, entry.prompt)
            found = "found the same image and prompt again" if same else "found another image or prompt"
            detail = f"{found}; expected one: {used.file}, index {used.index} is used"
            note(Problem(Kind.REPEATED_IMAGE, entry.file, entry.index, detail, entry.uid))
    return first


def join(
    labels: Labels, entries: Mapping[str, Entry], problems: Sequence[Problem], note: Note
) -> dict[str, list[Pair]]:
    """Pairs labels with images.

    Args:
        labels: in order; records without a usable image are counted in `left_out`.
        entries: by uid.
        problems: of the source: why an image that was found cannot be used.
        note: told of each label whose image was not found at all, or whose words are others in number.

    Returns:
        pairs by split, in the order of the labels.
    """
    pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    unusable: dict[str, Kind] = {}
    for problem in problems:
        if problem.uid and problem.kind != Kind.TABLE:
            unusable.setdefault(problem.uid, problem.kind)
    for label in labels.usable:
        if label.uid in entries:
            pair = Pair(label, entries[label.uid])
            pairs[label.split].append(pair)
            if mismatch := pair.mismatch():
                note(mismatch)
            continue
        labels.left_out[label.split][unusable.get(label.uid, Kind.NO_IMAGE)] += 1
        if label.uid not in unusable:
            detail = "found its uid nowhere among the images; expected it once"
            note(Problem(Kind.NO_IMAGE, label.file, label.index, detail, label.uid))
    return pairs


def count_images(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Formats as found, conversions and sizes of the images in use."""
    entries = [pair.entry for pair in pairs]
    formats = collections.Counter(entry.format for entry in entries)
    sizes = collections.Counter(f"{entry.width} x {entry.height}" for entry in entries)
    return {
        "formats": dict(sorted(formats.items())),
        "converted": sum(entry.converted for entry in entries),
        "sizes": dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))),
    }
