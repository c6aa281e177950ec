"""--dry-run: the checks of a job and what it would do, on devices that need not be there.

--dry-run: on the devices of this machine. --dry-run=v5e:4x4: as on that slice; --dry-run=cpu:8: on 8 devices.
No other process is joined: on a host of a TPU slice, where JAX waits for the other hosts, name the slice.

Nothing here imports JAX before it must: `prepare` sets what JAX reads when it is imported.
"""

from collections.abc import Mapping

from launch import processes
from launch.chips import CPU, Topology, parse_topology

FLAG, HERE = "--dry-run", "here"
OPTIONS = {FLAG: ""}
BARE = {FLAG: HERE}


def prepare(options: Mapping[str, str]) -> str:
    """Joins the other processes of a job, or for a dry run makes as many devices as it asks for.

    Args:
      options: values of the flags in `OPTIONS` and `processes.OPTIONS`.

    Returns:
      The value of --dry-run; "" for the job itself.

    Raises:
      ValueError: a slice that is not known, or process flags that do not go together.
    """
    where = options[FLAG]
    if not where:
        processes.join(options, notes_sigterm=True)
        return where
    processes.check(options)
    if topology := slice_of(where):
        parse_topology(f"{CPU}:{topology.size}").prepare()
    return where


def slice_of(where: str) -> Topology | None:
    """The slice that --dry-run names; None: this machine.

    Raises:
      ValueError: it is not known.
    """
    return None if where == HERE else parse_topology(where, FLAG)
