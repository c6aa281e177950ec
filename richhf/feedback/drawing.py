"""Maps as pictures, alone and over their image."""

import base64
import io
import os
import pathlib

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from richhf.feedback.encoded import open_encoded, upright

# The annotation page of the paper (section 3) marks artifacts red and misalignments blue. Each map runs from
# a light tone (near 0) to a deep one (1), so that its value reads as depth and not only as opacity.
HEATMAP_COLOURS = {
    "implausibility": ((255, 190, 40), (205, 10, 55)),
    "misalignment": ((40, 205, 225), (50, 45, 205)),
}

ImageLike = Image.Image | UInt8[np.ndarray, "_ _ 3"] | str | os.PathLike


def open_image(image: ImageLike) -> Image.Image:
    """Returns an RGB picture, turned as people see it (`richhf.feedback.upright`), by the rule of `to_rgb`.

    Args:
        image: a path, a PIL picture, or a uint8 array `[h w 3]`, which is taken as it is.
    """
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        return to_rgb(upright(image))
    encoded = pathlib.Path(image).read_bytes()
    with open_encoded(encoded) as picture:
        return to_rgb(upright(picture, encoded))


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode in RGB, of which transparency and colour profile are not looked at.

    Of 16 bits (modes I;16 and I: PNG, TIFF and PGM files) the upper eight count: 65535 is white.

    Raises:
      ValueError: a mode whose values could mean anything (F, or I beyond 16 bits), or that is never RGB.
    """
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(picture)
        if mode == "F" or (values.size and not (values.min() >= 0 and values.max() <= 65535)):
            raise ValueError(
                f"a picture of mode {mode} with values from {values.min():g} to {values.max():g}; expected 8 "
                "bits a channel, or 16 bits from 0 to 65535. Scale it to 8 bits first, such as "
                "np.uint8(np.round(255 * x)) where x is from 0 to 1."
            )
        return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise ValueError(f"a picture of mode {mode}: {error}; expected one to be had as RGB.") from error


def draw_layer(
    heatmap: Float[np.ndarray, "h w"], name: str, size: tuple[int, int] | None = None
) -> Image.Image:
    """The map as an RGBA picture to lay over an image: colour and opacity grow with the value.

    Args:
      heatmap: values in [0, 1].
      name: one of `HEATMAPS`, whose colours are taken.
      size: (height, width) of the picture; the map's own size if absent.
    """
    if size is not None and size != heatmap.shape:
        heatmap = np.asarray(Image.fromarray(heatmap).resize(size[::-1], Image.Resampling.BILINEAR))
    value = np.clip(heatmap, 0.0, 1.0)[..., None]
    low, high = (np.asarray(colour, np.float32) for colour in HEATMAP_COLOURS[name])
    # The power lifts what one of three annotators marked, with little haze from a model's small values.
    rgba = np.concatenate([low + (high - low) * value, 255.0 * value**0.7], axis=-1)
    return Image.fromarray(np.round(rgba).astype(np.uint8))


def draw_overlay(heatmap: Float[np.ndarray, "h w"], name: str, image: ImageLike, alpha: float) -> Image.Image:
    """The map over the greyed image; arguments as of `Feedback.overlay`."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is the map's opacity, in [0, 1], but is {alpha}.")
    picture = open_image(image)
    layer = draw_layer(heatmap, name, (picture.height, picture.width))
    layer.putalpha(layer.getchannel("A").point(lambda value: round(alpha * value)))
    backdrop = Image.blend(picture, picture.convert("L").convert("RGB"), 0.7).convert("RGBA")
    return Image.alpha_composite(backdrop, layer).convert("RGB")


def data_uri(picture: Image.Image, kind: str, **options) -> str:
    """A picture as a `data:` URI, to stand in a page.

    Args:
      picture: of a mode that the kind of file has.
      kind: `png` or `jpeg`.
      **options: of Pillow's writer.
    """
    file = io.BytesIO()
    picture.save(file, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
