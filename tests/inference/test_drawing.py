import base64
import io

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import Feedback
from richhf.inference.drawing import MAX_SIDE, MIN_SIDE, backdrop_uri, layer_uri, number, percent, picture_uri


def opened(uri):
    head, data = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.5564, 3, ".556"),
        (1.652, 3, "1.652"),
        (-0.0101, 3, "−.010"),
        (-0.0001, 3, ".000"),
        (1.0, 2, "1.00"),
        (0.0092, 5, ".00920"),
        (12.0, 0, "12"),
        (0.0, 0, "0"),
        (None, 3, "–"),
        (float("nan"), 3, "–"),
    ],
)
def test_numbers_read_as_in_the_paper(value, digits, text):
    assert number(value, digits) == text


def test_percent():
    assert percent(0.734) == "73\u202f%"
    assert percent(None) == "–"


@pytest.mark.parametrize(
    ("size", "shown"),
    [((64, 64), (192, 192)), ((100, 50), (200, 100)), ((300, 200), (300, 200)), ((768, 512), (384, 256))],
)
def test_pictures_are_brought_to_a_fitting_size(size, shown):
    picture = Image.new("RGB", size, (200, 30, 90))
    assert opened(picture_uri(picture)).size == shown
    assert max(shown) <= MAX_SIDE
    backdrop = opened(backdrop_uri(picture))
    assert backdrop.mode == "L"
    assert max(backdrop.size) <= max(MIN_SIDE, 200)


def test_noise_fits_in_a_page():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 500, 3)).astype(np.uint8))
    assert opened(picture_uri(noise)).size == (384, 307)


def test_a_layer_keeps_its_transparency():
    heatmap = np.zeros((64, 64), np.float32)
    heatmap[:, 32:] = 1.0
    layer = opened(layer_uri(Feedback("", heatmaps={"misalignment": heatmap}), "misalignment"))
    assert (layer.size, layer.mode) == ((64, 64), "RGBA")
    assert (layer.getpixel((0, 0))[3], layer.getpixel((63, 0))[3]) == (0, 255)
