"""The framing of TFRecord files, plain, GZIP or ZLIB, without TensorFlow.

A record is its length (8 bytes, little-endian), a checksum of those (4), its content, a checksum of that (4).
Checksums are CRC-32C, masked as TensorFlow does it.
"""

import atexit
import io
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO

import google_crc32c

HEAD, FRAME = 12, 16
"""Bytes of a TFRecord before its content (length, checksum), and before and after it (another checksum)."""
_GZIP = b"\x1f\x8b\x08"
_CHUNK = 1 << 20
_MASK = 0xA282EAD8


class TruncatedFileError(ValueError):
    """A record file that ends within a record, or within what compresses it."""


class DamagedFileError(ValueError):
    """Bytes that are not those of a record file."""


def frame(content: bytes) -> bytes:
    """Returns a record as a file holds it; byte for byte what `tf.io.TFRecordWriter` writes."""
    length = struct.pack("<Q", len(content))
    head, tail = (struct.pack("<I", _checksum(part)) for part in (length, content))
    return b"".join((length, head, content, tail))


def read_frames(path: str | os.PathLike) -> Iterator[bytes]:
    """Reads the contents of a file's records, in order.

    Raises:
        TruncatedFileError: after the whole records of a file that is cut short.
        DamagedFileError: after the records before the damage; or the file is of another kind.
        OSError: the system cannot read it.
    """
    with _open(path) as file:
        while head := file.read(HEAD):
            length = _length(head)
            body = file.read(length + 4)
            if len(body) < length + 4:
                raise TruncatedFileError("a record is cut short")
            content = body[:-4]
            if struct.pack("<I", _checksum(content)) != body[-4:]:
                raise DamagedFileError("a record's checksum is wrong")
            yield content


def skip_through(path: str | os.PathLike) -> None:
    """Passes if a file is a record file that is not cut short, by the lengths of its records alone.

    The contents of a plain file are not read; a compressed file is decompressed.

    Raises:
        TruncatedFileError, DamagedFileError: saying which record is concerned and where it begins.
        OSError: the system cannot read it.
    """
    with _open(path) as file:
        position, count, seekable = 0, 0, file.seekable()
        size = os.path.getsize(path)
        try:
            while head := file.read(HEAD):
                stop = position + _length(head) + FRAME
                if seekable:
                    file.seek(stop)
                    whole = stop <= size
                else:
                    whole = all(len(file.read(part)) == part for part in _parts(stop - position - HEAD))
                if not whole:
                    raise TruncatedFileError("a record is cut short")
                position, count = stop, count + 1
        except (TruncatedFileError, DamagedFileError) as error:
            raise type(error)(f"record {count}, which begins at byte {position}: {error}") from error


def compression_of(head: bytes) -> str:
    """Returns how a record file is compressed, as TensorFlow names it: "", "GZIP" or "ZLIB".

    Args:
        head: the file's first `HEAD` bytes; the name of a file says nothing.
    """
    if _is_head(head):
        return ""
    if head.startswith(_GZIP):
        return "GZIP"
    is_zlib = len(head) > 1 and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    return "ZLIB" if is_zlib else ""


def is_record_file(path: str | os.PathLike) -> bool:
    """Returns whether a file begins with a record, by its bytes.

    Raises:
        OSError: the system cannot read it.
    """
    try:
        with _open(path) as file:
            return _is_head(file.read(HEAD))
    except (TruncatedFileError, DamagedFileError):
        return False


def refuse_twins(files: Iterable[str | os.PathLike]) -> None:
    """Passes unless a file is listed both plain and compressed (`x` and `x.gz`): it would be read twice.

    Raises:
        ValueError: naming the first two.
    """
    names = sorted(str(os.fspath(file)) for file in files)
    for name in names:
        if f"{name}.gz" in names:
            raise ValueError(
                f"{name} and {name}.gz are both there, and records would be read twice; remove one of them"
            )


def read_content(path: str | os.PathLike, start: int, size: int) -> bytes:
    """Reads bytes of a record file at a place in its uncompressed content; thread-safe.

    A compressed file is decompressed once, into a temporary file that ends with the process.

    Args:
        path: the record file.
        start: of the bytes; the first one of a record's content is `HEAD` behind the record's start.
        size: number of bytes.

    Raises:
        OSError: the system cannot read it, or has no room for the temporary file.
    """
    with open(path, "rb") as file:
        if not compression_of(file.read(HEAD)):
            file.seek(start)
            return file.read(size)
    status = os.stat(path)
    with _lock:
        whole = _decompressed(os.fspath(path), status.st_size, status.st_mtime_ns)
        whole.seek(start)
        return whole.read(size)


_lock = threading.Lock()
_OPEN = 4
_decompressed_files: dict[tuple[str, int, int], IO[bytes]] = {}


def _decompressed(path: str, size: int, modified: int) -> IO[bytes]:
    """The content of a compressed file as far as it can be read; size and time tell one file from another."""
    key = (path, size, modified)
    if key not in _decompressed_files:
        whole = tempfile.TemporaryFile()  # noqa: SIM115 (it is kept open)
        try:
            with _open(path) as file:
                while part := file.read1(_CHUNK):
                    whole.write(part)
        except (TruncatedFileError, DamagedFileError):
            pass  # `read_frames` has reported it; what is before it can be read.
        except BaseException:
            whole.close()
            raise
        _decompressed_files[key] = whole
        if len(_decompressed_files) > _OPEN:
            _decompressed_files.pop(next(iter(_decompressed_files))).close()
    return _decompressed_files[key]


@atexit.register
def _close_decompressed() -> None:
    while _decompressed_files:
        _decompressed_files.popitem()[1].close()


def _open(path: str | os.PathLike) -> io.BufferedReader:
    file = open(path, "rb")  # noqa: SIM115 (its caller closes it)
    head = file.read(HEAD)
    file.seek(0)
    return io.BufferedReader(_Inflating(file), _CHUNK) if compression_of(head) else file


class _Inflating(io.RawIOBase):
    """The content of a GZIP or ZLIB file; of several compressed parts behind each other all of them."""

    def __init__(self, file: BinaryIO):
        self._file, self._rest = file, b""
        self._inflater: Any = None

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer) -> int:
        """Reads some bytes; 0 at the end."""
        while True:
            self._rest = self._rest or self._file.read(_CHUNK)
            if self._inflater is None:
                self._rest = self._rest.lstrip(b"\0")
                if not self._rest:
                    return 0
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
            ended = not self._rest
            try:
                part = self._inflater.decompress(self._rest, len(buffer))
            except zlib.error as error:
                raise DamagedFileError(f"its compressed content is damaged ({error})") from error
            if ended and not part:
                raise TruncatedFileError("its compressed content is cut short")
            self._rest = self._inflater.unconsumed_tail or self._inflater.unused_data
            if self._inflater.eof:
                self._inflater = None
            if part:
                buffer[: len(part)] = part
                return len(part)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def _length(head: bytes) -> int:
    """The length that a record's head states.

    Raises:
        TruncatedFileError: the head is cut short.
        DamagedFileError: its checksum is wrong.
    """
    if len(head) < HEAD:
        raise TruncatedFileError("a record is cut short")
    if not _is_head(head):
        raise DamagedFileError("the checksum of a record's length is wrong")
    return int.from_bytes(head[:8], "little")


def _is_head(head: bytes) -> bool:
    return len(head) == HEAD and struct.pack("<I", _checksum(head[:8])) == head[8:]


def _parts(size: int) -> Iterator[int]:
    """A number of bytes as numbers to read at a time."""
    while size > 0:
        yield min(size, _CHUNK)
        size -= _CHUNK


def _checksum(content: bytes) -> int:
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
