"""Simulated annotators: people who look at a picture and mark it, some more strictly than others.

Each picture is marked by three of a pool of 27 (as many people annotated RichHF-18K). They overlook things,
point a little beside them, mark what is fine, forget words or click wrong ones, and round to a Likert mark.
Careful annotators do none of this: the mean over many of them is the noiseless truth of the maps.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from richhf.data.consolidation import RADIUS, Annotation, points_to_heatmap
from richhf.data.words import split_words
from richhf.feedback import SCORES

POOL = 27
CAREFUL = 16
SPACING = {"implausibility": 1.5, "misalignment": 2.0}  # between one annotator's points, in disk radii
MOST_PIXELS = 160


@dataclass(frozen=True)
class Region:
    """Something to be marked.

    Attributes:
      pixels: (x, y) of the pixels it covers, a random subset where there are many.
      notice: chance that an annotator marks it at all.
    """

    pixels: Float[np.ndarray, "n 2"]
    notice: float


@dataclass(frozen=True)
class Annotator:
    """One person's habits.

    Attributes:
      strictness: added to what counts as bad, in Likert marks; negative for the lenient.
      attention: multiplies the chance to notice a region or a word.
      jitter: standard deviation of a point's place, as a fraction of the image height.
      false_alarms: expected number of points on nothing, per map.
      false_clicks: chance to click a word that is fine.
      noise: standard deviation of a mark before rounding.
    """

    strictness: float
    attention: float
    jitter: float
    false_alarms: float
    false_clicks: float
    noise: float


def annotator_pool(rng: np.random.Generator) -> tuple[Annotator, ...]:
    """Draws the 27 people of a data set; strict ones see more, and more that is not there."""
    strictness = rng.normal(0, 0.22, POOL)
    return tuple(
        Annotator(
            strictness=float(value),
            attention=float(np.clip(1 + 0.12 * value + rng.normal(0, 0.02), 0.85, 1.1)),
            jitter=float(rng.uniform(0.008, 0.018)),
            false_alarms=float(np.clip(0.12 + 0.2 * value, 0.02, 0.4)),
            false_clicks=float(np.clip(0.045 + 0.05 * value, 0.01, 0.1)),
            noise=float(rng.uniform(0.35, 0.6)),
        )
        for value in strictness
    )


def region_of(rng: np.random.Generator, mask: Bool[np.ndarray, "h w"], notice: float) -> Region:
    """The region of a mask's pixels, of which there must be one."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ValueError("the mask is empty; a fault that changes no pixel has no region")
    if len(rows) > MOST_PIXELS:
        chosen = rng.choice(len(rows), MOST_PIXELS, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    return Region(np.stack([columns, rows], 1).astype(np.float64), notice)


def place_points(
    rng: np.random.Generator, region: Region, people: int, spacing: float
) -> list[Float[np.ndarray, "_ 2"]]:
    """For each of `people`, points that cover a region at random, no two closer than `spacing` pixels."""
    x, y = region.pixels.T.astype(np.float32)
    far = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 >= np.float32(spacing**2)
    turn = rng.random((people, len(x)), np.float32) + np.float32(1e-6)
    everyone = np.arange(people)
    picks = []
    while True:
        chosen = turn.argmax(1)
        left = turn[everyone, chosen] > 0
        if not left.any():
            break
        picks.append(np.where(left, chosen, -1))
        turn *= far[chosen]
    order = np.stack(picks, 1)
    return [region.pixels[row[row >= 0]] for row in order]


def true_map(placed: list[list[Float[np.ndarray, "_ 2"]]], size: int) -> Float[np.ndarray, "h w"]:
    """Mean over careful annotators of the disks around the points with which they cover the known regions.

    Args:
      placed: for each region, the points (whole pixels) of each of `CAREFUL` annotators.
      size: side of the picture in pixels.
    """
    stamp = _stamp(size)
    reach = len(stamp) // 2
    marked = np.zeros((CAREFUL, size + 2 * reach, size + 2 * reach), bool)
    for region in placed:
        for canvas, points in zip(marked, region, strict=True):
            for x, y in points.astype(int).tolist():
                canvas[y : y + len(stamp), x : x + len(stamp)] |= stamp
    total = marked[:, reach : reach + size, reach : reach + size].sum(0, dtype=np.uint8)
    return total / np.float32(CAREFUL)


@functools.cache
def _stamp(size: int) -> Bool[np.ndarray, "d d"]:
    """The disk around a point on a whole pixel, as consolidation paints it."""
    reach = int(RADIUS * size)
    return points_to_heatmap([(reach, reach)], (size, size))[: 2 * reach + 1, : 2 * reach + 1] > 0


def annotate(
    rng: np.random.Generator,
    people: tuple[Annotator, ...],
    *,
    regions: dict[str, list[Region]],
    placed: dict[str, list[list[Float[np.ndarray, "_ 2"]]]],
    vague: list[Float[np.ndarray, "2"]],
    objects: Float[np.ndarray, "m 2"],
    prompt: str,
    misaligned: tuple[bool, ...],
    scores: dict[str, float],
    size: int,
) -> list[Annotation]:
    """Annotations of one picture.

    Args:
      rng: the source of every slip.
      people: who annotates.
      regions: by heatmap name, what is truly wrong.
      placed: by heatmap name, for each region, where each of `people` would mark it if nothing slipped.
      vague: places (pixels) where something missing would have stood: some
        mark them, roughly, or just anywhere.
      objects: centres (pixels) of what is in the picture: where false alarms fall.
      prompt: its words are what can be clicked.
      misaligned: the truth for each word.
      scores: the true scores in [0, 1].
      size: side of the picture in pixels.
    """
    difficulty = rng.normal(0, 0.15, len(SCORES))
    annotations = []
    for number, person in enumerate(people):
        points = {
            name: _mark(
                rng, person, regions[name], [points[number] for points in placed[name]], objects, size
            )
            for name in regions
        }
        for place in vague:
            if rng.random() < 0.35 * person.attention:
                spot = place + rng.normal(0, 0.06 * size, 2) if rng.random() < 0.7 else rng.random(2) * size
                points["misalignment"].append(spot)
        chance = np.where(misaligned, 0.76 * person.attention, person.false_clicks)
        clicks = rng.random(len(misaligned)) < chance
        marks = {
            name: int(np.clip(np.rint(1 + 4 * scores[name] + shift - person.strictness + slip), 1, 5))
            for name, shift, slip in zip(
                SCORES, difficulty, rng.normal(0, person.noise, len(SCORES)), strict=True
            )
        }
        annotations.append(
            Annotation(
                implausible_points=_inside(points["implausibility"], size),
                misaligned_points=_inside(points["misalignment"], size),
                misaligned_words=tuple(bool(click) for click in clicks),
                likert=marks,
            )
        )
    if len(split_words(prompt)) != len(misaligned):
        raise ValueError(f"{len(misaligned)} flags for the words of {prompt!r}; expected one for each word")
    return annotations


def _mark(
    rng: np.random.Generator,
    person: Annotator,
    regions: list[Region],
    placed: list[Float[np.ndarray, "_ 2"]],
    objects: Float[np.ndarray, "m 2"],
    size: int,
) -> list[Float[np.ndarray, "2"]]:
    marked: list[np.ndarray] = []
    for region, points in zip(regions, placed, strict=True):
        if rng.random() < region.notice * person.attention:
            kept = points[rng.random(len(points)) > 0.12]
            marked += list(kept + rng.normal(0, person.jitter * size, kept.shape))
    for _ in range(rng.poisson(person.false_alarms)):
        marked.append(objects[rng.integers(len(objects))] + rng.normal(0, 0.07 * size, 2))
    return marked


def _inside(points: list[Float[np.ndarray, "2"]], size: int) -> Float[np.ndarray, "_ 2"]:
    return np.clip(np.array(points, np.float64).reshape(-1, 2), 0, size - 1)
