"""What is in a record file or a folder of them: counts, ranges, problems, first examples as pictures."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tqdm
from PIL import Image, ImageDraw, ImageFont

from richhf.atomic import atomic_path
from richhf.data.records import Record, RecordError, list_record_files, read_records
from richhf.data.targets import UNKNOWN, KeywordTarget, TargetVocabulary
from richhf.feedback import HEATMAPS, SCORES, Feedback

_SHOWN = 12  # files and problems listed before "and N more"
_TILE, _TEXT, _GAP = 256, 340, 10
_INK, _PALE, _ALARM, _BAR = (30, 30, 36), (125, 125, 135), (200, 20, 50), (70, 120, 190)


@dataclasses.dataclass(kw_only=True)
class Inspection:
    """What was found; all but `problems` is about well-formed records.

    Attributes:
        path: what was inspected.
        files: number of well-formed records by file.
        problems: malformed records and damaged or empty files.
        mismatches: a line for each prompt whose labels differ in number from its words. RichHF-18K has some;
            they are left out of the keyword target and are no problem.
        map_sizes: number of records by (height, width) of the heatmaps.
        image_sizes: number of records by (height, width) of the image, `None` without one.
        prompts: number of records with a prompt.
        scores: all values by name of `SCORES`.
        painted: share of pixels above 0 in each map, by name of `HEATMAPS`.
        labels: all word labels, a tuple for each record.
        repeated: number of records whose filename was seen before.
        examples: the first records.
        unknown: number of prompts with characters that the vocabulary has no piece for; None without one.
        unreadable_words: number of words of which the vocabulary has a piece for no character.
        unknown_characters: how often each of those characters occurs.
    """

    path: str
    files: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: list[RecordError] = dataclasses.field(default_factory=list)
    mismatches: list[str] = dataclasses.field(default_factory=list)
    map_sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    image_sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    prompts: int = 0
    scores: dict[str, list[float]] = dataclasses.field(default_factory=lambda: {name: [] for name in SCORES})
    painted: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: {name: [] for name in HEATMAPS}
    )
    labels: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
    repeated: int = 0
    examples: list[Record] = dataclasses.field(default_factory=list)
    unknown: int | None = None
    unreadable_words: int = 0
    unknown_characters: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    @property
    def records(self) -> int:
        """Number of well-formed records."""
        return sum(self.files.values())


def inspect_records(
    path: str | os.PathLike,
    *,
    examples: int = 6,
    strict: bool = False,
    vocabulary: TargetVocabulary | None = None,
) -> Inspection:
    """Reads a record file, or all record files of a folder, and sums up what is in them.

    Args:
        path: file or folder.
        examples: how many of the first records to keep.
        strict: raise the first problem instead of listing it.
        vocabulary: counts prompts with characters that it has no piece for (`richhf.load_vocabulary`).

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if the folder holds no record file; if strict, the first problem (`RecordError`).
    """
    found, seen = Inspection(path=str(path), unknown=None if vocabulary is None else 0), set()

    def note(problem: RecordError) -> None:
        if strict:
            raise problem
        found.problems.append(problem)

    files = list_record_files(path)
    with tqdm.tqdm(desc="reading", unit=" records", disable=None, leave=False) as progress:
        for file in map(str, files):
            found.files[file], before = 0, len(found.problems)
            for record in read_records(file, on_error=note):
                # Every earlier record of this file is either counted or noted.
                index = found.files[file] + len(found.problems) - before
                try:
                    size = record.decode_image().shape[:2] if record.image is not None else None
                except ValueError as error:
                    note(RecordError(file, index, "image", str(error), "a PNG or JPEG that can be decoded"))
                    continue
                found.files[file] += 1
                found.image_sizes[size] += 1
                found.repeated += record.filename in seen
                seen.add(record.filename)
                _add_labels(found, record, f"{file}, record {index}")
                if vocabulary is not None and record.prompt is not None:
                    _add_unknown(found, KeywordTarget(record.prompt, vocabulary))
                if len(found.examples) < examples:
                    found.examples.append(record)
                progress.update()
            if found.files[file] == 0 and len(found.problems) == before:
                note(RecordError(file, 0, "record", "no record at all", "at least one"))
    return found


def format_inspection(found: Inspection) -> str:
    """Lays out an inspection as lines of text."""
    problems, mismatches = _many(len(found.problems), "problem"), _many(len(found.mismatches), "prompt")
    counts = f"{_many(found.records, 'record')} in {_many(len(found.files), 'file')}, {problems}"
    lines = [f"{found.path}: {counts}"]
    lines += _shorten([f"  {count:6d}  {pathlib.Path(file).name}" for file, count in found.files.items()])
    if found.records:
        lines += ["", *_format_labels(found)]
    if found.repeated:
        lines += ["", f"{_many(found.repeated, 'record')} with a filename that an earlier record has"]
    if found.mismatches:
        lines += ["", f"{mismatches} with another number of labels than words:"]
        lines += _shorten([f"  {mismatch}" for mismatch in found.mismatches])
    if found.problems:
        lines += ["", f"{problems}:"]
        lines += _shorten([f"  {problem}" for problem in found.problems])
    return "\n".join(lines)


def contact_sheet(records: Sequence[Record]) -> Image.Image:
    """Draws records one below the other: image, both heatmaps over it, prompt with misaligned words, scores.

    A record without image is shown on grey.

    Raises:
        ValueError: without records, or if an image cannot be decoded.
    """
    if not records:
        raise ValueError("no records to draw; expected at least one")
    width = len(("image", *HEATMAPS)) * (_TILE + _GAP) + _TEXT + 2 * _GAP
    head = 28
    sheet = Image.new("RGB", (width, head + len(records) * (_TILE + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("image", *(f"{name} heatmap" for name in HEATMAPS), "labels")):
        draw.text((_GAP + column * (_TILE + _GAP), 6), title, fill=_PALE, font=_font(14))
    for row, record in enumerate(records):
        top = head + row * (_TILE + _GAP)
        for column, picture in enumerate(_pictures(record)):
            sheet.paste(_fit(picture), (_GAP + column * (_TILE + _GAP), top))
        _draw_labels(draw, record, _GAP + 3 * (_TILE + _GAP), top)
    return sheet


def write_contact_sheet(path: str | os.PathLike, records: Sequence[Record]) -> None:
    """Writes `contact_sheet` as PNG; the file appears only when it is complete."""
    sheet = contact_sheet(records)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _add_labels(found: Inspection, record: Record, place: str) -> None:
    found.map_sizes[record.heatmaps[HEATMAPS[0]].shape] += 1
    for name in SCORES:
        found.scores[name].append(record.scores[name])
    for name in HEATMAPS:
        found.painted[name].append(float(np.mean(record.heatmaps[name] > 0)))
    found.labels.append(record.labels)
    if record.prompt is not None:
        found.prompts += 1
        words = record.to_feedback().words
        if len(words) != len(record.labels):
            found.mismatches.append(f"{place}: {len(words)} words, {len(record.labels)} labels")


def _add_unknown(found: Inspection, target: KeywordTarget) -> None:
    segmentation = target.segmentation
    pairs = zip(segmentation.text, segmentation.masked, strict=True)
    unknown = [character for character, shown in pairs if shown == UNKNOWN]
    found.unknown = (found.unknown or 0) + bool(unknown)
    found.unreadable_words += target.readable.count(False)
    found.unknown_characters.update(unknown)


def _format_labels(found: Inspection) -> Iterator[str]:
    total = found.records
    yield f"maps      {_format_sizes(found.map_sizes)}"
    yield f"images    {_format_sizes(found.image_sizes)}"
    yield f"prompts   {found.prompts} of {total}"
    if found.unknown is not None:
        yield f"unknown   {_format_unknown(found)}"
    labels = [label for each in found.labels for label in each]
    aligned = sum(all(each) for each in found.labels)
    yield f"words     {len(labels)}, {labels.count(0)} misaligned; {aligned} prompts have none"
    yield f"\n{'score':16}{'min':>8}{'mean':>8}{'max':>8}{'std':>8}"
    for name, values in found.scores.items():
        row = (min(values), np.mean(values), max(values), np.std(values))
        yield f"{name:16}" + "".join(f"{value:8.3f}" for value in row)
    yield f"\n{'heatmap':16}{'empty':>8}{'painted':>9}   (mean share of pixels above 0)"
    for name, shares in found.painted.items():
        yield f"{name:16}{shares.count(0):8d}{np.mean(shares):9.4f}"


def _format_unknown(found: Inspection) -> str:
    prompts = f"{found.unknown} of {_many(found.prompts, 'prompt')} with characters that the vocabulary lacks"
    if not found.unknown:
        return prompts
    common = " ".join(
        character if character.isprintable() else f"U+{ord(character):04X}"
        for character, _ in found.unknown_characters.most_common(_SHOWN)
    )
    return f"{prompts} ({common}); {_many(found.unreadable_words, 'word')} of these alone"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _format_sizes(sizes: collections.Counter) -> str:
    names = {size: "none" if size is None else f"{size[0]} x {size[1]}" for size in sizes}
    return ", ".join(f"{names[size]} ({count})" for size, count in sizes.most_common())


def _shorten(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"  ... and {more} more"] if more > 0 else lines


def _pictures(record: Record) -> list[Image.Image]:
    feedback = record.to_feedback()
    if record.image is None:
        height, width = record.heatmaps[HEATMAPS[0]].shape
        image = Image.new("RGB", (width, height), (225, 225, 230))
    else:
        image = Image.fromarray(record.decode_image())
    return [image, *(feedback.overlay(name, image) for name in HEATMAPS)]


def _fit(picture: Image.Image) -> Image.Image:
    """Scales a picture into a tile; small ones are enlarged without smoothing, to show their pixels."""
    scale = _TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _draw_labels(draw: ImageDraw.ImageDraw, record: Record, left: int, top: int) -> None:
    feedback = record.to_feedback()
    draw.text((left, top), record.filename[-44:], fill=_PALE, font=_font(12))
    _draw_prompt(draw, record, feedback, left, top + 22)
    for row, (name, score) in enumerate(record.scores.items()):
        y = top + _TILE - 22 * (len(SCORES) - row)
        draw.text((left, y), name, fill=_INK, font=_font(13))
        draw.rectangle((left + 100, y + 3, left + 250, y + 13), fill=(232, 232, 236))
        draw.rectangle((left + 100, y + 3, left + 100 + round(150 * score), y + 13), fill=_BAR)
        draw.text((left + 258, y), f"{score:.2f}", fill=_INK, font=_font(13))


def _draw_prompt(draw: ImageDraw.ImageDraw, record: Record, feedback: Feedback, left: int, top: int) -> None:
    """Draws the prompt's words, wrapped; misaligned ones red and underlined. Without prompt, the labels."""
    font, x, y = _font(15), float(left), top
    pairs = list(zip(feedback.words, feedback.misaligned or (False,) * len(feedback.words), strict=True))
    if record.prompt is None:
        pairs = [("aligned", False) if label else ("misaligned", True) for label in record.labels]
    for word, flag in pairs:
        width = draw.textlength(word, font=font)
        if x > left and x + width > left + _TEXT:
            x, y = left, y + 21
        if y > top + 21 * 5:
            draw.text((x, y), "...", fill=_PALE, font=font)
            return
        draw.text((x, y), word, fill=_ALARM if flag else _INK, font=font)
        if flag:
            draw.line((x, y + 18, x + width, y + 18), fill=_ALARM, width=2)
        x += width + 6


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
