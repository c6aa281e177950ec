"""What a person hands to a predictor: one image or many, one prompt or many."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from richhf.data.checks import UNDECODABLE
from richhf.data.prepare.images import UnusableImage
from richhf.feedback import ImageLike
from richhf.inference.inputs import shortened
from richhf.inference.pictures import rgb_pixels

_LISTED = 5
_EXPECTED = "a path, a PIL image or a uint8 array [h w 3]"


def pair_up(images: Any, prompts: Any) -> list[tuple[ImageLike, str]]:
    """Images with their prompts.

    Args:
      images: one image (a path, a PIL image, a uint8 array [h w 3]), or several: a sequence of them, or an
        array [n h w 3].
      prompts: one text, or a sequence of them. One image or one text that is given alone, not in a sequence,
        goes with all of the other side.

    Raises:
      ValueError: the numbers differ, something is neither an image nor a prompt, or a file is not there.
    """
    alone = isinstance(images, str | os.PathLike | Image.Image) or getattr(images, "ndim", None) in (2, 3)
    alone |= hasattr(images, "read")
    found = [images] if alone else listed("images", images, _EXPECTED)
    texts = [prompts] if isinstance(prompts, str) else listed("prompts", prompts, "a text")
    if alone:
        found *= max(len(texts), 1)
    if isinstance(prompts, str):
        texts *= len(found)
    if len(found) != len(texts):
        raise ValueError(
            f"{len(found)} images but {len(texts)} prompts: expected a prompt for each image, or one "
            "image or one prompt alone (not in a list) for all."
        )
    for index, (image, text) in enumerate(zip(found, texts, strict=True)):
        check_image(image, f"image {index}")
        check_prompt(text, f"prompt {index}")
    _check_there(found)
    return list(zip(found, texts, strict=True))


def check_image(image: Any, name: str) -> None:
    """Raises ValueError, which says what was expected, for what is no image; files are not opened."""
    if isinstance(image, str | os.PathLike):
        return
    if isinstance(image, Image.Image):
        _check_picture(image, name)
        return
    if not isinstance(image, np.ndarray):
        move = "; of an open file give the path, or PIL.Image.open(file)" if hasattr(image, "read") else ""
        raise ValueError(f"{name} is a {type(image).__name__}; expected {_EXPECTED}{move}.")
    told = f"{name} is an array of {image.dtype} {list(image.shape)}"
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        move = "; move the channels last (transpose(1, 2, 0))" if image.shape[:1] == (3,) else ""
        if image.ndim == 2:
            move = "; of a grey image: np.repeat(image[..., None], 3, axis=-1)"
        if 0 in image.shape:
            move = "; it has no pixels"
        raise ValueError(f"{told}; expected {_EXPECTED}{move}.")
    if image.dtype != np.uint8:
        move = ""
        if image.dtype.kind == "f":
            low, high = float(image.min()), float(image.max())
            move = f" (it spans {low:g} to {high:g}: np.uint8(np.round(255 * x)) where that is 0 to 1)"
            if not np.isfinite([low, high]).all():
                move = f" ({np.sum(~np.isfinite(image)):,} of its values are NaN or infinite)"
        elif image.dtype.kind == "b":
            move = " (of black and white: np.uint8(255 * x))"
        elif image.dtype.kind in "iu":
            bits = "x // 256" if image.max() > 255 else "x"
            most = 65535 if image.max() > 255 else 255
            move = f" (it spans {image.min()} to {image.max()}: np.uint8({bits}) where that is 0 to {most})"
        raise ValueError(f"{told}; expected uint8{move}.")


def _check_picture(picture: Image.Image, name: str) -> None:
    if 0 in picture.size:
        raise ValueError(f"{name} is a picture of {picture.width} x {picture.height} pixels; expected some.")
    if _is_closed(picture):
        raise ValueError(f"{name} is a picture that was closed; expected one that is open, or its path.")
    try:
        # The values of a mode that is always refused are told; others are looked at when their turn comes.
        rgb_pixels(picture if picture.mode == "F" else Image.new(picture.mode, (1, 1)))
    except UnusableImage as error:
        raise ValueError(f"{name}: {error.kind}: {error.detail}") from error


def _is_closed(picture: Image.Image) -> bool:
    file = getattr(picture, "fp", None)
    if file is not None and not getattr(file, "closed", False):
        return False
    try:
        picture.load()
    except (*UNDECODABLE, AssertionError, AttributeError):
        return True
    return False


def check_prompt(text: Any, name: str) -> None:
    """Raises ValueError for what is no text, has nothing in it, or cannot be written as UTF-8."""
    expected = "expected the text that the image was made from"
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {text!r:.60}; {expected}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"{text[error.start]!a} at {error.start}, half a character"
        raise ValueError(f"{name} has {found}; {expected}, as UTF-8 has it.") from error


def check_count(setting: str, value: Any) -> int:
    """A setting that is a whole number from 1 on.

    Raises:
      ValueError: it is something else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{setting} is {value!r}; expected a whole number, 1 or more.")
    return int(value)


def image_content(image: ImageLike) -> bytes | Image.Image | np.ndarray:
    """An image as `Encoder` takes it: of a path, what the file holds.

    Raises:
      ValueError: there is no such file.
    """
    if not isinstance(image, str | os.PathLike):
        return image
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{shortened(os.fspath(image))!r} cannot be read: {why}") from error


def explained(image: ImageLike, index: int, error: UnusableImage) -> ValueError:
    """An error that says which image it is about."""
    path = f", {shortened(os.fspath(image))!r}" if isinstance(image, str | os.PathLike) else ""
    return ValueError(f"image {index}{path}: {error.kind}: {error.detail}")


def _check_there(images: Sequence[ImageLike]) -> None:
    paths = dict.fromkeys(str(os.fspath(one)) for one in images if isinstance(one, str | os.PathLike))
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        listed = ", ".join(repr(shortened(path)) for path in missing[:_LISTED])
        more = f" and {len(missing) - _LISTED:,} more" if len(missing) > _LISTED else ""
        raise ValueError(f"no such file: {listed}{more}; expected the paths of image files.")


def listed(name: str, values: Any, expected: str) -> list[Any]:
    """Several values as a list.

    Raises:
      ValueError: they are none; `expected` says what each should be.
    """
    if isinstance(values, set | frozenset):
        raise ValueError(f"{name} are a set, which has no order; expected a list, each {expected}.")
    single = isinstance(values, bytes | dict) or getattr(values, "ndim", None) == 0
    if single or not hasattr(values, "__iter__"):
        raise ValueError(f"{name} are a {type(values).__name__}; expected {expected}, or a sequence of them.")
    return list(values)
