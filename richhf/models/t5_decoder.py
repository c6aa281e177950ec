"""T5's decoder: teacher forcing, and one token at a time with a cache."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from richhf.models.attention import causal_bias, padding_bias
from richhf.models.layers import STREAM, RMSNorm, constrain
from richhf.models.stack import LayerFunction, StackOptions, make_layers, run_layers
from richhf.models.t5_layers import T5MLP, T5Config, t5_attention, t5_position_bias


class DecoderCache(flax.struct.PyTreeNode):
    """What decoding keeps from step to step.

    Attributes:
        own: an entry a layer, as `run_layers` keeps them: self-attention keys and values so far, zeros ahead,
            each float [b h k c].
        memory: an entry a layer: cross-attention keys and values, made once, each float [b h m c].
        memory_bias: mask of the memory as a bias, float [b 1 1 m].
        bias: relative position bias and causal mask of all steps, float [1 h k k].
    """

    # `Any`: the leaves of a pytree are also shapes, shardings or None.
    own: Any
    memory: Any
    memory_bias: Any
    bias: Any

    def repeat(self, times: int) -> "DecoderCache":
        """Each row `times` times, one beside the other."""
        return self.replace(
            own=_map_rows(lambda x, axis: jnp.repeat(x, times, axis), self.own),
            memory=_map_rows(lambda x, axis: jnp.repeat(x, times, axis), self.memory),
            memory_bias=jnp.repeat(self.memory_bias, times, 0),
        )

    def take(self, rows: Int[Array, "b"]) -> "DecoderCache":
        """What was decoded so far, of other rows; each stays with its memory, which those rows must share."""
        return self.replace(own=_map_rows(lambda x, axis: jnp.take(x, rows, axis), self.own))


def _map_rows(function: Callable[[Array, int], Array], entries: Any) -> Any:
    """Applies (array, axis of rows) to keys and values, [b h k c] or, of a scan, [layers b h k c]."""
    return jax.tree.map(lambda x: function(x, x.ndim - 4), entries)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the memory, MLP."""

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.norm = RMSNorm(self.config.eps, **types)
        self.attention = t5_attention(self.config, **types)
        self.memory_norm = RMSNorm(self.config.eps, **types)
        self.memory_attention = t5_attention(self.config, **types)
        self.mlp = T5MLP(self.config, **types)
        self.dropout = nn.Dropout(self.config.dropout)

    def keys_values(self, x: Float[Array, "b k d"]) -> tuple[Array, Array]:
        """Self-attention's keys and values of a layer input."""
        return self.attention.keys_values(self.norm(x))

    def __call__(
        self,
        x: Float[Array, "b q d"],
        own: tuple[Array, Array],
        bias: Array,
        memory: tuple[Array, Array],
        memory_bias: Array,
        *,
        train: bool = False,
    ) -> Float[Array, "b q d"]:
        """Runs the layer with keys and values of both attentions given."""
        x = x + self.dropout(self.attention(self.norm(x), *own, bias), deterministic=not train)
        attended = self.memory_attention(self.memory_norm(x), *memory, memory_bias)
        x = x + self.dropout(attended, deterministic=not train)
        x = x + self.dropout(self.mlp(x, train=train), deterministic=not train)
        return constrain(x, STREAM)


class Decoder(nn.Module):
    """T5's decoder on embedded tokens: all at once (teacher forcing) or one by one with a cache."""

    config: T5Config
    options: StackOptions = StackOptions()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.position_bias = t5_position_bias(config, False, self.param_dtype)
        depth = config.decoder_layers
        self.layers = make_layers(lambda _: DecoderLayer(config, **types), depth, self.options)
        self.norm = RMSNorm(config.eps, **types)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(
        self,
        x: Float[Array, "b k d"],
        memory: Float[Array, "b m d"],
        memory_mask: Bool[Array, "b m"],
        *,
        train: bool = False,
    ) -> Float[Array, "b k d"]:
        """Decodes all positions; each sees itself and those before it."""
        bias = self.position_bias(x.shape[1]) + causal_bias(x.shape[1])
        memory_bias = padding_bias(memory_mask)
        x = self.dropout(x, deterministic=not train)

        def decode(layer: DecoderLayer, x: Array, entry: None) -> tuple[Array, None]:
            seen = layer.memory_attention.keys_values(memory)
            return layer(x, layer.keys_values(x), bias, seen, memory_bias, train=train), entry

        x, _ = self._run(decode, x)
        return self.dropout(self.norm(x), deterministic=not train)

    def start(
        self, memory: Float[Array, "b m d"], memory_mask: Bool[Array, "b m"], length: int
    ) -> DecoderCache:
        """Makes the cache for decoding `length` tokens."""
        config = self.config
        empty = jnp.zeros((memory.shape[0], config.num_heads, length, config.d_kv), self.dtype)

        def prepare(layer: DecoderLayer, x: Array, entry: None) -> tuple[Array, Any]:
            del entry
            return x, ((empty, empty), layer.memory_attention.keys_values(x))

        _, kept = self._run(prepare, memory)
        own, seen = kept if self.options.scan else zip(*kept, strict=True)
        return DecoderCache(
            own=own,
            memory=seen,
            memory_bias=padding_bias(memory_mask),
            bias=self.position_bias(length) + causal_bias(length),
        )

    def step(
        self, x: Float[Array, "b 1 d"], position: Int[Array, ""], cache: DecoderCache
    ) -> tuple[Float[Array, "b 1 d"], DecoderCache]:
        """Decodes the token at `position`, and keeps its keys and values."""
        bias = lax.dynamic_slice_in_dim(cache.bias, position, 1, axis=2)

        def advance(layer: DecoderLayer, x: Array, entry: Any) -> tuple[Array, Any]:
            (keys, values), memory = entry
            new_keys, new_values = layer.keys_values(x)
            keys = lax.dynamic_update_slice_in_dim(keys, new_keys, position, axis=2)
            values = lax.dynamic_update_slice_in_dim(values, new_values, position, axis=2)
            return layer(x, (keys, values), bias, memory, cache.memory_bias), (keys, values)

        entries = cache.own, cache.memory
        x, own = self._run(advance, x, entries if self.options.scan else tuple(zip(*entries, strict=True)))
        return self.norm(x), cache.replace(own=own)

    def _run(self, function: LayerFunction, x: Array, entries: Any = None) -> tuple[Array, Any]:
        depth = self.config.decoder_layers
        return run_layers(self.layers, function, x, entries, depth=depth, options=self.options)
