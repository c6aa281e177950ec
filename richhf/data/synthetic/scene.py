"""Scenes: one to four objects of known shape, colour, size, texture and place on a background.

Lengths are fractions of the image side, x to the right and y downwards, so that one scene can be rendered at
any size.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from richhf.data.synthetic.concepts import BACKGROUNDS, COLOURS, OPPOSITE, SHAPES, TEXTURES

MARGIN = 0.02
RADII = {"small": (0.14, 0.165), "big": (0.225, 0.275)}
# The share of every kind of layout: how many objects each group has.
LAYOUTS = {
    (1,): 0.32,
    (2,): 0.1,
    (3,): 0.08,
    (4,): 0.05,
    (1, 1): 0.3,
    (1, 2): 0.04,
    (2, 1): 0.04,
    (1, 1, 1): 0.07,
}


@dataclass(frozen=True)
class Item:
    """One drawn object: centre, radius (fractions of the side), rotation in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Group:
    """Objects that a prompt speaks of together: all of one shape, colour, size and texture."""

    shape: str
    colour: str
    size: str
    texture: str
    items: tuple[Item, ...]
    tint: float = 0.0

    @property
    def count(self) -> int:
        """How many objects it has."""
        return len(self.items)


@dataclass(frozen=True)
class Scene:
    """A background and groups of objects; no two groups share a shape, so a shape names its group.

    Attributes:
      relation: where the first group stands as seen from the second (`left`: it is to the left), None if they
        stand in no clear relation or are not one object each.
      clarity: 0 (flat, hazy) to 1 (vivid, full contrast).
      phases: four numbers in [0, 1) that vary the background.
    """

    background: str
    groups: tuple[Group, ...]
    relation: str | None
    clarity: float
    phases: tuple[float, ...]

    @property
    def items(self) -> tuple[tuple[int, Item], ...]:
        """Every object with the index of its group, in drawing order."""
        return tuple((index, item) for index, group in enumerate(self.groups) for item in group.items)

    def with_group(self, index: int, **changes: Any) -> "Scene":
        """The same scene with some attributes of one group changed."""
        groups = list(self.groups)
        groups[index] = replace(groups[index], **changes)
        return replace(self, groups=tuple(groups))


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draws a scene: layout, concepts, then places without overlap."""
    layouts = list(LAYOUTS)
    counts = layouts[rng.choice(len(layouts), p=np.array(list(LAYOUTS.values())) / sum(LAYOUTS.values()))]
    number = sum(counts)
    shapes = rng.choice(len(SHAPES), size=len(counts), replace=False)
    relation = None
    if counts[:2] == (1, 1) and rng.random() < 0.8:
        relation = list(OPPOSITE)[rng.integers(4)]
    sizes = []
    for count in counts:
        crowded = number >= 4 or count >= 3 or (number == 3 and "big" in sizes) or (count > 1 and number > 2)
        sizes.append("small" if crowded or rng.random() < 0.5 else "big")
    radii = np.array(
        [rng.uniform(*RADII[size]) for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    )
    centres = _place(rng, radii, relation)
    while centres is None:
        radii = radii * 0.97
        centres = _place(rng, radii, relation)
    items = [
        Item(float(x), float(y), float(radius), float(angle))
        for (x, y), radius, angle in zip(centres, radii, rng.uniform(-0.3, 0.3, number), strict=True)
    ]
    colours, textures = list(COLOURS), list(TEXTURES)
    groups, start = [], 0
    for shape, size, count in zip(shapes, sizes, counts, strict=True):
        groups.append(
            Group(
                shape=list(SHAPES)[shape],
                colour=colours[rng.integers(len(colours))],
                size=size,
                texture=textures[rng.choice(4, p=(0.4, 0.2, 0.2, 0.2))],
                items=tuple(items[start : start + count]),
                tint=float(rng.uniform(-1, 1)),
            )
        )
        start += count
    return Scene(
        background=list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))],
        groups=tuple(groups),
        relation=relation,
        clarity=float(rng.random()),
        phases=tuple(float(phase) for phase in rng.random(4)),
    )


def free_place(rng: np.random.Generator, scene: Scene, radius: float) -> Item:
    """A place for one more object, as free as a few random tries find one."""
    spots = rng.uniform(radius + MARGIN, 1 - radius - MARGIN, (48, 2))
    gaps = np.full(len(spots), np.inf)
    for _, item in scene.items:
        gaps = np.minimum(gaps, np.hypot(spots[:, 0] - item.x, spots[:, 1] - item.y) - item.radius - radius)
    free = np.flatnonzero(gaps > 0)
    best = free[0] if len(free) else int(np.argmax(gaps))
    return Item(float(spots[best, 0]), float(spots[best, 1]), radius, 0.0)


def _place(
    rng: np.random.Generator, radii: Float[np.ndarray, "n"], relation: str | None
) -> Float[np.ndarray, "n 2"] | None:
    """The first of many random layouts in which objects keep apart and the relation holds, or None."""
    tries = 192
    low, high = radii + MARGIN, 1 - radii - MARGIN
    centres = low[None, :, None] + rng.random((tries, len(radii), 2)) * (high - low)[None, :, None]
    good = np.ones(tries, bool)
    if relation is not None:
        along, across = (0, 1) if relation in ("left", "right") else (1, 0)
        first, second = (0, 1) if relation in ("left", "above") else (1, 0)
        swap = centres[:, first, along] > centres[:, second, along]
        mirrored = 1 - centres[swap][:, :2, along]
        centres[np.flatnonzero(swap)[:, None], np.arange(2)[None], along] = mirrored
        lead = centres[:, 0, across] + rng.uniform(-0.09, 0.09, tries)
        centres[:, 1, across] = np.clip(lead, low[1], high[1])
        good &= centres[:, second, along] - centres[:, first, along] > 0.27
        good &= np.abs(centres[:, 1, across] - centres[:, 0, across]) < 0.13
    good &= _apart(centres, radii)
    found = np.flatnonzero(good)
    return centres[found[0]] if len(found) else None


def _apart(centres: Float[np.ndarray, "t n 2"], radii: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "t"]:
    good = np.ones(len(centres), bool)
    for i in range(len(radii)):
        for j in range(i):
            distance = np.hypot(*(centres[:, i] - centres[:, j]).T)
            good &= distance > (radii[i] + radii[j]) * 1.06
    return good
