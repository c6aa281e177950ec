"""How an array of another make becomes one of ours, by name, and the way back."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from richhf.models.vit import resample_position_embedding

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A way in and, where it can be gone, the way back.

    Attributes:
        name: says in errors what was done.
        inward: (their array, the shape of ours) to ours; a ValueError says why it cannot be done.
        outward: our array to theirs; None where there is no way back.
    """

    name: str
    inward: Callable[[np.ndarray, Shape], np.ndarray]
    outward: Callable[[np.ndarray], np.ndarray] | None = None


def permuted(name: str, *axes: int) -> Transform:
    """Axes in another order."""
    return Transform(name, lambda x, _: x.transpose(axes), lambda x: x.transpose(np.argsort(axes)))


KEEP = Transform("as it is", lambda x, _: x, lambda x: x)
TRANSPOSE = permuted("transposed", 1, 0)
CONV = permuted("OIHW to HWIO", 2, 3, 1, 0)


def _turn(x: np.ndarray) -> np.ndarray:
    return x[::-1, ::-1]


UP_CONV = Transform(
    # PyTorch's transposed convolution scatters its kernel where `UpConv` gathers with it: by 180 degrees.
    "IOHW to HWIO, turned by 180 degrees",
    lambda x, _: _turn(x.transpose(2, 3, 0, 1)),
    lambda x: _turn(x).transpose(2, 3, 0, 1),
)
CHANNEL_SCALE = Transform("C11 to C", lambda x, _: x.reshape(len(x)), lambda x: x.reshape(-1, 1, 1))
FIRST_TOKEN = Transform("11D to D", lambda x, _: x.reshape(x.shape[-1]), lambda x: x.reshape(1, 1, -1))
HWIO_PATCHES = Transform("HWIO to rows", lambda x, _: x.reshape(-1, x.shape[-1]))


def _patches_outward(x: np.ndarray) -> np.ndarray:
    side = math.isqrt(len(x) // 3)
    return x.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


PATCHES = Transform(
    "OIHW to rows",
    lambda x, _: x.transpose(2, 3, 1, 0).reshape(-1, len(x)),
    _patches_outward,
)


def joined_heads(heads: int, axis: int) -> Transform:
    """Joins the axis of heads with the one behind it (the width of a head).

    Args:
        heads: how many the model has: another number would fit in size and compute something else.
        axis: where they are.
    """

    def inward(x: np.ndarray, _: Shape) -> np.ndarray:
        if x.shape[axis] != heads:
            raise ValueError(f"it has {x.shape[axis]} heads, the model {heads}")
        return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

    return Transform("heads joined", inward)


def channels_first(channels: int) -> Transform:
    """A dense layer after a map that was flattened with its channels first; ours come last."""

    def inward(x: np.ndarray, shape: Shape) -> np.ndarray:
        if x.size != math.prod(shape):
            raise ValueError(f"it has {x.shape[1]} inputs, the model {shape[0]}")
        return x.reshape(len(x), channels, -1).transpose(2, 1, 0).reshape(shape)

    def outward(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, channels, x.shape[-1]).transpose(2, 1, 0).reshape(x.shape[-1], -1)

    return Transform("channels first to last", inward, outward)


def positions(class_token: bool) -> Transform:
    """Position embeddings [1 n d] or [n d] of a square grid, resampled where the model's is another.

    Args:
        class_token: whether the model's first row is its class token's. A source without one gives it zeros
            (its class token has no position), and one with it loses it in a model without.
    """

    def inward(x: np.ndarray, shape: Shape) -> np.ndarray:
        x = x.reshape(x.shape[-2:])
        grid = math.isqrt(len(x))
        has_first = grid * grid != len(x)
        grid = math.isqrt(len(x) - has_first)
        if grid * grid + has_first != len(x):
            raise ValueError(f"{len(x)} positions fill no square grid, with or without a class token")
        first, rest = (x[:1], x[1:]) if has_first else (np.zeros_like(x[:1]), x)
        new = math.isqrt(shape[0] - class_token)
        if new != grid:
            embedding = jnp.asarray(rest, jnp.float32)
            rest = np.asarray(resample_position_embedding(embedding, (grid, grid), (new, new)))
        return np.concatenate([first, rest]) if class_token else rest

    return Transform("positions", inward, lambda x: x[None])
