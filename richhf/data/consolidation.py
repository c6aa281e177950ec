"""Several people's annotations of one image made into one record (paper, section 3.2).

Scores are means, words a majority vote, heatmaps the mean over annotators of the disks around their points.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float, Float32, UInt8

from richhf.data.records import Record
from richhf.feedback import HEATMAPS, SCORES

LIKERT = (1, 2, 3, 4, 5)
RADIUS = 1 / 20  # of the image height

Points = Sequence[Sequence[SupportsFloat]] | Float[np.ndarray, "_ 2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotation:
    """What one annotator said about one image.

    Attributes:
        implausible_points: (x, y) in pixels; pixel (row i, column j) has its centre at x = j, y = i.
        misaligned_points: likewise.
        misaligned_words: one flag for each word of the prompt.
        likert: mark 1..5 for each name of `SCORES`, 5 is best.
    """

    implausible_points: Points
    misaligned_points: Points
    misaligned_words: tuple[bool, ...]
    likert: dict[str, int]

    def __post_init__(self):
        for name in SCORES:
            if self.likert.get(name) not in LIKERT:
                raise ValueError(
                    f"the mark for {name!r} is {self.likert.get(name)!r}; expected one of {LIKERT}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Consolidated:
    """Consolidated labels of one image.

    Attributes:
        scores: by name of `SCORES`, (mean mark - 1) / 4, in [0, 1].
        heatmaps: by name of `HEATMAPS`; values are multiples of 1 / number of annotators.
        labels: one for each word, 1 aligned, 0 misaligned.
    """

    scores: dict[str, float]
    heatmaps: dict[str, Float32[np.ndarray, "h w"]]
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
        points: (x, y) in pixels; a point outside the image paints the part of its disk that is inside.
        size: (height, width).

    Raises:
        ValueError: if the size is not positive or a coordinate is not a number.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size is {size}; expected (height, width), both at least 1")
    radius = height * RADIUS
    heatmap = np.zeros(size, np.float32)
    for x, y in points:
        x, y = float(x), float(y)
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"point ({x}, {y}) is not a place; expected (x, y) in pixels")
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
        ValueError: without annotations, or if they differ in their number of words.
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


def _window(centre: float, radius: float, length: int) -> tuple[int, int]:
    """Range of the pixels within `radius` of `centre` along one axis, clipped to the image."""
    start = min(max(math.ceil(centre - radius), 0), length)
    return start, max(min(math.floor(centre + radius) + 1, length), start)
