"""Scenes: one to four objects of known shape, colour, size, texture and place on a background.

Lengths are fractions of the image side, x to the right and y downwards, so that one scene can be rendered at
any size.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from richhf.data.synthetic.backgrounds import tone
from richhf.data.synthetic.concepts import (
    BACKDROP_SHARES,
    BACKDROPS,
    BACKGROUNDS,
    COLOURS,
    OPPOSITE,
    SHAPES,
    TEXTURES,
    rgb,
)

MARGIN = 0.02
RADII = {"small": (0.14, 0.165), "middle": (0.165, 0.225), "big": (0.225, 0.275)}
BIGGEST = 0.35  # of a flat object that stands alone
MIDDLE_SHARE = 0.3  # of the groups of flat objects that may be big: `middle` is a size that no word names
PLAIN_SHARE = 0.34  # of scenes in front of one plain colour
FLAT_SHARES = {True: 0.75, False: 0.12}  # of scenes drawn flat, in front of a plain colour or a scenery
LEAST_CONTRAST = 0.16  # between an object without outline and the background, as `contrast` measures it
FULL_TEXTURES, FLAT_TEXTURES = (0.4, 0.2, 0.2, 0.2), (0.76, 0.08, 0.08, 0.08)  # in the order of `TEXTURES`
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
    """One drawn object: centre, radius (fractions of the side), rotation in radians.

    `stretch` makes it wider by this factor and lower by the same.
    """

    x: float
    y: float
    radius: float
    angle: float
    stretch: float = 1.0


@dataclass(frozen=True)
class Group:
    """Objects that a prompt speaks of together: all of one shape, colour, size and texture."""

    shape: str
    colour: str
    size: str
    texture: str
    items: tuple[Item, ...]
    tint: float = 0.0
    purity: float = 0.0

    @property
    def rgb(self) -> Float[np.ndarray, "3"]:
        """Its colour as float32 RGB in [0, 1], without the tint."""
        return rgb(self.colour, self.purity, int(self.tint > 0))

    @property
    def count(self) -> int:
        """How many objects it has."""
        return len(self.items)


@dataclass(frozen=True)
class Style:
    """How objects are drawn.

    Attributes:
        outline: `ink` (a darker tone of the object), `black` or `none`.
        shadow: whether objects throw a shadow.
        shading: whether one side of an object is lighter.
        smooth: whether edges are antialiased.
    """

    outline: str = "ink"
    shadow: bool = True
    shading: bool = True
    smooth: bool = True


@dataclass(frozen=True)
class Scene:
    """A background and groups of objects; no two groups share a shape, so a shape names its group.

    Attributes:
      relation: where the first group stands as seen from the second (`left`: it is to the left), None if they
        stand in no clear relation or are not one object each.
      clarity: 0 (flat, hazy) to 1 (vivid, full contrast).
      phases: four numbers in [0, 1) that vary the background.
      style: how objects are drawn.
    """

    background: str
    groups: tuple[Group, ...]
    relation: str | None
    clarity: float
    phases: tuple[float, ...]
    style: Style = Style()

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
    """Draws a scene: layout, style and concepts, then places without overlap."""
    layouts = list(LAYOUTS)
    counts = layouts[rng.choice(len(layouts), p=np.array(list(LAYOUTS.values())) / sum(LAYOUTS.values()))]
    number = sum(counts)
    plain = bool(rng.random() < PLAIN_SHARE)
    flat = bool(rng.random() < FLAT_SHARES[plain])
    shapes = rng.choice(len(SHAPES), size=len(counts), replace=False)
    relation = None
    if counts[:2] == (1, 1) and rng.random() < 0.8:
        relation = list(OPPOSITE)[rng.integers(4)]
    sizes = []
    for count in counts:
        crowded = number >= 4 or count >= 3 or (number == 3 and "big" in sizes) or (count > 1 and number > 2)
        sizes.append("small" if crowded or rng.random() < 0.5 else "big")
        if flat and not crowded and rng.random() < MIDDLE_SHARE:
            sizes[-1] = "middle"
    radii = np.array(
        [rng.uniform(*RADII[size]) for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    )
    if flat and number == 1 and sizes[0] == "big":
        radii = rng.uniform(RADII["big"][0], BIGGEST, 1)
    centres = _place(rng, radii, relation)
    while centres is None:
        radii = radii * 0.97
        centres = _place(rng, radii, relation)
    angles, stretches = rng.uniform(-0.3, 0.3, number), np.ones(number)
    if flat:
        angles = angles * (rng.random(number) < 0.4)
        if number <= 2:
            stretches = np.exp(rng.uniform(-0.14, 0.14, number) * (rng.random(number) < 0.5))
    items = [
        Item(float(x), float(y), float(radius), float(angle), float(stretch))
        for (x, y), radius, angle, stretch in zip(centres, radii, angles, stretches, strict=True)
    ]
    colours, textures = list(COLOURS), list(TEXTURES)
    groups, start = [], 0
    for shape, size, count in zip(shapes, sizes, counts, strict=True):
        groups.append(
            Group(
                shape=list(SHAPES)[shape],
                colour=colours[rng.integers(len(colours))],
                size=size,
                texture=textures[rng.choice(4, p=FLAT_TEXTURES if flat else FULL_TEXTURES)],
                items=tuple(items[start : start + count]),
                tint=float(rng.uniform(-1, 1)),
                purity=float(rng.random()) if flat else 0.0,
            )
        )
        start += count
    clarity = 1.0 if flat and rng.random() < 0.6 else float(rng.random())
    background, phases = _sample_background(rng, groups, plain=plain)
    style = _sample_style(rng, flat=flat)
    return Scene(background, tuple(groups), relation, clarity, phases, style)


def contrast(group: Group, background: str, phases: tuple[float, ...]) -> float:
    """Returns the distance in RGB, 0 to about 1, of a group's colour from the background's, before haze."""
    weights = np.array([0.45, 0.75, 0.3], np.float32)
    return float(np.linalg.norm((group.rgb - tone(background, phases)) * weights))


def _sample_background(
    rng: np.random.Generator, groups: list[Group], *, plain: bool
) -> tuple[str, tuple[float, ...]]:
    """Draws a background, and what varies it, before which every group can be seen without its outline."""
    names = list(BACKDROPS if plain else BACKGROUNDS)
    rest = (1 - sum(BACKDROP_SHARES.values())) / (len(BACKDROPS) - len(BACKDROP_SHARES))
    shares = [BACKDROP_SHARES.get(name, rest) if plain else 1 / len(names) for name in names]
    for _ in range(100):
        name = names[rng.choice(len(names), p=shares)]
        phases = tuple(float(phase) for phase in rng.random(4))
        if all(group.colour != name and contrast(group, name, phases) >= LEAST_CONTRAST for group in groups):
            break
    return name, phases


def _sample_style(rng: np.random.Generator, *, flat: bool) -> Style:
    if not flat:
        return Style()
    return Style(
        outline=("none", "black", "ink")[rng.choice(3, p=(0.8, 0.12, 0.08))],
        shadow=bool(rng.random() < 0.06),
        shading=bool(rng.random() < 0.06),
        smooth=bool(rng.random() < 0.6),
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
