"""The train state: everything that a step changes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@flax.struct.dataclass
class TrainState:
    """What a training step reads and replaces; a tree of the same form holds its shapes or its shardings.

    Attributes:
      step: steps done so far, int32 [].
      params: the model's parameters.
      opt_state: the optimizer's state.
      ema_params: exponential moving average of params; None when it is off.
      skipped_steps: steps whose loss or gradient was not finite, and which changed nothing else; int32 [].
      skipped_in_row: how many of them were the last ones; int32 [].
    """

    step: Any
    params: Any
    opt_state: Any
    ema_params: Any = None
    skipped_steps: Any = None
    skipped_in_row: Any = None

    @classmethod
    def create(cls, params: Any, optimizer: Any, *, ema_decay: float = 0.0) -> "TrainState":
        """The state before the first step.

        Args:
          params: the parameters to start from.
          optimizer: a `richhf.training.optimizers.Optimizer`.
          ema_decay: 0 keeps no moving average.
        """
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=optimizer.transformation.init(params),
            ema_params=jax.tree.map(jnp.copy, params) if ema_decay else None,
            skipped_steps=jnp.zeros((), jnp.int32),
            skipped_in_row=jnp.zeros((), jnp.int32),
        )

    @property
    def eval_params(self) -> Any:
        """The parameters to evaluate: the moving average if there is one."""
        return self.params if self.ema_params is None else self.ema_params


def ema_rate(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """The share of the old average that is kept at this step: min(decay, (1 + step) / (10 + step)).

    The average forgets the random start quickly in the first steps, and reaches `decay` after about
    9 / (1 - decay).
    """
    step = step.astype(jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))
