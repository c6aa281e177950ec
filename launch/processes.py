"""Several processes as one job: a TPU slice's hosts, the nodes of a cluster, or two on one machine.

--coordinator_address=auto: this process is one of several, and where it runs says which: Cloud TPU, SLURM,
Open MPI and Kubernetes are known to JAX. Under SLURM and Open MPI JAX then expects one process for each GPU:
process I of a node is given its GPU I and no other. Elsewhere --coordinator_address=HOST:PORT (of process 0),
--process_count=N and --process_index=I. Without any of them it is alone.
"""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from launch.gin_config import ConfigError

ADDRESS, COUNT, INDEX = "--coordinator_address", "--process_count", "--process_index"
OPTIONS = {ADDRESS: "", COUNT: "", INDEX: ""}
AUTO = "auto"


def join(options: Mapping[str, str], *, notes_sigterm: bool = False) -> None:
    """Joins the other processes of the job, if there are any; to be called before JAX computes anything.

    Args:
      options: values of the flags in `OPTIONS`.
      notes_sigterm: whether the job asks JAX again and again if SIGTERM came (`SignalWatch`). Otherwise JAX's
        preemption service, which takes the signal, is off: SIGTERM ends a process as it ends one alone.

    Raises:
      ConfigError: flags that do not go together, or where JAX cannot find out what `auto` asks for.
    """
    arguments = check(options)
    if arguments is None:
        return
    address = options[ADDRESS]
    import jax

    jax.config.update("jax_enable_preemption_service", notes_sigterm)
    try:
        jax.distributed.initialize(**arguments)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{ADDRESS}={address}: {error} Give {ADDRESS}=HOST:PORT of process 0, {COUNT} and {INDEX}."
        ) from error


def ends_at_once(main: Callable[..., int]) -> Callable[..., int]:
    """Wraps what returns an exit status: of several processes one that fails ends at once, with its status.

    At its ordinary exit JAX would wait for the others, which wait for it, for minutes, and abort in the end.
    """

    @functools.wraps(main)
    def wrapped(*arguments: Any, **settings: Any) -> int:
        try:
            status = main(*arguments, **settings)
        except Exception:
            if not among_several():
                raise
            traceback.print_exc()
            status = 1
        if status and among_several():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    return wrapped


def among_several() -> bool:
    """Whether this process has joined others."""
    jax = sys.modules.get("jax")
    return bool(jax and jax.distributed.is_initialized() and jax.process_count() > 1)


def check(options: Mapping[str, str]) -> dict[str, Any] | None:
    """What JAX is to be told of the other processes, by its names; None: this one is alone.

    Args:
      options: values of the flags in `OPTIONS`.

    Raises:
      ConfigError: flags that do not go together.
    """
    address, count, index = options[ADDRESS], options[COUNT], options[INDEX]
    if address == AUTO and not count and not index:
        return {}
    if address and address != AUTO:
        return {"coordinator_address": address, **_numbers(count, index)}
    if address or count or index:
        raise ConfigError(
            f"{ADDRESS}={AUTO} stands alone; otherwise give {ADDRESS}=HOST:PORT, {COUNT}=N and {INDEX}=I."
        )
    return None


def _numbers(count: str, index: str) -> dict[str, int]:
    if not count.isdecimal() or not index.isdecimal() or not int(index) < int(count):
        raise ConfigError(
            f"{COUNT}={count} and {INDEX}={index}: expected how many processes, and which (0 to one less)."
        )
    return {"num_processes": int(count), "process_id": int(index)}
