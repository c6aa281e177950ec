import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from richhf.data.prepare.images import UnusableImage, check_image
from richhf.feedback import open_image
from richhf.inference.pictures import decode_image, fit_image, rgb_pixels
from tasks.pictures import decode_pictures, resize


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("shape", ["shrinks", "grows", "both"])
def test_pixels_are_those_of_the_input_pipeline(shape):
    rng = np.random.default_rng(len(shape))
    for seed in range(25):
        side = int(rng.integers(2, 60))
        low, high = {"shrinks": (side, 4 * side), "grows": (1, side), "both": (1, 3 * side)}[shape]
        image = picture(*rng.integers(low, high + 1, 2), seed)
        expected = resize(tf.constant(image[None]), side).numpy()[0]
        np.testing.assert_array_equal(fit_image(image, side), expected, err_msg=f"{image.shape} to {side}")


def test_a_fitting_image_is_left_alone():
    image = picture(16, 16)
    assert fit_image(image, 16) is image


def encode(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()


def encodings():
    colours = Image.fromarray(picture(6, 9)).resize((45, 34), Image.Resampling.BICUBIC)
    grey = np.asarray(colours.convert("L"))
    alpha = colours.copy()
    alpha.putalpha(Image.fromarray(grey))
    yield "png", encode(colours, format="PNG")
    yield "alpha", encode(alpha, format="PNG")
    yield "16 bits", encode(Image.fromarray(grey.astype(np.uint16) * 257 - 3), format="PNG")
    for mode in ("L", "P", "1"):
        yield f"png {mode}", encode(colours.convert(mode), format="PNG")
    yield "jpeg", encode(colours, format="JPEG", quality=60)
    yield "jpeg, progressive", encode(colours, format="JPEG", progressive=True, quality=95, subsampling=0)
    for mode in ("L", "CMYK"):
        yield f"jpeg {mode}", encode(colours.convert(mode), format="JPEG")


ENCODINGS = dict(encodings())


@pytest.mark.parametrize("name", ENCODINGS)
def test_decoded_pixels_are_those_of_the_input_pipeline(name):
    dataset = tf.data.Dataset.from_tensors({"image": ENCODINGS[name]})
    (expected,) = decode_pictures(dataset).as_numpy_iterator()
    np.testing.assert_array_equal(decode_image(ENCODINGS[name]), expected["image"])


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "GIF", "TIFF"])
def test_other_formats_are_read(kind):
    encoded = encode(Image.fromarray(picture(4, 6)).convert("P"), format=kind, lossless=True)
    assert decode_image(encoded).shape == (4, 6, 3)


DEEP = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_16_bits_the_upper_eight_count_and_are_drawn_on(kind, tmp_path):
    encoded = encode(Image.fromarray(DEEP), format=kind)
    pixels = np.repeat((DEEP >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(decode_image(encoded), pixels)
    (tmp_path / "image").write_bytes(encoded)
    np.testing.assert_array_equal(open_image(tmp_path / "image"), pixels)
    for mode in ("I", "I;16"):
        picture = Image.fromarray(DEEP.astype(np.int32 if mode == "I" else np.uint16))
        assert picture.mode == mode
        np.testing.assert_array_equal(rgb_pixels(picture), pixels)
    assert Image.open(io.BytesIO(check_image(encoded, max_pixels=10).encoded)).getextrema() in (
        ((0, 255),) * 3,
        (0, 65535),
    )


@pytest.mark.parametrize("values", [DEEP.astype(np.float32) / 65535, DEEP.astype(np.int32) - 1])
def test_values_that_could_mean_anything_are_refused(values):
    picture = Image.fromarray(values)
    for decode, given in ((rgb_pixels, picture), (decode_image, encode(picture, format="TIFF"))):
        with pytest.raises(UnusableImage, match=r"mode [FI] with values from .*Scale it to 8 bits first"):
            decode(given)


def test_a_picture_whose_file_is_damaged(tmp_path):
    picture = Image.open(io.BytesIO(ENCODINGS["jpeg"][:-40]))
    with pytest.raises(UnusableImage, match="truncated"):
        rgb_pixels(picture)
    with pytest.raises(UnusableImage, match="mode La"):
        rgb_pixels(Image.new("La", (2, 2)))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "no known image format"),
        (ENCODINGS["png"][:-20], "cannot be decoded"),
        (ENCODINGS["jpeg"][:-40], "truncated"),
        (ENCODINGS["alpha"], "45 x 34 = 1,530 pixels; expected at most 1,000"),
    ],
)
def test_what_cannot_be_decoded(encoded, message):
    with pytest.raises(UnusableImage, match=message):
        decode_image(encoded, max_pixels=1000 if "1,000" in message else 10_000)
