"""Pictures for a page: numbers and images as the strings that HTML takes."""

import math

from PIL import Image

from richhf.feedback import Feedback
from richhf.feedback.drawing import data_uri

NOTHING = "–"
MIN_SIDE, MAX_SIDE = 192, 384


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
    """The picture as a `data:` URI, its longer side between `MIN_SIDE` and `MAX_SIDE` pixels."""
    return _jpeg(_fit(picture.convert("RGB"), MAX_SIDE))


def backdrop_uri(picture: Image.Image) -> str:
    """The picture in pale grey, to lay a map over: the map's colours then mean the map alone."""
    grey = _fit(picture.convert("L"), MIN_SIDE)
    return _jpeg(grey.point(lambda value: round(95 + 0.6 * value)))


def layer_uri(feedback: Feedback, name: str) -> str:
    """The map `name` as a transparent picture, see `Feedback.heatmap_layer`."""
    layer = feedback.heatmap_layer(name)
    layer.thumbnail((MIN_SIDE, MIN_SIDE), Image.Resampling.BOX)
    return data_uri(layer, "png", optimize=True)


def _fit(picture: Image.Image, largest: int) -> Image.Image:
    side = max(picture.size)
    # Browsers enlarge small pictures to a blur: a whole factor and a sharper filter keep their edges.
    factor = min(largest / side, max(1, math.ceil(MIN_SIDE / side)))
    size = (max(1, round(factor * picture.width)), max(1, round(factor * picture.height)))
    return picture if factor == 1 else picture.resize(size, Image.Resampling.LANCZOS)


def _jpeg(picture: Image.Image) -> str:
    # Not optimize=True: Pillow then needs the whole file in one buffer, too small a one for noise.
    return data_uri(picture, "jpeg", quality=90, subsampling=0)
