"""Every kind of bad input, and one case of it: where, what, and which image it is about."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any


class Kind(enum.StrEnum):
    """What can be wrong, in the order of reports; the value is what they call it."""

    DAMAGED_FILE = "damaged record file"
    RECORD = "malformed record"
    MISSING_FEATURE = "missing feature"
    SCORE = "score outside [0, 1]"
    LABELS = "labels other than 0 and 1"
    MAP = "undecodable map"
    MAP_SIZE = "map not 512 x 512"
    REPEATED = "repeated uid"
    UNREADABLE = "unreadable file"
    TABLE = "bad table line"
    REPEATED_IMAGE = "repeated image"
    NO_IMAGE = "no image"
    NO_PROMPT = "no prompt"
    PROMPT = "unreadable prompt"
    IMAGE = "undecodable image"
    BOMB = "image of too many pixels"
    MISMATCH = "another number of labels than words (kept, without a keyword target)"


@dataclasses.dataclass(frozen=True)
class Problem:
    """One case of bad input.

    Attributes:
        kind: what is wrong.
        file: where, relative to the folder of labels or of images.
        index: position in the file: of a record or a row from 0, of a text table its physical line from 1.
        detail: what was found and what was expected.
        uid: of the image it is about, where known.
    """

    kind: Kind
    file: str
    index: int
    detail: str
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.detail}"

    @property
    def place(self) -> str:
        """Where it is, and which image it is about."""
        what = "line" if self.kind == Kind.TABLE else "index"
        text = f"{self.file}, {what} {self.index}{f' (uid {self.uid})' if self.uid else ''}"
        # A name that is no UTF-8 comes from the file system with what no terminal prints.
        return text.encode(errors="backslashreplace").decode()

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return dataclasses.asdict(self) | {"kind": self.kind.value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Problem":
        """The inverse of `to_json`."""
        return cls(**{**value, "kind": Kind(value["kind"])})


class BadInput(ValueError):
    """The first problem, when none is to be passed over.

    Attributes:
        problem: what it is.
    """

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}. Without --strict it is counted and listed."


Note = Callable[[Problem], None]
"""What is done with a problem: it is put on a list or, if strict, raised."""


def raise_problem(problem: Problem) -> None:
    """A `Note` that passes nothing over."""
    raise BadInput(problem)
