"""The parity ladder: our network beside independent ones in PyTorch, on random weights made here.

One tolerance for all: float32, 1e-4 (1e-3 for logits). The measured differences are printed as a table.
"""

import dataclasses

import numpy as np
import pytest

TOLERANCE, LOGITS = 1e-4, 1e-3
TABLE = pytest.StashKey[list["Measured"]]()


@dataclasses.dataclass(frozen=True)
class Measured:
    """One rung: the largest absolute difference, the tolerance, and the largest value that it is of."""

    model: str
    rung: str
    difference: float
    tolerance: float
    largest: float


def pytest_configure(config):
    config.stash[TABLE] = []


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.parity)


@pytest.fixture
def measure(request):
    """Compares (model, rung, ours, theirs) within the tolerance, and keeps the difference for the table."""

    def compare(model: str, rung: str, ours, theirs, *, logits: bool = False) -> None:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
        assert np.isfinite(theirs).all()
        assert theirs.size < 3 or np.std(theirs) > 1e-3, "a constant would fit anything"
        difference = float(np.abs(ours.astype(np.float64) - theirs).max())
        tolerance = LOGITS if logits else TOLERANCE
        row = Measured(model, rung, difference, tolerance, float(np.abs(theirs).max()))
        request.config.stash[TABLE].append(row)
        assert difference <= tolerance, row

    return compare


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[TABLE]
    if not rows:
        return
    terminalreporter.section("parity: largest absolute differences, float32")
    widths = max(len(row.model) for row in rows), max(len(row.rung) for row in rows)
    for row in rows:
        state = "" if row.difference <= row.tolerance else "  TOO MUCH"
        terminalreporter.line(
            f"{row.model:<{widths[0]}}  {row.rung:<{widths[1]}}  {row.difference:.1e} <= {row.tolerance:.0e}"
            f"  of {row.largest:.2g}{state}"
        )
