"""Signed distance fields of the shapes: negative inside, in units of the object's radius, y downwards."""

import numpy as np
from jaxtyping import Float

ROOT3_2 = np.float32(np.sqrt(3) / 2)


def shape_distance(
    shape: str, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Distance to a shape's outline at points given relative to its centre, as float32."""
    return _DISTANCES[shape](x, -y)


def _circle(x, y):
    return np.hypot(x, y) - np.float32(0.97)


def _ring(x, y):
    return np.abs(np.hypot(x, y) - np.float32(0.7)) - np.float32(0.28)


def _square(x, y):
    ax, ay = np.abs(x) - np.float32(0.76), np.abs(y) - np.float32(0.76)
    outside = np.hypot(np.maximum(ax, 0), np.maximum(ay, 0))
    return outside + np.minimum(np.maximum(ax, ay), 0) - np.float32(0.06)


def _triangle(x, y):
    y = y + np.float32(0.1)
    slanted = ROOT3_2 * np.abs(x) + np.float32(0.5) * y
    return np.maximum(slanted, -y) - np.float32(0.56)


def _star(x, y):
    """A five-pointed star: the plane is folded on its symmetry axes, then one edge is left."""
    cos, sin = np.float32(0.809016994), np.float32(0.587785252)
    x = np.abs(x)
    fold = 2 * np.maximum(cos * x - sin * y, 0)
    x, y = x - fold * cos, y + fold * sin
    fold = 2 * np.maximum(-cos * x - sin * y, 0)
    x, y = x + fold * cos, y + fold * sin
    x, y = np.abs(x), y - np.float32(1.12)
    edge_x, edge_y = np.float32(0.46) * sin, np.float32(0.46) * cos - 1
    along = np.clip((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2), 0, np.float32(1.12))
    side = np.sign(y * edge_x - x * edge_y)
    return np.hypot(x - edge_x * along, y - edge_y * along) * side


def _heart(x, y):
    scale = np.float32(0.58)
    x, y = np.abs(x) * scale, y * scale + np.float32(0.55)
    lobe = np.hypot(x - np.float32(0.25), y - np.float32(0.75)) - np.float32(np.sqrt(2) / 4)
    ridge = np.float32(0.5) * np.maximum(x + y, 0)
    point = np.minimum(np.hypot(x, y - 1), np.hypot(x - ridge, y - ridge)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, point) / scale


_DISTANCES = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
}
