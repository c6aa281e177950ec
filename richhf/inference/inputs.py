"""One image with its prompt, wherever it lies, and what can be wrong with it."""

import dataclasses
import datetime
import errno
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from richhf.data.checks import Checker
from richhf.data.examples import parse_features
from richhf.data.framing import read_content
from richhf.data.prepare.problems import Kind
from richhf.data.prompts import as_one_line

OF_THE_FILE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.ENXIO),
)
"""System errors that are about one file; all others (a full disk, a lost network drive) end the job."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no feedback on an input.

    Attributes:
      kind: what is wrong, of a small number of kinds.
      detail: what was found and what was expected.
    """

    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class UnusableInput(ValueError):
    """An input whose image cannot be had.

    Attributes:
      failure: why.
    """

    def __init__(self, failure: Failure):
        super().__init__(failure)
        self.failure = failure


@dataclasses.dataclass(frozen=True)
class Input:
    """One image and its prompt.

    Attributes:
      id: as the table or the record calls it, or else the image's name.
      image: path of the image as it was given; of a record its file and index.
      prompt: the text, "" if there is none.
      path: the file that holds the image.
      start: where the content of the image's record starts in the uncompressed file, for record files.
      size: bytes of the image file or record; -1 if there is none.
      modified: when the file was last changed, in nanoseconds since 1970; -1 if there is none.
      failure: what is known to be wrong before anything is decoded.
    """

    id: str
    image: str
    prompt: str
    path: Path
    start: int | None = None
    size: int = -1
    modified: int = -1
    failure: Failure | None = None

    def read(self) -> bytes:
        """The encoded image.

        Raises:
          UnusableInput: it cannot be had.
          OSError: the system cannot read, and that is not about this file alone.
        """
        if self.failure:
            raise UnusableInput(self.failure)
        try:
            if self.start is None:
                return self.path.read_bytes()
            serialized = read_content(self.path, self.start, self.size)
        except ValueError as error:  # a null byte in the path
            raise UnusableInput(no_file(self.image)) from error
        except OSError as error:
            if error.errno not in OF_THE_FILE:
                raise
            raise UnusableInput(no_file(self.image, error.strerror)) from error
        check = Checker(self.image, 0)
        return check.value(parse_features(serialized, check), "image", "bytes_list")


def describe_inputs(inputs: Sequence[Input]) -> dict[str, Any]:
    """What a manifest says of inputs: how many, a checksum, and when the last of their files was changed.

    The checksum is of names, prompts, sizes and times of change in their order; what the images show is not
    looked at.
    """
    digest = hashlib.sha256()
    for one in inputs:
        digest.update(_described(one))
    latest = max((one.modified for one in inputs), default=-1)
    time = datetime.datetime.fromtimestamp(latest / 1e9, datetime.UTC).isoformat(timespec="seconds")
    return {"count": len(inputs), "fingerprint": digest.hexdigest(), "last_change": time}


def fingerprint(one: Input) -> str:
    """Returns a checksum of one input, 32 hexadecimal digits; of what `describe_inputs` looks at."""
    return hashlib.sha256(_described(one)).hexdigest()[:32]


def _described(one: Input) -> bytes:
    failure = one.failure and one.failure.kind.value
    fields = (one.id, one.image, one.prompt, one.size, one.modified, failure)
    return repr(fields).encode(errors="backslashreplace")


def shortened(name: str, most: int = 200) -> str:
    """A name for a message; of one that is no name but a text or a file's content both ends."""
    return name if len(name) <= most else f"{name[: most // 2]}...{name[-most // 2 :]}"


def no_file(name: str, why: str | None = "No such file or directory") -> Failure:
    """The failure of an image that no file holds."""
    if "://" in name:
        return Failure(
            Kind.NO_IMAGE,
            f"{shortened(name)!r} is an address; download the images first and give their paths",
        )
    if re.match(r"[A-Za-z]:[\\/]|\\\\", name):
        return Failure(
            Kind.NO_IMAGE,
            f"{shortened(name)!r} is a path on another computer; expected one relative to the table's folder",
        )
    return Failure(Kind.NO_IMAGE, f"{shortened(name)!r}: {why}; expected the path of an image file")


def file_input(name: str, path: Path, prompt: Any, label: str = "", failure: Failure | None = None) -> Input:
    """An input whose image is a file."""
    size = modified = -1
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
            raise
        failure = failure or no_file(name)
    text, wrong = checked_prompt(prompt)
    return Input(label or name, name, text, path, size=size, modified=modified, failure=failure or wrong)


def checked_prompt(prompt: Any) -> tuple[str, Failure | None]:
    """A prompt as text on one line, and what is wrong with it."""
    if not isinstance(prompt, str) or not prompt.strip():
        detail = f"found {prompt!r:.80}; expected the text that the image was made from"
        return "", Failure(Kind.NO_PROMPT, detail)
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return prompt, Failure(Kind.PROMPT, f"found {prompt!r:.80}; expected UTF-8 text")
    if "\0" in prompt:
        return prompt, Failure(Kind.PROMPT, f"found a null character in {prompt!r:.80}; expected text")
    return as_one_line(prompt), None
