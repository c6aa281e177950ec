"""Several processes that work apart and end together: what each of them says of itself, and the others read.

They meet at JAX's coordination service and not on the devices, which would have to wait for the slowest: a
process that has nothing left to do may wait for hours, and hears within a second of one that failed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax._src import distributed

from richhf.interruption import cleaning_up

POLL_SECONDS = 1.0
_FAILED = "richhf/failed"


class PeerFailed(ValueError):
    """Another process of the job failed."""


@contextmanager
def telling() -> Iterator[None]:
    """What ends with an error here is known to the others, where they ask (`check_peers`)."""
    with cleaning_up(lambda: _tell(_FAILED)):
        try:
            yield
        except BaseException:
            _tell(_FAILED)
            raise


def check_peers() -> None:
    """Raises PeerFailed if a process has failed."""
    if failed := _told(_FAILED):
        raise PeerFailed(
            f"process {', '.join(failed)} failed; its log says why. What is complete stays: run the same "
            "command again in all processes to go on."
        )


def wait_until(ready: Callable[[], bool], *, seconds: float = float("inf")) -> bool:
    """Waits for what another process does.

    Args:
      ready: asked again and again.
      seconds: to wait at most.

    Returns:
      Whether it is done; False if it took too long.

    Raises:
      PeerFailed: a process failed meanwhile.
    """
    until = time.monotonic() + seconds
    while not ready():
        check_peers()
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def wait_for_all(what: str) -> None:
    """Waits until all processes have come here.

    Args:
      what: a name, once in a job.

    Raises:
      PeerFailed: a process failed meanwhile.
    """
    _tell(f"richhf/{what}")
    wait_until(lambda: _client() is None or len(_told(f"richhf/{what}")) == jax.process_count())


def _tell(what: str) -> None:
    if (client := _client()) is not None:
        client.key_value_set(f"{what}/{jax.process_index()}", "", allow_overwrite=True)


def _told(what: str) -> list[str]:
    """Which processes said so."""
    client = _client()
    if client is None:
        return []
    return sorted(name.rpartition("/")[2] for name, _ in client.key_value_dir_get(f"{what}/"))


def _client() -> Any:
    """The connection to the service that all processes share; None: this one is alone."""
    return distributed.global_state.client
