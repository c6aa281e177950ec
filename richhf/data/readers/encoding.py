"""The text of a table and the encoding that it is in."""

import codecs
import pathlib
import re

LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""Ends a line of a table. Other separators that Unicode knows are part of the text."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32 LE"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32 BE"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16 LE"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16 BE"),
)
"""Byte order marks. UTF-32's comes before UTF-16's, with which it begins."""

_BINARY = (
    (b"\x1f\x8b", "compressed with gzip; unpack it first (gunzip)"),
    (b"BZh", "compressed with bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ\0", "compressed with xz; unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; unpack it first (unzstd)"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook; save the sheet as CSV in UTF-8"),
    (b"PAR1", "a Parquet file; save it as CSV or JSON Lines"),
    (b"\x89PNG", "a PNG image; give the table of image paths and prompts"),
    (b"\xff\xd8\xff", "a JPEG image; give the table of image paths and prompts"),
)


def decode_table(path: pathlib.Path) -> tuple[str, str]:
    """Reads a table's text.

    Args:
        path: a file in UTF-8, or in UTF-8, UTF-16 or UTF-32 with a byte order mark.

    Returns:
        the text without the mark, and the name of its encoding.

    Raises:
        ValueError: if the file is binary or in another encoding. The error names the first line that is.
        OSError: if the system cannot read the file.
    """
    content = path.read_bytes()
    for magic, kind in _BINARY:
        if content.startswith(magic):
            raise ValueError(f"{path} is {kind}.")
    text, codec, name = split_mark(content)
    start = content[:4096]
    if text is content and start.count(0) * 4 > len(start):
        raise ValueError(
            f"{path} has as many null bytes as UTF-16, but no byte order mark. Save the table as UTF-8."
        )
    return _decode(path, text, codec, name), name


def split_mark(content: bytes) -> tuple[bytes, str, str]:
    """Splits a byte order mark from a file's content.

    Returns:
        the content without its mark (the same object if there is no mark), the name of Python's codec, and
        the name of the encoding for people. Without a mark, the encoding is UTF-8.
    """
    for mark, codec, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :], codec, name
    return content, "utf-8", "UTF-8"


def _decode(path: pathlib.Path, content: bytes, codec: str, name: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(codec)
        line = len(LINE_BREAK.findall(before)) + 1
        found = f"found the byte 0x{content[error.start]:02x}, which is not {name}"
        if codec == "utf-8":
            begin = LINE_BREAK.split(before)[-1][-30:]
            rest = LINE_BREAK.split(content[error.start : error.start + 30].decode("cp1252", "replace"))[0]
            found += f"; if the table is in Windows-1252 or Latin-1, the text there is {begin + rest!r}"
        raise ValueError(f"{path}, line {line}: {found}. Save the table as UTF-8.") from error
