"""From an image of any size and shape to the model's square, without TensorFlow: the pixels of training.

One rule: the whole image becomes a square whatever its shape was (see `tasks.pictures`, which does the same
in the input pipeline): averages of areas where both sides shrink, bilinear where both grow, antialiased
bilinear elsewhere. Pictures are turned as people see them (`richhf.feedback.upright`); colour profile and
transparency do not count, as in training; of several frames the first counts.

The arithmetic is that of TensorFlow's kernels (`resize_area_op.cc`, `resize_bilinear_op.cc`,
`scale_and_translate_op.cc`; version 2.21): float32, in their order, so that the pixels are the same and not
only close.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float32, Int, UInt8
from PIL import Image

from richhf.data.checks import UNDECODABLE, reason
from richhf.data.prepare.images import UnusableImage, load_image
from richhf.data.prepare.problems import Kind
from richhf.feedback import to_rgb, upright

MAX_PIXELS = 64_000_000
_HALF, _ONE = np.float32(0.5), np.float32(1)

Taps = tuple[Int[np.ndarray, "t n"], Float32[np.ndarray, "t n"]]
"""For each of n results the indices and the weights of what it is the sum of; weight 0 fills up."""


def decode_image(encoded: bytes, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image of any format that `richhf prepare` takes.

    Args:
      encoded: the content of its file.
      max_pixels: larger images are not decoded.

    Raises:
      UnusableImage: it is damaged, of an unknown format or too large.
    """
    picture, _ = load_image(encoded, max_pixels=max_pixels, setting="MAX_PIXELS")
    return rgb_pixels(picture)


def rgb_pixels(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of a picture, turned as people see it, by the rule of `richhf.feedback.to_rgb`.

    Raises:
      UnusableImage: it is of a mode that says too little, or of a file that turns out to be damaged.
    """
    try:
        return np.array(to_rgb(upright(image)))
    except UNDECODABLE as error:
        raise UnusableImage(Kind.IMAGE, reason(error)) from error


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Silences Pillow's warnings of oddities that do no harm; around all threads, as filters are shared."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def fit_image(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "s s 3"]:
    """Resizes to a square; an image of that size already is given back as it is.

    Args:
      image: of any size.
      side: in pixels.
    """
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    if min(height, width) >= side:
        rows, columns = _area_taps(height, side), _area_taps(width, side)
        scales = np.float32(height) / np.float32(side) * (np.float32(width) / np.float32(side))
        values = _sum(_sum(image, columns, axis=1), rows, axis=0) * (_ONE / scales)
    elif max(height, width) <= side:
        values = _interpolate(image, side)
    else:
        rows, columns = _triangle_taps(height, side), _triangle_taps(width, side)
        values = _sum(_sum(image, rows, axis=0), columns, axis=1)
    return np.rint(values).astype(np.uint8)


def fit_weights(
    height: int, width: int, side: int
) -> tuple[Float32[np.ndarray, "s h"], Float32[np.ndarray, "s w"]]:
    """What `fit_image` does before it rounds, as matrices for rows and for columns."""

    def matrix(size: int) -> Float32[np.ndarray, "s n"]:
        if min(height, width) >= side:
            indices, weights = _area_taps(size, side)
            weights = weights * np.float32(side / size)
        elif max(height, width) <= side:
            lower, upper, share = _neighbours(size, side)
            indices, weights = np.stack([lower, upper]), np.stack([1 - share, share])
        else:
            indices, weights = _triangle_taps(size, side)
        result = np.zeros((side, size), np.float32)
        np.add.at(result, (np.arange(side)[None], indices), weights)
        return result

    return matrix(height), matrix(width)


def _sum(values: np.ndarray, taps: Taps, *, axis: int) -> Float32[np.ndarray, "h w 3"]:
    """Weighted sums along an axis, one tap after the other."""
    shape = [1, 1, 1]
    shape[axis] = -1
    total = np.float32(0)
    for indices, weights in zip(*taps, strict=True):
        total = total + values.take(indices, axis).astype(np.float32) * weights.reshape(shape)
    return np.asarray(total)


def _area_taps(size: int, side: int) -> Taps:
    """Each result is the part of the line that it covers; a pixel that is covered in part counts in part."""
    scale = np.float32(size) / np.float32(side)
    begin = np.arange(side, dtype=np.float32) * scale
    end = np.arange(1, side + 1, dtype=np.float32) * scale
    first, last = np.floor(begin), np.ceil(end)
    pixels = first + np.arange(int((last - first).max()), dtype=np.float32)[:, None]
    after = np.where(pixels + 1 > end, scale, pixels + _ONE - begin)
    inside = np.where(pixels + 1 > end, end - pixels, _ONE)
    weights = np.where(pixels < begin, after, inside)
    weights = np.where(pixels < last, weights, np.float32(0)).astype(np.float32)
    return np.clip(pixels.astype(np.int64), 0, size - 1), weights


def _triangle_taps(size: int, side: int) -> Taps:
    """A triangle as wide as the pixels that a result stands for, and no narrower than one pixel."""
    inverse = np.float32(1.0 / np.float64(np.float32(side) / np.float32(size)))
    reach = max(inverse, _ONE)
    samples = (np.arange(side, dtype=np.float32) + _HALF) * inverse
    first = np.clip(np.ceil(samples - reach - _HALF), 0, size - 1)
    last = np.clip(np.floor(samples + reach - _HALF), 0, size - 1)
    pixels = first + np.arange(int((last - first).max()) + 1, dtype=np.float32)[:, None]
    distances = np.abs((pixels + _HALF - samples) * (_ONE / reach))
    weights = np.where(pixels <= last, np.maximum(_ONE - distances, np.float32(0)), np.float32(0))
    total = np.float32(0)
    for weight in weights:
        total = total + weight
    return np.clip(pixels.astype(np.int64), 0, size - 1), weights * (_ONE / total)


def _interpolate(image: UInt8[np.ndarray, "h w 3"], side: int) -> Float32[np.ndarray, "s s 3"]:
    """Between the four pixels around each place."""
    (top, bottom, down), (left, right, across) = (_neighbours(size, side) for size in image.shape[:2])
    values, down, across = image.astype(np.float32), down[:, None, None], across[:, None]

    def along(rows: np.ndarray) -> np.ndarray:
        line = values[rows]
        before = line[:, left]
        return before + (line[:, right] - before) * across

    above = along(top)
    return above + (along(bottom) - above) * down


def _neighbours(size: int, side: int) -> tuple[np.ndarray, np.ndarray, Float32[np.ndarray, " s"]]:
    """The pixels before and after each place on a line, and how far it is from one to the other."""
    scale = np.float32(size) / np.float32(side)
    places = (np.arange(side, dtype=np.float32) + _HALF) * scale - _HALF
    before = np.floor(places)
    lower, upper = np.maximum(before, 0), np.minimum(np.ceil(places), size - 1)
    return lower.astype(np.int64), upper.astype(np.int64), places - before
