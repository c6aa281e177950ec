"""Whether an image can be used, and as which bytes."""

import contextlib
import dataclasses
import functools
import io
import warnings
from collections.abc import Iterator

from PIL import Image

from richhf.data.checks import IMAGE_FORMATS, UNDECODABLE, reason, verify_picture
from richhf.data.prepare.problems import Kind
from richhf.feedback import open_encoded, orientation_of, to_rgb, upright

_READ = (*IMAGE_FORMATS, "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pnm", ".jp2", ".avif"}
)
"""Endings of image files, in lower case."""


class UnusableImage(ValueError):
    """An image that cannot be used.

    Attributes:
        kind: `Kind.IMAGE` or `Kind.BOMB`.
        detail: what was found and what was expected.
    """

    def __init__(self, kind: Kind, detail: str):
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


@dataclasses.dataclass(frozen=True)
class CheckedImage:
    """An image that decodes.

    Attributes:
        encoded: PNG or JPEG; the bytes as found unless they were converted.
        converted: whether they were.
        format: the format they were found in, as Pillow names it.
        width: in pixels.
        height: in pixels.
    """

    encoded: bytes = dataclasses.field(repr=False)
    converted: bool
    format: str
    width: int
    height: int


def check_image(found: bytes, *, max_pixels: int, reencode: bool = False) -> CheckedImage:
    """Decodes an image to see that it can be, after a look at its size.

    PNG and JPEG keep their bytes. Other formats are converted to PNG without loss, JPEG too if `reencode`;
    of several frames the first is taken. A picture with an orientation is turned as people see it and becomes
    a PNG, so that every reader of the records sees the same.

    Args:
        found: the encoded image.
        max_pixels: the most pixels to decode.
        reencode: convert JPEG too.

    Raises:
        UnusableImage: if it has too many pixels or cannot be decoded.
    """
    with warnings.catch_warnings():
        # Pillow warns of sizes that `max_pixels` decides on, and of oddities that do no harm.
        warnings.simplefilter("ignore")
        image, kind = load_image(found, max_pixels=max_pixels)
        turned = orientation_of(found) != 1
        convert = kind not in IMAGE_FORMATS or (reencode and kind != "PNG") or turned
        with _explained(found, f"expected at most {max_pixels:,} pixels"):
            encoded = _to_png(image) if convert else found
    return CheckedImage(encoded, convert, kind, image.width, image.height)


def load_image(found: bytes, *, max_pixels: int, setting: str = "--max-pixels") -> tuple[Image.Image, str]:
    """Decodes an image after a look at its size, and turns it as people see it.

    Pillow's warnings are left to the caller.

    Args:
        found: the encoded image.
        max_pixels: the most pixels to decode.
        setting: what sets them, for the error.

    Returns:
        the picture, and its format as Pillow names it.

    Raises:
        UnusableImage: if it has too many pixels or cannot be decoded.
    """
    formats = _formats()  # what fails here says nothing of the image
    with _explained(found, f"expected at most {max_pixels:,} ({setting})"):
        image = open_encoded(found, formats)
        pixels = image.width * image.height
        if pixels > max_pixels:
            size = f"{image.width} x {image.height} = {pixels:,} pixels"
            raise UnusableImage(Kind.BOMB, f"{size}; expected at most {max_pixels:,} ({setting})")
        kind = _format_of(image)
        if kind in IMAGE_FORMATS:
            verify_picture(found)
        return upright(image, found), kind


@contextlib.contextmanager
def _explained(found: bytes, limit: str) -> Iterator[None]:
    """Turns what Pillow raises inside the block into `UnusableImage`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UnusableImage(Kind.BOMB, f"{error}; {limit}") from error
    except UnusableImage:
        raise
    except UNDECODABLE as error:
        detail = f"{len(found):,} bytes starting with {found[:8]!r} cannot be decoded ({reason(error)})"
        raise UnusableImage(Kind.IMAGE, f"{detail}; expected {', '.join(_READ)}") from error


def _format_of(image: Image.Image) -> str:
    """The format as Pillow names it; a JPEG with further pictures after the first (MPO) is a JPEG to all who
    read it.
    """
    return "JPEG" if image.format == "MPO" else str(image.format)


def image_size(found: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG by its head alone; None if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return open_encoded(found, IMAGE_FORMATS).size
    except UNDECODABLE:
        return None


@functools.cache
def _formats() -> tuple[str, ...]:
    """What this Pillow reads of `_READ`."""
    Image.init()
    return tuple(name for name in _READ if name in Image.OPEN)


def _to_png(image: Image.Image) -> bytes:
    if image.mode not in _PNG_MODES:
        image = to_rgb(image)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
