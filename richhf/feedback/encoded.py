"""Encoded pictures as every reader of this package sees them: training, `richhf prepare` and prediction.

Two things that files hold decide how a picture looks, and decoders differ about them:

* Orientation. A camera stores pixels as its sensor lies and adds how to turn them (EXIF, tag 0x0112). Viewers
  and browsers turn the picture, decoders do not. Here a picture is always turned as people see it; points and
  maps refer to the turned picture. Which orientation a file has is Pillow's judgment
  (`PIL.ImageOps.exif_transpose`), for files and for opened pictures alike.
* CMYK JPEGs. Adobe's programs store inverted inks and say so in a marker. Browsers and Pillow take all CMYK
  JPEGs as inverted, libjpeg's users (TensorFlow) only those with the marker. Here they are all inverted.

What a PNG holds beside its pixels (colour profile, texts, further frames) changes no pixel that is read here.
It is removed before a decoder sees the file, so that neither a large profile nor a damaged text makes a good
picture unreadable, and none is ever decompressed.
"""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
ORIENTATION = 0x0112
"""The EXIF tag."""
UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on a damaged picture."""

_Turn = Image.Transpose
_TURNS = {
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_90,
}
_PNG_ORIENTATION = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
"""A chunk's type and two keywords of text chunks, one of which a PNG holds that has an orientation."""
_ORIENTATION_FIELDS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where a picture of Pillow has it."""
_EMPTY_IDAT, _IEND = (struct.pack(">I4sI", 0, kind, zlib.crc32(kind)) for kind in (b"IDAT", b"IEND"))
_ADOBE = b"\xff\xee" + struct.pack(">H5sHHHB", 14, b"Adobe", 100, 0, 0, 0)
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SOS, _EOI, _APP14 = 0xDA, 0xD9, 0xEE
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""


def open_encoded(encoded: bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Opens an encoded picture with Pillow by its head; its pixels are not turned yet, see `upright`.

    Args:
        encoded: the content of an image file.
        formats: that Pillow may try; None: all.

    Raises:
        OSError: no known format; or another one of `UNDECODABLE`.
    """
    return Image.open(io.BytesIO(plain_content(encoded)), formats=formats)


def upright(picture: Image.Image, encoded: bytes | None = None) -> Image.Image:
    """Returns a picture turned as people see it; one that is upright is returned as it is.

    Args:
        picture: any Pillow picture, perhaps not loaded yet.
        encoded: the file it was opened from by `open_encoded`, whose orientation counts then.

    Raises:
        OSError: the pixels cannot be decoded; or another one of `UNDECODABLE`.
    """
    picture.load()  # Pillow turns a TIFF while it loads it, and removes the orientation.
    if encoded is not None and encoded.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        orientation = orientation_of(encoded)
    else:
        orientation = _orientation(picture)
    if orientation not in _TURNS:
        return picture
    turned = picture.transpose(_TURNS[orientation])
    # Else the result would be turned again by whoever reads it next.
    turned.info = {name: value for name, value in turned.info.items() if name not in _ORIENTATION_FIELDS}
    return turned


def orientation_of(encoded: bytes) -> int:
    """Returns the orientation of a PNG or JPEG, 1 to 8 as EXIF numbers them, without decoding a pixel.

    Args:
        encoded: the content of an image file; 1 (upright) is returned for damaged and other files.
    """
    if encoded.startswith(PNG_SIGNATURE):
        if not any(hint in encoded for hint in _PNG_ORIENTATION):
            return 1
        encoded = _png_head(encoded)
    elif not encoded.startswith(JPEG_SIGNATURE):
        return 1
    try:
        return _orientation(Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")))
    except UNDECODABLE:
        return 1


def plain_content(encoded: bytes) -> bytes:
    """Returns a PNG or JPEG as decoders agree on it; all other bytes as they are.

    A PNG loses everything but its pixels and its palette. A JPEG of four components without Adobe's marker
    gets it. A file whose structure is damaged is returned unchanged: its decoder says what is wrong.
    """
    if encoded.startswith(PNG_SIGNATURE):
        try:
            chunks = list(_png_chunks(encoded))
        except ValueError:
            return encoded
        # An upper-case letter marks chunks that decoders need; they refuse a file with an unknown one.
        needed = [chunk for kind, chunk in chunks[:-1] if kind[:1].isupper()]
        return b"".join([PNG_SIGNATURE, *needed, _IEND])
    if encoded.startswith(JPEG_SIGNATURE) and _lacks_adobe(encoded):
        return encoded[:2] + _ADOBE + encoded[2:]
    return encoded


def _orientation(picture: Image.Image) -> int:
    """The orientation by a picture's metadata; 1 where they are damaged or say nothing."""
    try:
        # A PNG's own method decodes its pixels to see what follows them; `_png_head` lets nothing follow.
        found = Image.Image.getexif(picture).get(ORIENTATION, 1)
    except (*UNDECODABLE, TypeError, KeyError, AttributeError):
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yields type and bytes (length and checksum among them) of each chunk, up to IEND.

    Raises:
        ValueError: the file ends before.
    """
    view, position, kind = memoryview(encoded), len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        if position + 8 > len(encoded):
            raise ValueError("a PNG that is cut short")
        length, kind = struct.unpack_from(">I4s", encoded, position)
        stop = position + 12 + length
        if stop > len(encoded) and kind != b"IEND":
            raise ValueError("a PNG that is cut short")
        yield kind, view[position:stop]
        position = stop


def _png_head(encoded: bytes) -> bytes:
    """A PNG without pixels that has the orientation of another one; bytes of no use if that is damaged."""
    try:
        chunks = list(_png_chunks(encoded))
    except ValueError:
        return b""
    kept = [
        bytes(chunk)
        for kind, chunk in chunks
        if kind in (b"IHDR", b"eXIf") or bytes(chunk[8:40]).startswith(_PNG_ORIENTATION[1:])
    ]
    return b"".join([PNG_SIGNATURE, *kept, _EMPTY_IDAT])


def _lacks_adobe(encoded: bytes) -> bool:
    """Whether a JPEG has four components and no marker of Adobe before its pixels."""
    position, components, adobe = 2, 0, False
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in (_SOS, _EOI):
            break
        (length,) = struct.unpack_from(">H", encoded, position + 2)
        content = encoded[position + 4 : position + 2 + length]
        if marker in _SOF and len(content) > 5:
            components = content[5]
        adobe |= marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12
        position += 2 + length
    return components == 4 and not adobe
