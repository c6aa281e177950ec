"""Learning-rate schedules, named by their factors as in T5X: `"constant * linear_warmup * rsqrt_decay"`."""

import difflib
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Schedule = Callable[[Int[Array, ""] | int], Float[Array, ""]]


def create_learning_rate_scheduler(
    factors: str | Sequence[str] = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: float = 1.0,
    warmup_steps: int = 1000,
    decay_steps: int | None = None,
    min_ratio: float = 0.0,
) -> Schedule:
    """A schedule that multiplies the named factors.

    With s the step, from 0:

    | factor         | value                                                                             |
    |----------------|-----------------------------------------------------------------------------------|
    | `constant`     | base_learning_rate                                                                |
    | `linear_warmup`| min(1, (s + 1) / warmup_steps): never zero, so that the first step already learns |
    | `rsqrt_decay`  | sqrt(warmup_steps / max(s, warmup_steps)): 1 until the warm-up ends               |
    | `linear_decay` | from 1 at warmup_steps to min_ratio at decay_steps                                |
    | `cosine_decay` | half a cosine from 1 at warmup_steps to min_ratio at decay_steps                  |

    The paper's schedule is `constant * linear_warmup * rsqrt_decay`: its peak is base_learning_rate (T5X's
    own `rsqrt_decay` is not scaled by sqrt(warmup_steps), so divide T5X's base rate by that to compare).

    Args:
      factors: names joined by `*`, or a sequence of names.
      base_learning_rate: what `constant` is.
      warmup_steps: steps of warm-up; also where the decays begin.
      decay_steps: the step at which `linear_decay` and `cosine_decay` end; usually the number of training
        steps.
      min_ratio: what those two end at, as a share of the peak.

    Raises:
      ValueError: an unknown factor, a number of steps that is no whole number, or a decay without a
        decay_steps behind warmup_steps.
    """
    names = [name.strip() for name in factors.split("*")] if isinstance(factors, str) else list(factors)
    for name in names:
        if name not in FACTORS:
            near = difflib.get_close_matches(name, FACTORS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"unknown learning-rate factor {name!r}.{hint} Known factors: {', '.join(FACTORS)}."
            )
    for what, number in (("warmup_steps", warmup_steps), ("decay_steps", decay_steps)):
        if number is not None and not isinstance(number, int):
            raise ValueError(f"{what} is {number!r}; expected a whole number of steps.")
    if "decay" in {name.removeprefix("linear_").removeprefix("cosine_") for name in names} and (
        decay_steps is None or decay_steps <= warmup_steps
    ):
        raise ValueError(
            f"{' * '.join(names)} needs decay_steps behind warmup_steps, got decay_steps={decay_steps} (the "
            f"number of training steps, usually) and warmup_steps={warmup_steps}: train longer, or shorten "
            "the warm-up."
        )
    if warmup_steps < 1 and {"linear_warmup", "rsqrt_decay"} & set(names):
        raise ValueError(f"{' * '.join(names)} needs warmup_steps >= 1, got {warmup_steps}.")

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)
        rate = jnp.float32(1.0)
        for name in names:
            rate = rate * FACTORS[name](step, base_learning_rate, warmup_steps, decay_steps, min_ratio)
        return rate

    return schedule


def _constant(step, base, warmup, end, floor):
    del step, warmup, end, floor
    return base


def _linear_warmup(step, base, warmup, end, floor):
    del base, end, floor
    return jnp.minimum(1.0, (step + 1) / warmup)


def _rsqrt_decay(step, base, warmup, end, floor):
    del base, end, floor
    return jnp.sqrt(warmup / jnp.maximum(step, warmup))


def _progress(step, warmup, end):
    return jnp.clip((step - warmup) / (end - warmup), 0.0, 1.0)


def _linear_decay(step, base, warmup, end, floor):
    del base
    return 1.0 - (1.0 - floor) * _progress(step, warmup, end)


def _cosine_decay(step, base, warmup, end, floor):
    del base
    return floor + (1.0 - floor) * 0.5 * (1.0 + jnp.cos(math.pi * _progress(step, warmup, end)))


FACTORS = {
    "constant": _constant,
    "linear_warmup": _linear_warmup,
    "rsqrt_decay": _rsqrt_decay,
    "linear_decay": _linear_decay,
    "cosine_decay": _cosine_decay,
}
