"""What a benchmark has measured, and the table of all of them."""

import dataclasses
from collections.abc import Sequence

from launch.precompile_report import format_bytes


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A row of the table; None where a number means nothing or is not known.

    Attributes:
      name: of what was measured.
      images_per_second: of all devices.
      flops: FLOPs a second of all devices, by the model's own count (nothing computed again counts twice).
      share_of_product: of the rate at which the same devices multiply large matrices, in [0, 1].
      share_of_peak: of the peak that the maker states, in [0, 1].
      memory: bytes of a device, as the compiler plans them.
    """

    name: str
    images_per_second: float
    flops: float | None = None
    share_of_product: float | None = None
    share_of_peak: float | None = None
    memory: int | None = None


def table(rows: Sequence[Measurement]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| | images/s | GFLOP/s | of a matrix product | of the stated peak | memory a device |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = (
            row.name,
            f"{row.images_per_second:.4g}",
            "" if row.flops is None else f"{row.flops / 1e9:.4g}",
            _percent(row.share_of_product),
            _percent(row.share_of_peak),
            "" if row.memory is None else format_bytes(row.memory),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.{0 if share >= 0.1 else 2}%}"
