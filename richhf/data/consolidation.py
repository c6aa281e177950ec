"""Several people's annotations of one image made into one record (paper, section 3.2).

Scores are means, words a majority vote, heatmaps the mean over annotators of the disks around their points.
"""

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Float32, Num, UInt8

from richhf.data.records import Record
from richhf.feedback import HEATMAPS, SCORES

LIKERT = (1, 2, 3, 4, 5)
RADIUS = 1 / 20  # of the image height

Points = Sequence[Sequence[SupportsFloat]] | Num[np.ndarray, "_ 2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotation:
    """What one annotator said about one image.

    Attributes:
        implausible_points: (x, y) in pixels; pixel (row i, column j) has its centre at x = j, y = i, so that
            the image reaches from -0.5 to width - 0.5 and from -0.5 to height - 0.5.
        misaligned_points: likewise.
        misaligned_words: one flag for each word of the prompt, a bool or 0 or 1; not the words' indices. They
            are kept as a tuple of bools.
        likert: mark 1..5 for each name of `SCORES`, 5 is best.

    Raises:
        ValueError: a point is not two finite numbers, a flag is something else, or a mark is missing, of an
            unknown name or not one of 1, 2, 3, 4, 5.
    """

    implausible_points: Points
    misaligned_points: Points
    misaligned_words: Sequence[bool | int | float]
    likert: Mapping[str, int | float]

    def __post_init__(self):
        for name in ("implausible_points", "misaligned_points"):
            points = getattr(self, name)
            if isinstance(points, str | bytes | Mapping) or not isinstance(points, Sequence | np.ndarray):
                raise ValueError(f"{name} is {points!r:.60}; expected a sequence of (x, y) in pixels")
            for point in points:
                _checked_point(point, name)
        object.__setattr__(self, "misaligned_words", _checked_flags(self.misaligned_words))
        if not isinstance(self.likert, Mapping):
            raise ValueError(f"likert is {self.likert!r:.60}; expected a mark by name: {', '.join(SCORES)}")
        if unknown := [name for name in self.likert if name not in SCORES]:
            raise ValueError(f"likert has {unknown[0]!r}; expected the names {', '.join(SCORES)}")
        for name in SCORES:
            mark = self.likert.get(name)
            whole = isinstance(mark, int | np.integer) and not isinstance(mark, bool)
            if not whole or mark not in LIKERT:
                raise ValueError(f"the mark for {name!r} is {mark!r}; expected one of {LIKERT}")
        object.__setattr__(self, "likert", {name: int(self.likert[name]) for name in SCORES})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Consolidated:
    """Consolidated labels of one image.

    Attributes:
        scores: by name of `SCORES`, (mean mark - 1) / 4, in [0, 1].
        heatmaps: by name of `HEATMAPS`; values are multiples of 1 / number of annotators.
        labels: one for each word, 1 aligned, 0 misaligned.
    """

    scores: dict[str, float]
    heatmaps: dict[str, Float32[np.ndarray, "h w"]] = dataclasses.field(repr=False)
    labels: tuple[int, ...]

    def to_record(self, filename: str, *, image: bytes | None = None, prompt: str | None = None) -> Record:
        """Makes the record as a file holds it: heatmaps as round(255 x)."""
        heatmaps = {name: heatmap_to_uint8(heatmap) for name, heatmap in self.heatmaps.items()}
        return Record(
            filename=filename,
            scores=self.scores,
            heatmaps=heatmaps,
            labels=self.labels,
            image=image,
            prompt=prompt,
        )


def points_to_heatmap(points: Points, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """Paints one annotator's points: 1 within height / 20 of any point, else 0.

    Args:
        points: (x, y) in pixels, each on the image: -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5.
        size: (height, width).

    Raises:
        ValueError: if the size is not two positive whole numbers, or a point is not two numbers or lies
            outside the image.
    """
    height, width = _checked_size(size)
    radius = height * RADIUS
    heatmap = np.zeros((height, width), np.float32)
    for point in points:
        x, y = _checked_point(point, "points")
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise ValueError(
                f"point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels (width x height); "
                f"expected x from -0.5 to {width - 0.5:g} and y from -0.5 to {height - 0.5:g}"
            )
        top, bottom = _window(y, radius, height)
        left, right = _window(x, radius, width)
        rows, columns = np.ogrid[top:bottom, left:right]
        heatmap[top:bottom, left:right][(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = 1
    return heatmap


def consolidate(annotations: Sequence[Annotation], *, size: tuple[int, int]) -> Consolidated:
    """Consolidates the annotations of one image.

    A word is misaligned when more than half of the annotators marked it; a tie (possible with an even number)
    counts as aligned: marking a word needs a majority.

    Args:
        annotations: at least one.
        size: (height, width) of the heatmaps, in the pixels the points are given in.

    Raises:
        ValueError: without annotations, if they differ in their number of words, or if a point lies outside
            the image.
    """
    if not annotations:
        raise ValueError("no annotations; expected at least one for an image")
    lengths = {len(annotation.misaligned_words) for annotation in annotations}
    if len(lengths) > 1:
        raise ValueError(
            f"annotations flag {sorted(lengths)} words; expected the same prompt, so the same number"
        )
    votes = [sum(flags) for flags in zip(*(a.misaligned_words for a in annotations), strict=True)]
    points = {
        "implausibility": [annotation.implausible_points for annotation in annotations],
        "misalignment": [annotation.misaligned_points for annotation in annotations],
    }
    return Consolidated(
        scores={
            name: (sum(annotation.likert[name] for annotation in annotations) / len(annotations) - 1) / 4
            for name in SCORES
        },
        heatmaps={
            name: np.stack([points_to_heatmap(each, size) for each in points[name]]).mean(axis=0)
            for name in HEATMAPS
        },
        labels=tuple(int(2 * vote <= len(annotations)) for vote in votes),
    )


def heatmap_to_uint8(heatmap: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Scales a heatmap in [0, 1] to round(255 x)."""
    return np.round(255 * heatmap).astype(np.uint8)


def _checked_point(point: Any, name: str) -> tuple[float, float]:
    """A point as two finite floats."""
    try:
        x, y = point
        if any(isinstance(value, str | bytes | bool | np.bool_) for value in (x, y)):
            raise TypeError
        x, y = float(x), float(y)
    except (TypeError, ValueError):
        raise ValueError(f"{name} has {point!r:.60}; expected (x, y) in pixels, two numbers") from None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"{name} has ({x}, {y}), which is not a place; expected (x, y) in pixels")
    return x, y


def _checked_flags(flags: Any) -> tuple[bool, ...]:
    """Flags of words as bools."""
    expected = "expected one flag for each word of the prompt, True where it is misaligned"
    if isinstance(flags, str | bytes | Mapping | set | frozenset) or not hasattr(flags, "__iter__"):
        raise ValueError(f"misaligned_words is {flags!r:.60}; {expected}")
    flags = tuple(flags)
    for flag in flags:
        if not isinstance(flag, bool | np.bool_ | int | np.integer) or flag not in (0, 1):
            raise ValueError(f"misaligned_words is {flags!r:.60}; {expected}, not the indices of words")
    return tuple(map(bool, flags))


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        height, width = (operator.index(value) for value in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(f"size is {size!r}; expected (height, width), two whole numbers of at least 1")
    return height, width


def _window(centre: float, radius: float, length: int) -> tuple[int, int]:
    """Range of the pixels within `radius` of `centre` along one axis, clipped to the image."""
    start = min(max(math.ceil(centre - radius), 0), length)
    return start, max(min(math.floor(centre + radius) + 1, length), start)
