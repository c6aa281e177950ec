"""Drawing a scene: distance fields sampled at twice the size, and averaged where edges are smooth."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from richhf.data.synthetic.artifacts import FORMS, PATCHES, WARPS, Artifact, reform, spoil, warp
from richhf.data.synthetic.backgrounds import paint_background
from richhf.data.synthetic.scene import Group, Item, Scene, Style, contrast
from richhf.data.synthetic.shapes import shape_distance

OUTLINE = 0.016
HAZE = 0.6

Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class Drawing:
    """A rendered scene: the image and which pixels belong to which object of `Scene.items`."""

    image: UInt8[np.ndarray, "h w 3"]
    items: Bool[np.ndarray, "m h w"]


def render(scene: Scene, size: int, artifacts: tuple[Artifact, ...] = ()) -> Drawing:
    """Draws a scene at `size` x `size` pixels.

    The same scene without `artifacts` differs from the one with them only within the artifacts' disks (and a
    pixel around them, by antialiasing).
    """
    x, y = sample_points(size)
    for artifact in artifacts:
        if artifact.kind in WARPS:
            x, y = _warped(artifact, x, y)
    image = paint_background(scene.background, x, y, scene.phases)
    light = tuple(np.float32(np.cos(2 * np.pi * scene.phases[3] + turn)) for turn in (0.0, np.pi / 2))
    items = np.zeros((len(scene.items), size, size), bool)
    haze = hazy(scene)
    for index, (owner, item) in enumerate(scene.items):
        forms = [a for a in artifacts if a.kind in FORMS and a.item == index and a.partner < 0]
        box = _box(item, forms, artifacts, len(x))
        group = scene.groups[owner]
        distance = _draw(image[box], group, item, forms, x[box], y[box], light, scene.style)
        block = np.zeros(x.shape, bool)
        block[box] = distance < 0
        items[index] = block[1::2, 1::2]
    for artifact in artifacts:
        if artifact.kind == "melt" and artifact.partner >= 0:
            _melt_together(image, scene, artifact, x, y)
    image = _reduced(image) if scene.style.smooth else image[1::2, 1::2]
    grey = image @ np.array([0.3, 0.59, 0.11], np.float32)
    image = image + np.float32(haze) * (0.45 * grey[..., None] + np.float32(0.55 * 0.62) - image)
    image = np.clip(image, 0, 1)
    for artifact in artifacts:
        if artifact.kind in PATCHES:
            spoil(image, artifact)
    return Drawing((image * 255 + 0.5).astype(np.uint8), items)


def _reduced(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h2 w2 3"]:
    """Averages every two by two points."""
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) * np.float32(0.25)


def hazy(scene: Scene) -> float:
    """How much of every colour the haze takes away, from a scene's clarity."""
    return HAZE * (1 - scene.clarity)


def local_contrast(scene: Scene) -> float:
    """Mean distance in RGB, 0 to about 1, of the groups' colours from the background's, before haze."""
    return float(np.mean([contrast(group, scene.background, scene.phases) for group in scene.groups]))


def sample_points(size: int) -> tuple[Plane, Plane]:
    """Centres of the supersampled pixels of a `size` x `size` image, in [0, 1]."""
    steps = (np.arange(size * 2, dtype=np.float32) + np.float32(0.5)) / np.float32(size * 2)
    x, y = np.meshgrid(steps, steps)
    return x, y


def _warped(artifact: Artifact, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    box = _square(artifact.x, artifact.y, artifact.radius, len(x))
    x, y = x.copy(), y.copy()
    x[box], y[box] = warp(artifact, x[box], y[box])
    return x, y


def _square(x: float, y: float, reach: float, side: int) -> tuple[slice, slice]:
    def span(centre: float) -> slice:
        return slice(max(int((centre - reach) * side), 0), min(int((centre + reach) * side) + 2, side))

    return span(y), span(x)


def _box(
    item: Item, forms: list[Artifact], artifacts: tuple[Artifact, ...], side: int
) -> tuple[slice, slice]:
    """The part of the image that an object, its shadow and what damage makes of it can touch."""
    disks = [(item.x, item.y, item.radius * 1.3 + 0.05)]
    disks += [(a.x, a.y, a.radius) for a in forms]
    for a in artifacts:
        if a.kind in WARPS and np.hypot(a.x - item.x, a.y - item.y) < a.radius + item.radius * 1.3 + 0.05:
            disks.append((a.x, a.y, a.radius))
    boxes = [_square(*disk, side) for disk in disks]
    return (
        slice(min(b[0].start for b in boxes), max(b[0].stop for b in boxes)),
        slice(min(b[1].start for b in boxes), max(b[1].stop for b in boxes)),
    )


def _field(group: Group, item: Item, x: Plane, y: Plane) -> tuple[Plane, Plane, Plane]:
    """Distance to an object's outline (fractions of the side) and the coordinates in its own frame."""
    cos, sin = np.float32(np.cos(item.angle)), np.float32(np.sin(item.angle))
    scale = np.float32(1 / item.radius)
    stretch = np.float32(item.stretch)
    dx, dy = (x - np.float32(item.x)) * scale / stretch, (y - np.float32(item.y)) * scale * stretch
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    return shape_distance(group.shape, u, v) * np.float32(item.radius), u, v


def _draw(
    image, group: Group, item: Item, forms: list[Artifact], x: Plane, y: Plane, light, style: Style
) -> Plane:
    """Draws one object, in the style asked for, into `image`; returns its distance field."""
    sharp = np.float32(64 * 3)
    offset = np.float32(0.018)
    if style.shadow:
        shadow, _, _ = _field(group, item, x - offset, y - offset * np.float32(1.4))
        image *= (1 - np.float32(0.3) * np.clip(np.float32(0.5) - shadow * 25, 0, 1))[..., None]
    distance, u, v = _field(group, item, x, y)
    for artifact in forms:
        distance = reform(artifact, distance, x, y)
    base = np.clip(group.rgb * np.float32(1 + 0.06 * group.tint), 0, 1)
    luma = float(base @ np.array([0.3, 0.59, 0.11], np.float32))
    ink = base * np.float32(0.45) if luma < 0.75 else base * np.float32(0.6)
    second = base + (np.float32(0.6) * (1 - base) if luma < 0.6 else np.float32(-0.42) * base)
    colour = base + pattern(group.texture, u, v)[..., None] * (second - base)
    if style.shading:
        colour = colour * (1 - np.float32(0.13) * (u * light[0] + v * light[1]))[..., None]
    if style.outline != "none":
        edge = np.clip((distance + np.float32(OUTLINE)) * sharp + np.float32(0.5), 0, 1)[..., None]
        colour = colour + edge * (ink * np.float32(style.outline == "ink") - colour)
    cover = np.clip(np.float32(0.5) - distance * sharp, 0, 1)[..., None]
    image += cover * (colour - image)
    return distance


def pattern(texture: str, u: Plane, v: Plane) -> Plane:
    """Share of the second tone, 0 to 1, at points in an object's own frame (units of its radius)."""
    if texture == "plain":
        return np.zeros_like(u)
    if texture == "striped":
        return np.clip(
            np.sin((u + v) * np.float32(2 * np.pi * 1.05)) * np.float32(2.5) + np.float32(0.5), 0, 1
        )
    if texture == "dotted":
        period = np.float32(0.62)
        near = np.hypot((u / period) % 1 - np.float32(0.5), (v / period) % 1 - np.float32(0.5))
        return np.clip((np.float32(0.3) - near) * 7 + np.float32(0.5), 0, 1)
    wave = np.sin(u * np.float32(np.pi / 0.46)) * np.sin(v * np.float32(np.pi / 0.46))
    return np.clip(wave * 4 + np.float32(0.5), 0, 1)


def _melt_together(image, scene: Scene, artifact: Artifact, x: Plane, y: Plane) -> None:
    """Runs two objects into each other: a bridge between their outlines in which their colours mix."""
    box = _square(artifact.x, artifact.y, artifact.radius, len(x))
    x, y = x[box], y[box]
    (owner, item), (other_owner, other) = scene.items[artifact.item], scene.items[artifact.partner]
    group, other_group = scene.groups[owner], scene.groups[other_owner]
    first, _, _ = _field(group, item, x, y)
    second, _, _ = _field(other_group, other, x, y)
    reach = np.float32(0.13 + 0.07 * artifact.severity)
    blend = np.maximum(reach - np.abs(first - second), 0) / reach
    bridge = np.minimum(first, second) - blend * blend * reach * np.float32(0.55)
    inside = np.hypot(x - np.float32(artifact.x), y - np.float32(artifact.y)) < np.float32(artifact.radius)
    cover = np.where(inside, np.clip(np.float32(0.5) - bridge * 192, 0, 1), 0)[..., None]
    share = np.clip((first - second) / np.float32(0.1) + np.float32(0.5), 0, 1)[..., None]
    colour = group.rgb + share * (other_group.rgb - group.rgb)
    image[box] += cover * (colour - image[box])
