"""Multi-head attention as ViT and T5 both use it, and T5's relative position bias."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from richhf.models.choices import ANY, CPU
from richhf.models.layers import BY_HEAD, Dense, Initializer, constrain, lecun_normal, with_axes

MASKED = -1e9
MOST_WEIGHTS = 7 << 17
"""So many at once stay in a processor's cache, 3.5 MiB in float32."""


def padding_bias(mask: Bool[Array, "b m"]) -> Float[Array, "b 1 1 m"]:
    """Turns a mask of keys (True = may be seen) into a bias on attention logits."""
    return jnp.where(mask, 0.0, MASKED)[:, None, None, :]


def causal_bias(length: int) -> Float[Array, "1 1 k k"]:
    """Bias that lets position i see positions 0..i.

    For length 3, with `-` for `MASKED`::

        0 - -
        0 0 -
        0 0 0
    """
    return jnp.where(np.tri(length, dtype=bool), 0.0, MASKED)[None, None]


class MultiHeadAttention(nn.Module):
    """Attention with separate projections; keys and values can be made once and kept.

    Attributes:
        num_heads: number of heads.
        head_width: width of a head; the heads together need not be as wide as the stream.
        features: width of the output.
        use_bias: biases on all four projections (ViT) or on none (T5).
        scaled: divides the logits by sqrt(head_width) (ViT); T5 leaves them unscaled and starts its query
            kernel smaller by as much.
        optimize_for: "any", or "cpu": many weights are made and used by groups of heads (`mix_on_cpu`).
    """

    num_heads: int
    head_width: int
    features: int
    use_bias: bool = True
    scaled: bool = True
    optimize_for: str = ANY
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""

        def inward(init: Initializer) -> Dense:
            return Dense(
                self.num_heads * self.head_width,
                ("embed", "joined_kv"),
                self.use_bias,
                init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )

        unscaled_init = nn.initializers.variance_scaling(1 / self.head_width, "fan_in", "normal")
        self.query = inward(lecun_normal if self.scaled else unscaled_init)
        self.key = inward(lecun_normal)
        self.value = inward(lecun_normal)
        self.out = Dense(
            self.features,
            ("joined_kv", "embed"),
            self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

    def _split(self, x: Float[Array, "b m hc"]) -> Float[Array, "b h m c"]:
        x = x.reshape(*x.shape[:2], self.num_heads, self.head_width).transpose(0, 2, 1, 3)
        return constrain(x, BY_HEAD)

    def keys_values(
        self, x: Float[Array, "b m d"]
    ) -> tuple[Float[Array, "b h m c"], Float[Array, "b h m c"]]:
        """Projects what can be attended to."""
        return self._split(self.key(x)), self._split(self.value(x))

    def __call__(
        self,
        x: Float[Array, "b q d"],
        keys: Float[Array, "b h m c"],
        values: Float[Array, "b h m c"],
        bias: Float[Array, "#b #h #q #m"] | None = None,
    ) -> Float[Array, "b q e"]:
        """Attends from `x` to keys and values.

        Args:
            x: where attention starts from.
            keys: projected keys, from `keys_values`.
            values: projected values, from `keys_values`.
            bias: added to the logits (relative positions, masks); axes of size one are shared.

        Returns:
            the output, `features` wide.
        """
        query = self._split(self.query(x))
        if self.scaled:
            query = query * self.head_width**-0.5
        mixed = self._mix(query, keys, values, bias)
        return self.out(mixed.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1))

    def _mix(
        self,
        query: Float[Array, "b h q c"],
        keys: Float[Array, "b h m c"],
        values: Float[Array, "b h m c"],
        bias: Float[Array, "#b #h #q #m"] | None,
    ) -> Float[Array, "b h q c"]:
        if self.optimize_for == CPU and query.shape[2] > 1:
            weights = math.prod(query.shape[:3]) * keys.shape[2]
            groups = min(self.num_heads, math.ceil(weights / MOST_WEIGHTS))
            groups = next(n for n in range(groups, self.num_heads + 1) if self.num_heads % n == 0)
        else:
            groups = 1
        if groups == 1:
            return mix(query, keys, values, bias)
        if bias is not None:
            bias = jnp.broadcast_to(bias, (bias.shape[0], self.num_heads, *bias.shape[2:]))

        def split(x: Array) -> Array:
            return jnp.moveaxis(x.reshape(x.shape[0], groups, -1, *x.shape[2:]), 1, 0)

        parts = jax.tree.map(split, (query, keys, values, bias))
        return jnp.moveaxis(lax.map(lambda part: mix_on_cpu(*part), parts), 0, 1).reshape(query.shape)

    def to_self(self, x: Float[Array, "b q d"], bias: Array | None = None) -> Float[Array, "b q e"]:
        """Self-attention."""
        return self(x, *self.keys_values(x), bias)


def mix(
    query: Float[Array, "b h q c"],
    keys: Float[Array, "b h m c"],
    values: Float[Array, "b h m c"],
    bias: Float[Array, "#b #h #q #m"] | None,
) -> Float[Array, "b h q c"]:
    """Values mixed by the softmax, in float32, of how well their keys go with each query."""
    logits = jnp.einsum("bhqc,bhmc->bhqm", query, keys, preferred_element_type=jnp.float32)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
    return jnp.einsum("bhqm,bhmc->bhqc", weights, values)


def mix_on_cpu(
    query: Float[Array, "b h q c"],
    keys: Float[Array, "b h m c"],
    values: Float[Array, "b h m c"],
    bias: Float[Array, "#b #h #q #m"] | None,
) -> Float[Array, "b h q c"]:
    """`mix` of float32 to rounding, as a CPU computes it sooner.

    The mixture is divided by the sum of the weights, which is less to divide than the weights are. And XLA
    gives products whose operands lie in order to a library that is slow for those in batches: the query is
    turned first, behind a barrier lest XLA undo it, and the product stays with XLA.
    """
    turned = lax.optimization_barrier(query.swapaxes(-1, -2))
    logits = jnp.einsum("bhcq,bhmc->bhqm", turned, keys)
    if bias is not None:
        logits = logits + bias
    weights = jnp.exp(logits - lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    return jnp.einsum("bhqm,bhmc->bhqc", weights, values) / weights.sum(axis=-1, keepdims=True)


def relative_position_buckets(
    distance: Int[np.ndarray, "*shape"], *, bidirectional: bool, buckets: int, max_distance: int
) -> Int[np.ndarray, "*shape"]:
    """The bucket of each relative position, as in T5 (Raffel et al. 2020, section 2.1).

    Half of the buckets are exact distances, the other half grow logarithmically up to `max_distance`, beyond
    which all share the last. The bidirectional form spends half of the buckets on each sign; the other one
    puts everything that lies ahead into bucket 0.

    Args:
        distance: position of the key minus position of the query.
        bidirectional: True in the encoder, False in the decoder.
        buckets: number of buckets in all.
        max_distance: where the logarithmic buckets end.

    Returns:
        int32 buckets in [0, buckets).
    """
    offset = np.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = buckets * (distance > 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    # float32 on purpose: the published models were trained with its rounding at the bucket borders.
    growth = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    growth = growth / np.float32(math.log(max_distance / exact)) * np.float32(buckets - exact)
    far = np.minimum(exact + growth.astype(np.int32), buckets - 1)
    return (offset + np.where(distance < exact, distance, far)).astype(np.int32)


def neighbour_bias(
    heads: int, neighbour_heads: int, *, bidirectional: bool, buckets: int, max_distance: int
) -> Float[np.ndarray, "buckets h"]:
    """A bias whose first heads look at a neighbour: by turns at the token before and at the token after.

    A token that does not know its neighbours can neither be copied in order nor understood (a *red* circle).
    Small models from scratch take thousands of steps to learn as much. Not in T5, whose bias starts at
    random.

    Args:
        heads: number of heads.
        neighbour_heads: how many of them look at a neighbour; the bias of the others is 0.
        bidirectional: see `relative_position_buckets`.
        buckets: number of buckets.
        max_distance: distance from which on all share the last bucket.

    Returns:
        float32, -2 for each step away from the neighbour, at most -8.
    """
    nearest_first = np.array(sorted(range(-max_distance, max_distance + 1), key=abs))
    bucket = relative_position_buckets(
        nearest_first, bidirectional=bidirectional, buckets=buckets, max_distance=max_distance
    )
    found, first = np.unique(bucket, return_index=True)
    bias = np.zeros((buckets, heads), np.float32)
    for head in range(neighbour_heads):
        steps = np.abs(nearest_first[first] - (1 if head % 2 else -1))
        bias[found, head] = -2 * np.minimum(steps, 4)
    return bias


class RelativePositionBias(nn.Module):
    """A learned bias by head and bucketed distance, shared by all layers of a stack.

    Attributes:
        num_heads: number of heads.
        bidirectional: True in the encoder, False in the decoder.
        buckets: number of buckets.
        max_distance: distance from which on all share the last bucket.
        features: width of the stream, which sets the initial scale as in T5.
        neighbour_heads: heads that start with `neighbour_bias`; 0 is T5.
    """

    num_heads: int
    bidirectional: bool
    features: int
    buckets: int = 32
    max_distance: int = 128
    param_dtype: Any = jnp.float32
    neighbour_heads: int = 0

    @nn.compact
    def __call__(self, length: int) -> Float[Array, "1 h m m"]:
        """Bias of a sequence of `length` attending to itself: query position, then key position."""

        def start(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
            offset = neighbour_bias(
                self.num_heads,
                self.neighbour_heads,
                bidirectional=self.bidirectional,
                buckets=self.buckets,
                max_distance=self.max_distance,
            )
            return nn.initializers.normal(self.features**-0.5)(key, shape, dtype) + offset.astype(dtype)

        table = self.param(
            "embedding",
            with_axes(start, ("relpos_buckets", "heads")),
            (self.buckets, self.num_heads),
            self.param_dtype,
        )
        # The bias depends on the distance alone, so only 2m values are looked up; repeating that row and
        # cutting it into rows one shorter moves each row one to the right, without a gather of m * m entries.
        distance = (np.arange(2 * length) + length) % (2 * length) - length
        bucket = relative_position_buckets(
            distance, bidirectional=self.bidirectional, buckets=self.buckets, max_distance=self.max_distance
        )
        by_distance = jnp.take(table.astype(jnp.float32), bucket, axis=0).T
        repeated = jnp.tile(by_distance, (1, length))[:, : length * (2 * length - 1)]
        return repeated.reshape(self.num_heads, length, 2 * length - 1)[None, :, :, :length]
