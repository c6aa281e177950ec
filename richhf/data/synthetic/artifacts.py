"""Artifact faults: local damage of a drawn scene, each confined to a known disk.

Three ways of damage: *warps* bend the coordinates in which everything is drawn (`swirl`, `ripple`); *forms*
change the outline of one object (`broken`, `protrusion`, `melt`); *patches* spoil finished pixels (`smear`,
`noise`). Warps and forms are applied before sampling, so they stay sharp at any size.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from richhf.data.synthetic.scene import Item, Scene

UNTOUCHED_SHARE = 0.125
NUMBERS = {1: 0.5, 2: 0.34, 3: 0.16}
KINDS = {
    "swirl": 0.15,
    "ripple": 0.1,
    "broken": 0.18,
    "protrusion": 0.13,
    "melt": 0.06,
    "smear": 0.19,
    "noise": 0.19,
}
WARPS, FORMS, PATCHES = ("swirl", "ripple"), ("broken", "protrusion", "melt"), ("smear", "noise")
RADII = (0.08, 0.135)

Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class Artifact:
    """One artifact: it changes pixels within `radius` of (x, y) only (fractions of the side).

    Attributes:
      kind: a key of `KINDS`.
      severity: 0 (slight, yet visible) to 1.
      angle: direction (of a swirl, a protrusion, a smear), in radians, x to the right and y downwards.
      item: index of the damaged object in `Scene.items`.
      partner: index of the object it melts into, or -1.
      phase: number in [0, 1) that varies the form.
    """

    kind: str
    x: float
    y: float
    radius: float
    severity: float
    angle: float
    item: int
    partner: int
    phase: float


def sample_artifacts(rng: np.random.Generator, scene: Scene) -> tuple[Artifact, ...]:
    """Draws none to three artifacts on outlines of the scene's objects, apart from one another."""
    if rng.random() < UNTOUCHED_SHARE:
        return ()
    number = list(NUMBERS)[rng.choice(len(NUMBERS), p=list(NUMBERS.values()))]
    chosen: list[Artifact] = []
    for _ in range(12):
        kind = list(KINDS)[rng.choice(len(KINDS), p=list(KINDS.values()))]
        artifact = sample_artifact(rng, scene, kind)
        if all(np.hypot(artifact.x - o.x, artifact.y - o.y) > artifact.radius + o.radius for o in chosen):
            chosen.append(artifact)
        if len(chosen) == number:
            break
    return tuple(chosen)


def sample_artifact(rng: np.random.Generator, scene: Scene, kind: str) -> Artifact:
    """Draws the place, extent and severity of an artifact of one kind."""
    objects = [item for _, item in scene.items]
    index = int(rng.integers(len(objects)))
    item = objects[index]
    radius, severity, phase = float(rng.uniform(*RADII)), float(rng.random()), float(rng.random())
    angle = float(rng.uniform(-np.pi, np.pi))
    partner = -1
    reach = {"protrusion": 1.0, "broken": 0.9, "smear": 0.7, "noise": 0.6}.get(kind, 0.75)
    if kind == "melt":
        partner = _neighbour(objects, index)
        radius = max(radius, 0.11)
        angle, reach = float(np.pi / 2 + rng.uniform(-0.4, 0.4)), 0.9
    x = item.x + reach * item.radius * np.cos(angle)
    y = item.y + reach * item.radius * np.sin(angle)
    if partner >= 0:
        other = objects[partner]
        share = item.radius / (item.radius + other.radius)
        x, y = item.x + share * (other.x - item.x), item.y + share * (other.y - item.y)
    low, high = radius * 0.6, 1 - radius * 0.6
    return Artifact(
        kind,
        float(np.clip(x, low, high)),
        float(np.clip(y, low, high)),
        radius,
        severity,
        angle,
        index,
        partner,
        phase,
    )


def _neighbour(objects: list[Item], index: int) -> int:
    """The object close enough to melt together with, or -1."""
    item = objects[index]
    gaps = [
        np.hypot(item.x - other.x, item.y - other.y) - item.radius - other.radius
        if number != index
        else np.inf
        for number, other in enumerate(objects)
    ]
    nearest = int(np.argmin(gaps))
    return nearest if gaps[nearest] < 0.1 else -1


def warp(artifact: Artifact, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Where to look up every point of a scene that a `swirl` or `ripple` has bent."""
    dx, dy = x - np.float32(artifact.x), y - np.float32(artifact.y)
    window = np.maximum(1 - (dx * dx + dy * dy) / np.float32(artifact.radius**2), 0)
    if artifact.kind == "swirl":
        turn = window * np.float32((2.2 + 2.6 * artifact.severity) * (1 if artifact.phase < 0.5 else -1))
        cos, sin = np.cos(turn), np.sin(turn)
        return x - dx + dx * cos - dy * sin, y - dy + dx * sin + dy * cos
    along_x, along_y = np.float32(np.cos(artifact.angle)), np.float32(np.sin(artifact.angle))
    across = dy * along_x - dx * along_y
    wave = np.sin((across / artifact.radius * 2.6 + artifact.phase) * np.float32(2 * np.pi)).astype(
        np.float32
    )
    shift = np.sqrt(window) * wave * np.float32(artifact.radius * (0.3 + 0.3 * artifact.severity))
    return x + shift * along_x, y + shift * along_y


def reform(artifact: Artifact, distance: Plane, x: Plane, y: Plane) -> Plane:
    """An object's distance field (fractions of the side) after a `broken`, `protrusion` or `melt`."""
    dx, dy = x - np.float32(artifact.x), y - np.float32(artifact.y)
    radial = np.hypot(dx, dy)
    cos, sin = np.cos(artifact.angle), np.sin(artifact.angle)
    along, across = dx * np.float32(cos) + dy * np.float32(sin), dy * np.float32(cos) - dx * np.float32(sin)
    radius = np.float32(artifact.radius)
    if artifact.kind == "broken":
        teeth = np.sin(np.float32(5) * np.arctan2(dy, dx) + np.float32(6.3 * artifact.phase))
        hole = radius * np.float32(0.55 + 0.25 * artifact.severity) * (1 + np.float32(0.3) * teeth) - radial
        shards = np.minimum(
            np.hypot(along - radius * np.float32(0.25), across - radius * np.float32(0.35))
            - radius * np.float32(0.16),
            np.hypot(along - radius * np.float32(0.1), across + radius * np.float32(0.35))
            - radius * np.float32(0.12),
        )
        changed = np.minimum(np.maximum(distance, hole), shards)
    elif artifact.kind == "protrusion":
        bend = np.float32(0.35) * np.sin(along / radius * np.float32(3.2) + np.float32(6.3 * artifact.phase))
        stem = np.abs(across - radius * bend) - radius * np.float32(0.25 + 0.08 * artifact.severity)
        tip = radius * np.float32(0.55 + 0.35 * artifact.severity)
        changed = np.minimum(
            distance, np.maximum(np.maximum(stem, along - tip), -along - radius * np.float32(0.5))
        )
    else:
        changed = distance
        for offset, share in ((-0.45, 0.5), (0.0, 0.9), (0.42, 0.65)):
            length = radius * np.float32(share * (0.5 + 0.4 * artifact.severity))
            low = np.clip(along, -radius * np.float32(0.4), length)
            drip = np.hypot(along - low, across - radius * np.float32(offset)) - radius * np.float32(0.17)
            changed = np.minimum(changed, drip)
    return np.where(radial < radius, changed, distance)


def spoil(image: Float[np.ndarray, "h w 3"], artifact: Artifact) -> None:
    """Spoils a finished float image in [0, 1] in place: `smear` draws pixels out, `noise` scatters them."""
    side = image.shape[0]
    cx, cy, radius = artifact.x * side - 0.5, artifact.y * side - 0.5, artifact.radius * side
    top, bottom = max(int(cy - radius), 0), min(int(cy + radius) + 2, side)
    left, right = max(int(cx - radius), 0), min(int(cx + radius) + 2, side)
    y, x = np.mgrid[top:bottom, left:right]
    share = np.hypot(x - cx, y - cy) / radius
    cover = np.clip((1 - share) * 4, 0, 1)[..., None].astype(np.float32)
    patch = image[top:bottom, left:right]
    if artifact.kind == "smear":
        reach = radius * (0.75 + 0.5 * artifact.severity)
        steps = np.linspace(-reach, reach, max(9, int(2 * reach)))
        rows = np.clip(np.rint(y + np.sin(artifact.angle) * steps[:, None, None]), 0, side - 1).astype(int)
        columns = np.clip(np.rint(x + np.cos(artifact.angle) * steps[:, None, None]), 0, side - 1).astype(int)
        spoilt = image[rows, columns].mean(0)
    else:
        cell = max(side / 64 * 1.3, 1)
        grid = np.random.default_rng(int(artifact.phase * 2**32)).random(
            (64, 64, 3), np.float32
        ) - np.float32(0.5)
        rows, columns = (y / cell).astype(int) % 64, (x / cell).astype(int) % 64
        spoilt = patch + grid[rows, columns] * np.float32(0.45 + 0.5 * artifact.severity)
    image[top:bottom, left:right] = np.clip(patch + cover * (spoilt - patch), 0, 1)
