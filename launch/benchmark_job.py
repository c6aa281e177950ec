"""The benchmark job: some or all of the benchmarks, and one table."""

from collections.abc import Callable, Mapping, Sequence

import jax

from launch.gin_config import near
from launch.measurement import Measurement, table

ALL = "all"


def benchmark(
    *, name: str, benchmarks: Mapping[str, Callable[[], Sequence[Measurement]]]
) -> list[Measurement]:
    """Runs one of the benchmarks or all, and prints what they measured as one table.

    Args:
      name: which one, or `all`.
      benchmarks: all there are, with their settings bound.

    Raises:
      ValueError: there is none of that name.
    """
    if name != ALL and name not in benchmarks:
        raise ValueError(
            f"no benchmark is named {name!r}.{near(name, [ALL, *benchmarks])} BENCHMARK is one of "
            f"{', '.join([ALL, *sorted(benchmarks)])}."
        )
    chosen = benchmarks.values() if name == ALL else [benchmarks[name]]
    rows = [row for measure in chosen for row in measure()]
    devices = jax.devices()
    print(f"\n{len(devices)} x {devices[0].device_kind}\n\n{table(rows)}", flush=True)
    return rows
