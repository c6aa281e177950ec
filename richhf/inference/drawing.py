"""Pictures for a page: numbers and images as the strings that HTML takes."""

import base64
import io
import math

from PIL import Image

from richhf.feedback import Feedback

NOTHING = "–"
MAX_SIDE = 384
MAX_LAYER_SIDE = 192
_LOSSLESS_SIDE = 128  # small pictures are cheap exactly; larger ones are photographs


def number(value: float | None, digits: int = 3) -> str:
    """A number as the paper's tables print it: `.556`, `−.010`, `1.652`; a dash where there is none.

    Args:
      value: any real number; None and NaN mean that it is not defined.
      digits: digits after the point.
    """
    if value is None or math.isnan(value):
        return NOTHING
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if "." in text else text
    negative = value < 0 and float(text) != 0
    return f"−{text}" if negative else text


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage, `73 %`; a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{100 * value:.{digits}f}\u202f%"


def picture_uri(picture: Image.Image) -> str:
    """The picture as a `data:` URI, at most `MAX_SIDE` pixels wide and high."""
    picture = _shrink(picture.convert("RGB"), MAX_SIDE)
    return _lossless(picture) if max(picture.size) <= _LOSSLESS_SIDE else _jpeg(picture)


def backdrop_uri(picture: Image.Image) -> str:
    """The picture in pale grey, to lay a map over: the map's colours then mean the map alone."""
    grey = _shrink(picture.convert("L"), MAX_LAYER_SIDE)
    grey = grey.point(lambda value: round(95 + 0.6 * value))
    return _lossless(grey) if max(grey.size) <= _LOSSLESS_SIDE else _jpeg(grey)


def layer_uri(feedback: Feedback, name: str) -> str:
    """The map `name` as a transparent picture, see `Feedback.heatmap_layer`."""
    return _lossless(_shrink(feedback.heatmap_layer(name), MAX_LAYER_SIDE))


def _shrink(picture: Image.Image, side: int) -> Image.Image:
    factor = side / max(picture.size)
    if factor >= 1:
        return picture
    size = tuple(max(1, round(factor * length)) for length in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _lossless(picture: Image.Image) -> str:
    return _uri(picture, "png", optimize=True)


def _jpeg(picture: Image.Image) -> str:
    return _uri(picture, "jpeg", quality=85, optimize=True)


def _uri(picture: Image.Image, kind: str, **options) -> str:
    file = io.BytesIO()
    picture.save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
