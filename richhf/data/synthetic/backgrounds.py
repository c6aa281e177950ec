"""The backgrounds: one plain colour, or a gradient with a few soft, large forms that never look damaged."""

import numpy as np
from jaxtyping import Float

from richhf.data.synthetic.concepts import BACKDROPS

Plane = Float[np.ndarray, "h w"]

# Mean colour of every scenery, for the contrast of objects against it.
TONES = {
    "night": (0.10, 0.12, 0.30),
    "snow": (0.86, 0.91, 0.96),
    "desert": (0.89, 0.74, 0.50),
    "meadow": (0.60, 0.82, 0.52),
    "sea": (0.38, 0.74, 0.80),
    "sunset": (0.93, 0.58, 0.46),
}


def paint_background(name: str, x: Plane, y: Plane, phases: tuple[float, ...]) -> Float[np.ndarray, "h w 3"]:
    """Returns the float32 RGB of a background at points in [0, 1] (x to the right, y downwards).

    Args:
        name: a scenery (a key of `TONES`) or a plain colour (a key of `BACKDROPS`).
        x: see above.
        y: see above.
        phases: numbers in [0, 1) that vary the background.
    """
    if name in BACKDROPS:
        return np.tile(tone(name, phases), (*x.shape, 1))
    return _PAINTERS[name](x, y, phases)


def tone(name: str, phases: tuple[float, ...]) -> Float[np.ndarray, "3"]:
    """Returns the mean float32 RGB of a background."""
    if name not in BACKDROPS:
        return np.asarray(TONES[name], np.float32)
    first, last = np.asarray(BACKDROPS[name], np.float32)
    return first + np.float32(phases[0]) * (last - first)


def _gradient(y, top, bottom):
    top, bottom = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
    return top + y[..., None] * (bottom - top)


def _hills(image, x, y, phases, height, colour, swing=0.045, soft=0.012):
    ridge = height + swing * np.sin(2 * np.pi * (x * (0.8 + 0.7 * phases[0]) + phases[1])).astype(np.float32)
    cover = np.clip((y - ridge) / soft + 0.5, 0, 1)[..., None]
    return image + cover * (np.asarray(colour, np.float32) - image)


def _glow(image, x, y, centre, radius, colour, strength):
    near = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / np.float32(radius**2))
    return image + (strength * near)[..., None] * (np.asarray(colour, np.float32) - image)


def _night(x, y, phases):
    image = _gradient(y, (0.05, 0.06, 0.20), (0.19, 0.18, 0.42))
    image = _glow(image, x, y, (phases[2], 0.1), 0.35, (0.45, 0.50, 0.80), 0.55)
    return _hills(image, x, y, phases, 0.85, (0.06, 0.08, 0.20))


def _snow(x, y, phases):
    image = _gradient(y, (0.72, 0.83, 0.94), (0.92, 0.95, 0.98))
    image = _hills(image, x, y, phases, 0.62, (0.86, 0.90, 0.95))
    return _hills(image, x, y, phases[2:], 0.82, (0.97, 0.98, 0.99))


def _desert(x, y, phases):
    image = _gradient(y, (0.98, 0.88, 0.70), (0.94, 0.78, 0.54))
    image = _hills(image, x, y, phases, 0.58, (0.89, 0.70, 0.44))
    return _hills(image, x, y, phases[2:], 0.8, (0.81, 0.59, 0.34))


def _meadow(x, y, phases):
    image = _gradient(y, (0.72, 0.89, 0.96), (0.86, 0.95, 0.90))
    image = _hills(image, x, y, phases, 0.45, (0.58, 0.80, 0.42))
    return _hills(image, x, y, phases[2:], 0.74, (0.45, 0.71, 0.33))


def _sea(x, y, phases):
    image = _gradient(y, (0.74, 0.92, 0.95), (0.60, 0.86, 0.90))
    image = _hills(image, x, y, phases, 0.36, (0.30, 0.70, 0.80), swing=0.015)
    return _hills(image, x, y, phases[2:], 0.7, (0.17, 0.56, 0.70), swing=0.025)


def _sunset(x, y, phases):
    image = _gradient(y, (0.56, 0.38, 0.62), (1.0, 0.66, 0.40))
    image = _glow(image, x, y, (0.2 + 0.6 * phases[2], 0.8), 0.4, (1.0, 0.86, 0.55), 0.8)
    return _hills(image, x, y, phases, 0.86, (0.45, 0.26, 0.36))


_PAINTERS = {
    "night": _night,
    "snow": _snow,
    "desert": _desert,
    "meadow": _meadow,
    "sea": _sea,
    "sunset": _sunset,
}
