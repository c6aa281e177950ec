import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin

from richhf.data.examples import serialize_features
from richhf.data.prepare.images import check_image
from richhf.data.records import encode_png, example_to_record
from richhf.feedback import Feedback, open_image, orientation_of, plain_content
from richhf.inference.pictures import decode_image, rgb_pixels
from tasks.pictures import decode_pictures

ORIENTATIONS = range(1, 9)
LABELS = {
    **dict.fromkeys(("artifact_score", "misalignment_score", "aesthetics_score", "overall_score"), 0.5),
    "filename": b"a.png",
    "prompt_misalignment_label": b"1",
}


def pixels(height=14, width=22, seed=0):
    """Smooth colours, as JPEG keeps them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


PICTURE = Image.fromarray(pixels())


def encode(picture=PICTURE, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def trained(image, **maps):
    """The pictures of an example as the input pipeline decodes them."""
    (example,) = decode_pictures(tf.data.Dataset.from_tensors({"image": image, **maps})).as_numpy_iterator()
    return example


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(*chunks, behind=False):
    """The picture as PNG with chunks after its head, or before its end."""
    encoded = encode()
    place = len(encoded) - 12 if behind else 33
    return encoded[:place] + b"".join(chunks) + encoded[place:]


NOISE = np.random.default_rng(0).bytes(9_000_000)
LARGE = zlib.compress(bytes(3 << 20))
ODD_PNGS = {
    "profile of 3 MB": with_chunks(chunk(b"iCCP", b"x\0\0" + LARGE)),
    "profile that does not compress": with_chunks(chunk(b"iCCP", b"x\0\0" + NOISE)),
    "compressed text of 3 MB": with_chunks(chunk(b"zTXt", b"x\0\0" + LARGE)),
    "the same behind the pixels": with_chunks(chunk(b"zTXt", b"x\0\0" + LARGE), behind=True),
    "international text of 3 MB": with_chunks(chunk(b"iTXt", b"x\0\1\0\0\0" + LARGE)),
    "text of 9 MB": with_chunks(chunk(b"tEXt", b"x\0" + b"a" * 9_000_000)),
    "many texts": with_chunks(*[chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(900_000)))] * 80),
    "damaged text": with_chunks(chunk(b"tEXt", b"x\0ab")[:-1] + b"!"),
    "damaged text behind the pixels": with_chunks(chunk(b"tEXt", b"x\0ab")[:-1] + b"!", behind=True),
    "short gamma": with_chunks(chunk(b"gAMA", b"x")),
    "short chromaticities": with_chunks(chunk(b"cHRM", b"x")),
    "end with a wrong checksum": encode()[:-1] + b"!",
    "end without a checksum": encode()[:-4],
    "bytes behind the end": encode() + b"more",
    "animation": encode(save_all=True, append_images=[ImageOps.invert(PICTURE)]),
}


@pytest.mark.parametrize("name", ODD_PNGS)
def test_a_png_is_read_whatever_stands_beside_its_pixels(name, tmp_path):
    encoded = ODD_PNGS[name]
    checked = check_image(encoded, max_pixels=1000)
    assert (checked.encoded, checked.converted) == (encoded, False)
    (tmp_path / "image.png").write_bytes(encoded)
    for read in (decode_image(encoded), trained(encoded)["image"], open_image(tmp_path / "image.png")):
        np.testing.assert_array_equal(read, pixels())
    assert plain_content(encoded) == plain_content(encode())


def test_pillows_limits_stay():
    """A text that Pillow would refuse is never decompressed, and Pillow's settings are as they were."""
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20
    encoded = ODD_PNGS["compressed text of 3 MB"]
    with pytest.raises(ValueError, match="Decompressed data too large"):
        Image.open(io.BytesIO(encoded)).load()
    assert len(plain_content(encoded)) < 2000


@pytest.mark.parametrize("cut", [5, 13, 40])
def test_a_png_cut_short_is_unchanged_and_refused_by_all(cut):
    encoded = encode()[:-cut]
    assert plain_content(encoded) == encoded
    with pytest.raises(ValueError, match="undecodable image"):
        decode_image(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError):
        trained(encoded)


def test_a_png_without_pixels_is_refused():
    encoded = encode()
    for other in (b"iDAT", b"tEXt"):
        with pytest.raises(ValueError, match="undecodable image"):
            decode_image(encoded.replace(b"IDAT", other))
    with pytest.raises(ValueError, match="undecodable image"):
        decode_image(encoded[:33] + encoded[-12:])


def without_adobe(encoded):
    place = encoded.index(b"\xff\xee")
    return encoded[:place] + encoded[place + 2 + struct.unpack_from(">H", encoded, place + 2)[0] :]


CMYK = encode(PICTURE.convert("CMYK"), "JPEG", quality=95)
YCCK = bytearray(CMYK)
YCCK[CMYK.index(b"Adobe") + 11] = 2
CMYKS = {
    "marked": CMYK,
    "not marked": without_adobe(CMYK),
    "YCCK": bytes(YCCK),
    "progressive": without_adobe(encode(PICTURE.convert("CMYK"), "JPEG", progressive=True)),
}


@pytest.mark.parametrize("name", CMYKS)
def test_cmyk_jpegs_are_inverted_with_and_without_a_marker(name):
    encoded = CMYKS[name]
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(encoded), expected)
    np.testing.assert_array_equal(trained(encoded)["image"], expected)
    np.testing.assert_array_equal(rgb_pixels(Image.open(io.BytesIO(encoded))), expected)
    if name != "YCCK":
        np.testing.assert_allclose(expected, pixels(), atol=20)


@pytest.mark.parametrize("kind", ["RGB", "L"])
def test_other_jpegs_are_left_alone(kind):
    encoded = encode(PICTURE.convert(kind), "JPEG")
    assert plain_content(encoded) is encoded


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_are_turned_as_people_see_them(kind, orientation, tmp_path):
    options = {"quality": 100, "lossless": True} if kind in ("JPEG", "WEBP") else {}
    encoded = encode(PICTURE, kind, exif=exif(orientation), **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))
    assert expected.shape == ((22, 14, 3) if orientation > 4 else (14, 22, 3))
    path = tmp_path / "image"
    path.write_bytes(encoded)
    checked = check_image(encoded, max_pixels=1000)
    assert (checked.height, checked.width) == expected.shape[:2]
    assert checked.converted == (kind in ("WEBP", "TIFF") or orientation != 1)
    for read in (
        decode_image(encoded),
        open_image(path),
        open_image(Image.open(path)),
        rgb_pixels(Image.open(path)),
        decode_image(checked.encoded),
        trained(checked.encoded)["image"],
    ):
        np.testing.assert_array_equal(read, expected)
    assert orientation_of(checked.encoded) == 1
    if kind in ("PNG", "JPEG"):
        assert orientation_of(encoded) == orientation
        np.testing.assert_array_equal(trained(encoded)["image"], expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_maps_and_images_of_records_are_turned(orientation):
    grey = pixels()[..., 0]
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(exif=exif(orientation)))))
    maps = {
        "artifact_map": encode(Image.fromarray(grey), exif=exif(orientation)),
        "misalignment_map": encode_png(np.asarray(turned)[..., 0]),
    }
    image = encode(exif=exif(orientation))
    example = trained(image, **maps)
    np.testing.assert_array_equal(example["image"], turned)
    record = example_to_record(serialize_features({**LABELS, **maps, "image": image}))
    np.testing.assert_array_equal(record.decode_image(), turned)
    for read in (example["heatmaps"], list(record.heatmaps.values())):
        np.testing.assert_array_equal(read, np.asarray(turned)[..., 0][None].repeat(2, 0))


def test_an_orientation_behind_the_pixels_or_in_xmp_counts():
    content = exif(6).tobytes()[6:]
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
    for encoded in (
        with_chunks(chunk(b"eXIf", content), behind=True),
        with_chunks(chunk(b"iTXt", xmp)),
        with_chunks(chunk(b"iCCP", b"x\0\0" + LARGE), chunk(b"eXIf", content)),
    ):
        assert orientation_of(encoded) == 6
        np.testing.assert_array_equal(decode_image(encoded), np.rot90(pixels(), -1))
        np.testing.assert_array_equal(trained(encoded)["image"], np.rot90(pixels(), -1))


@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"MM\0*\0\0\0\x08\0\x05", exif(0).tobytes()[6:], b"x" * 40]
)
def test_a_damaged_or_meaningless_orientation_turns_nothing(content):
    png = with_chunks(chunk(b"eXIf", content))
    jpeg = encode(PICTURE, "JPEG", quality=100)
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content + jpeg[2:]
    for encoded in (png, jpeg):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert orientation_of(encoded) == 1
            np.testing.assert_array_equal(decode_image(encoded), trained(encoded)["image"])


def test_a_picture_that_was_turned_already_is_not_turned_again():
    picture = Image.open(io.BytesIO(encode(exif=exif(6))))
    turned = ImageOps.exif_transpose(picture)
    np.testing.assert_array_equal(rgb_pixels(turned), np.rot90(pixels(), -1))
    np.testing.assert_array_equal(rgb_pixels(picture), np.rot90(pixels(), -1))


def test_an_overlay_is_drawn_on_the_turned_picture(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(PICTURE, "JPEG", exif=exif(6)))
    feedback = Feedback(prompt="a", heatmaps={"implausibility": np.zeros((22, 14), np.float32)}, image=path)
    assert feedback.image_size == (22, 14)
    overlay = feedback.overlay("implausibility")
    assert overlay.size == (14, 22)
    np.testing.assert_array_equal(overlay, feedback.overlay("implausibility", open_image(path)))
