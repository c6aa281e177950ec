"""The features of a record by name, and the checks a value of each must pass."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from richhf.feedback import HEATMAPS, JPEG_SIGNATURE, PNG_SIGNATURE, UNDECODABLE, open_encoded, upright

SCORE_FEATURES = {
    "plausibility": "artifact_score",
    "alignment": "misalignment_score",
    "aesthetics": "aesthetics_score",
    "overall": "overall_score",
}
HEATMAP_FEATURES = {"implausibility": "artifact_map", "misalignment": "misalignment_map"}
LABEL_FEATURE = "prompt_misalignment_label"

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
IMAGE_FORMATS = ("PNG", "JPEG")
_IMAGE_SIGNATURES = (PNG_SIGNATURE, JPEG_SIGNATURE)


class RecordError(ValueError):
    """A record that is not as it should be.

    Attributes:
        file: the record file.
        index: position of the record in the file, from 0.
        feature: name of the `tf.train.Example` feature, or `record` when the record itself cannot be read.
        found: what is there.
        expected: what should be.
    """

    def __init__(self, file: str, index: int, feature: str, found: str, expected: str):
        super().__init__(file, index, feature, found, expected)
        self.file, self.index, self.feature, self.found, self.expected = file, index, feature, found, expected

    def __str__(self) -> str:
        place = f"{self.file}, record {self.index}, {self.feature}"
        return f"{place}: found {self.found}; expected {self.expected}"


@dataclasses.dataclass(frozen=True)
class Checker:
    """Checks of single values, knowing which record an error is about."""

    file: str
    index: int

    def error(self, feature: str, found: str, expected: str) -> RecordError:
        """Returns the error to raise."""
        return RecordError(self.file, self.index, feature, found, expected)

    def value(self, features: Mapping[str, Any], name: str, kind: str) -> Any:
        """Returns the single value of a feature of the given kind."""
        expected = f"one {_KINDS[kind]} value"
        if name not in features:
            there = ", ".join(sorted(features)) or "none"
            raise self.error(name, f"no such feature (there are: {there})", expected)
        found_kind = features[name].WhichOneof("kind")
        if found_kind != kind:
            found = f"{_KINDS[found_kind]} values" if found_kind else "an empty feature"
            raise self.error(name, found, expected)
        values = getattr(features[name], kind).value
        if len(values) != 1:
            raise self.error(name, f"{len(values)} values", expected)
        return values[0]

    def text(self, features: Mapping[str, Any], name: str) -> str:
        """Returns a feature's text."""
        value = self.value(features, name, "bytes_list")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise self.error(name, f"bytes {value[:20]!r}", "UTF-8 text") from error

    def score(self, feature: str, value: float) -> float:
        """Returns a score if it is a number in [0, 1]."""
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise self.error(feature, str(value), "a number in [0, 1]")
        return float(value)

    def heatmap(self, feature: str, encoded: bytes) -> UInt8[np.ndarray, "h w"]:
        """Decodes a heatmap, turned as people see it."""
        expected = "an 8-bit one-channel PNG or JPEG"
        try:
            verify_picture(encoded)
            image = upright(open_encoded(encoded, IMAGE_FORMATS), encoded)
            pixels = np.array(image)
        except UNDECODABLE as error:
            found = f"{len(encoded)} bytes that cannot be decoded ({reason(error)})"
            raise self.error(feature, found, expected) from error
        if image.mode != "L":
            raise self.error(feature, f"an image of mode {image.mode}", expected)
        return pixels

    def same_size(self, heatmaps: Mapping[str, np.ndarray]) -> None:
        """Passes if all heatmaps have one size."""
        first, second = (heatmaps[name].shape for name in HEATMAPS)
        if first != second:
            raise self.error(HEATMAP_FEATURES[HEATMAPS[1]], f"size {second}", f"{first} as {HEATMAPS[0]} has")

    def image(self, encoded: bytes) -> bytes:
        """Returns an encoded image if it starts as PNG or JPEG does; it is decoded only when it is used."""
        if not encoded.startswith(_IMAGE_SIGNATURES):
            found = f"{len(encoded)} bytes starting with {encoded[:8]!r}"
            raise self.error("image", found, "an encoded PNG or JPEG")
        return encoded


def verify_picture(encoded: bytes) -> None:
    """Passes if the pixels of a PNG are whole to their last checksum and its end is there, or for a JPEG.

    Pillow decodes a PNG whose last rows can be decoded; TensorFlow refuses it if a checksum is wrong.

    Raises:
        one of `UNDECODABLE`.
    """
    with open_encoded(encoded, IMAGE_FORMATS) as image:
        image.verify()


def reason(error: BaseException) -> str:
    """Why a picture cannot be decoded, without the address of a buffer that Pillow's messages may hold."""
    if isinstance(error, IndexError):
        return "no pixels in it"
    return "no known image format" if "cannot identify" in str(error) else str(error)
