import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from richhf.data.prepare.images import UnusableImage, check_image
from richhf.data.prepare.uids import to_uid

PIXELS = np.random.default_rng(3).integers(0, 256, (9, 7, 4), dtype=np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode: str) -> Image.Image:
    return Image.fromarray(PIXELS).convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "L")]
)
def test_png_and_jpeg_keep_their_bytes(kind, mode):
    found = encode(picture(mode), kind)
    checked = check_image(found, max_pixels=63)
    assert (checked.encoded, checked.format, checked.converted) == (found, kind, False)
    assert (checked.width, checked.height) == (7, 9)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True, "exact": True}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "L", {}),
        ("PPM", "RGB", {}),
        ("JPEG2000", "RGB", {}),
    ],
)
def test_other_formats_become_png_with_the_same_pixels(kind, mode, options):
    found = encode(picture(mode), kind, **options)
    checked = check_image(found, max_pixels=100)
    assert (checked.format, checked.converted) == (kind, True)
    one, other = Image.open(io.BytesIO(checked.encoded)), Image.open(io.BytesIO(found))
    assert one.format == "PNG"
    np.testing.assert_array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))
    if mode == "RGBA":
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_reencode_converts_jpeg_and_png_is_png():
    jpeg, png = encode(picture("RGB"), "JPEG"), encode(picture("RGB"), "PNG")
    checked = check_image(jpeg, max_pixels=100, reencode=True)
    assert checked.converted
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(checked.encoded))), np.asarray(Image.open(io.BytesIO(jpeg)))
    )
    assert check_image(png, max_pixels=100, reencode=True).encoded == png


def test_the_limit_is_on_pixels_and_looked_at_before_decoding():
    found = encode(picture("RGB"), "PNG")
    with pytest.raises(UnusableImage) as caught:
        check_image(found[:45], max_pixels=62)  # the head alone
    assert caught.value.kind.value == "image of too many pixels"
    assert caught.value.detail == "7 x 9 = 63 pixels; expected at most 62 (--max-pixels)"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
    st.booleans(),
)
def test_damaged_images_are_usable_or_said_not_to_be(kind, place, byte, cut):
    found = bytearray(encode(picture("RGB"), kind))
    found[int(place * len(found))] = byte
    if cut:
        found = found[: int(place * len(found))]
    try:
        checked = check_image(bytes(found), max_pixels=10_000)
    except UnusableImage:
        return
    assert Image.open(io.BytesIO(checked.encoded)).convert("RGB").size == (checked.width, checked.height)


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("train/0a-1b.png", "0a-1b"),
        ("0a-1b.JPG", "0a-1b"),
        ("0a-1b", "0a-1b"),
        (r"C:\images\0a.webp", "0a"),
        ("v1.5/a.b", "a.b"),
        (b"test/0a.png", "0a"),
        (" 0a \n", "0a"),
        (17, "17"),
        (None, ""),
        (0.5, ""),
        ("", ""),
    ],
)
def test_a_uid_is_the_last_part_of_a_name_without_the_ending_of_an_image(name, uid):
    assert to_uid(name) == uid
