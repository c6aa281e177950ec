"""T5 encoder-decoder (Raffel et al. 2020), whose encoder takes embeddings instead of tokens.

Same parameters and same maths as the public T5 v1.0 (ReLU, tied logits) and v1.1 (gated GELU, untied): RMS
norm before each branch, relative position buckets shared by the layers of a stack, unscaled attention, no
biases.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from richhf.models.attention import MultiHeadAttention, RelativePositionBias, causal_bias, padding_bias
from richhf.models.choices import check_choice
from richhf.models.layers import Dense, Embedding, RMSNorm

RELU = "relu"
GATED_GELU = "gated_gelu"


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes of the text model; the defaults are T5-base v1.0 (paper section 4.1).

    Attributes:
        vocab_size: rows of the embedding table.
        d_model: width of the stream.
        num_heads: number of attention heads.
        d_kv: width of a head.
        d_ff: hidden width of the MLPs.
        encoder_layers: depth of the encoder.
        decoder_layers: depth of the decoder.
        mlp: "relu" (v1.0) or "gated_gelu" (v1.1).
        tied_logits: scores tokens by their embeddings, with the output rescaled by d_model**-0.5 (v1.0); else
            by a kernel of their own (v1.1).
        relative_buckets: number of relative position buckets.
        relative_max_distance: distance from which on all share the last bucket.
        neighbour_heads: heads whose relative bias starts by looking at a neighbouring token
            (`attention.neighbour_bias`, for small models from scratch); 0 is T5.
        scaled_attention: divides attention logits by sqrt(d_kv). False is T5, which starts with query kernels
            smaller by as much instead: the same function, but Adam's steps are then too long for them.
        eps: epsilon of the norms.
        dropout: rate of dropout on embeddings, in the MLPs and in the residual branches.
    """

    vocab_size: int = 32128
    d_model: int = 768
    num_heads: int = 12
    d_kv: int = 64
    d_ff: int = 3072
    encoder_layers: int = 12
    decoder_layers: int = 12
    mlp: str = RELU
    tied_logits: bool = True
    relative_buckets: int = 32
    relative_max_distance: int = 128
    neighbour_heads: int = 0
    scaled_attention: bool = False
    eps: float = 1e-6
    dropout: float = 0.0

    def __post_init__(self):
        check_choice("T5Config.mlp", self.mlp, (RELU, GATED_GELU))


class DecoderCache(flax.struct.PyTreeNode):
    """What greedy decoding keeps from step to step; one entry a layer.

    Attributes:
        keys: self-attention keys so far, zeros ahead, each float [b h k c].
        values: self-attention values so far, zeros ahead, each float [b h k c].
        memory_keys: cross-attention keys, made once, each float [b h m c].
        memory_values: cross-attention values, made once, each float [b h m c].
        memory_bias: mask of the memory as a bias, float [b 1 1 m].
        bias: relative position bias and causal mask of all steps, float [1 h k k].
    """

    # `Any`: the leaves of a pytree are also shapes, shardings or None.
    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    memory_keys: tuple[Any, ...]
    memory_values: tuple[Any, ...]
    memory_bias: Any
    bias: Any


def _attention(config: T5Config, dtype: Any, param_dtype: Any) -> MultiHeadAttention:
    return MultiHeadAttention(
        config.num_heads,
        config.d_kv,
        config.d_model,
        use_bias=False,
        scaled=config.scaled_attention,
        dtype=dtype,
        param_dtype=param_dtype,
    )


class T5MLP(nn.Module):
    """ReLU or gated GELU MLP without biases, with its norm before it."""

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b m d"], *, train: bool = False) -> Float[Array, "b m d"]:
        """Runs the branch (without the residual)."""
        config = self.config
        types = {"use_bias": False, "dtype": self.dtype, "param_dtype": self.param_dtype}
        x = RMSNorm(config.eps, name="norm", dtype=self.dtype, param_dtype=self.param_dtype)(x)
        hidden = Dense(config.d_ff, ("embed", "mlp"), name="inward", **types)(x)
        if config.mlp == GATED_GELU:
            # The tanh form of GELU: the one T5 v1.1 was trained with.
            gate = jax.nn.gelu(
                Dense(config.d_ff, ("embed", "mlp"), name="gate", **types)(x), approximate=True
            )
            hidden = gate * hidden
        else:
            hidden = jax.nn.relu(hidden)
        hidden = nn.Dropout(config.dropout, deterministic=not train)(hidden)
        return Dense(config.d_model, ("mlp", "embed"), name="outward", **types)(hidden)


class EncoderLayer(nn.Module):
    """Self-attention and MLP."""

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.norm = RMSNorm(self.config.eps, **types)
        self.attention = _attention(self.config, **types)
        self.mlp = T5MLP(self.config, **types)
        self.dropout = nn.Dropout(self.config.dropout)

    def __call__(self, x: Float[Array, "b m d"], bias: Array, *, train: bool) -> Float[Array, "b m d"]:
        """Runs the layer; `bias` holds relative positions and mask."""
        x = x + self.dropout(self.attention.to_self(self.norm(x), bias), deterministic=not train)
        return x + self.dropout(self.mlp(x, train=train), deterministic=not train)


class Encoder(nn.Module):
    """T5's encoder on given embeddings.

    The relative positions run over the given sequence by index. On concatenated image and text tokens that
    means: image token i (row by row over the grid) is at position i, text token j at position n + j. So two
    image tokens above each other are `grid` apart, and text tokens see most of a large image in the last
    bucket; where in the picture a token lies is told by the ViT's position embedding.
    """

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.position_bias = RelativePositionBias(
            config.num_heads,
            True,
            config.d_model,
            config.relative_buckets,
            config.relative_max_distance,
            self.param_dtype,
            config.neighbour_heads,
        )
        self.layers = [EncoderLayer(config, **types) for _ in range(config.encoder_layers)]
        self.norm = RMSNorm(config.eps, **types)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b m d"], mask: Bool[Array, "b m"], *, train: bool = False
    ) -> Float[Array, "b m d"]:
        """Encodes embeddings; where `mask` is False nobody looks (the outputs there mean nothing)."""
        bias = self.position_bias(x.shape[1]) + padding_bias(mask)
        x = self.dropout(x, deterministic=not train)
        for layer in self.layers:
            x = layer(x, bias, train=train)
        return self.dropout(self.norm(x), deterministic=not train)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the memory, MLP."""

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.norm = RMSNorm(self.config.eps, **types)
        self.attention = _attention(self.config, **types)
        self.memory_norm = RMSNorm(self.config.eps, **types)
        self.memory_attention = _attention(self.config, **types)
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
        return x + self.dropout(self.mlp(x, train=train), deterministic=not train)


class Decoder(nn.Module):
    """T5's decoder on embedded tokens: all at once (teacher forcing) or one by one with a cache."""

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.position_bias = RelativePositionBias(
            config.num_heads,
            False,
            config.d_model,
            config.relative_buckets,
            config.relative_max_distance,
            self.param_dtype,
            config.neighbour_heads,
        )
        self.layers = [DecoderLayer(config, **types) for _ in range(config.decoder_layers)]
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
        for layer in self.layers:
            memory_keys_values = layer.memory_attention.keys_values(memory)
            x = layer(x, layer.keys_values(x), bias, memory_keys_values, memory_bias, train=train)
        return self.dropout(self.norm(x), deterministic=not train)

    def start(
        self, memory: Float[Array, "b m d"], memory_mask: Bool[Array, "b m"], length: int
    ) -> DecoderCache:
        """Makes the cache for decoding `length` tokens."""
        config = self.config
        empty = jnp.zeros((memory.shape[0], config.num_heads, length, config.d_kv), self.dtype)
        kept = [layer.memory_attention.keys_values(memory) for layer in self.layers]
        return DecoderCache(
            keys=(empty,) * len(self.layers),
            values=(empty,) * len(self.layers),
            memory_keys=tuple(keys for keys, _ in kept),
            memory_values=tuple(values for _, values in kept),
            memory_bias=padding_bias(memory_mask),
            bias=self.position_bias(length) + causal_bias(length),
        )

    def step(
        self, x: Float[Array, "b 1 d"], position: Int[Array, ""], cache: DecoderCache
    ) -> tuple[Float[Array, "b 1 d"], DecoderCache]:
        """Decodes the token at `position`, and keeps its keys and values."""
        bias = lax.dynamic_slice_in_dim(cache.bias, position, 1, axis=2)
        all_keys, all_values = [], []
        for i, layer in enumerate(self.layers):
            keys, values = layer.keys_values(x)
            keys = lax.dynamic_update_slice_in_dim(cache.keys[i], keys, position, axis=2)
            values = lax.dynamic_update_slice_in_dim(cache.values[i], values, position, axis=2)
            memory = cache.memory_keys[i], cache.memory_values[i]
            x = layer(x, (keys, values), bias, memory, cache.memory_bias)
            all_keys.append(keys)
            all_values.append(values)
        return self.norm(x), cache.replace(keys=tuple(all_keys), values=tuple(all_values))


class T5(nn.Module):
    """Embedding, encoder, decoder and logits, each callable alone."""

    config: T5Config
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding = Embedding(config.vocab_size, config.d_model, **types)
        self.encoder = Encoder(config, **types)
        self.decoder = Decoder(config, **types)
        if not config.tied_logits:
            self.logits_dense = Dense(config.vocab_size, ("embed", "vocab"), use_bias=False, **types)

    def embed(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch d"]:
        """Embeds tokens; encoder and decoder share the table."""
        return self.embedding(tokens)

    def encode(
        self, embeddings: Float[Array, "b m d"], mask: Bool[Array, "b m"], *, train: bool = False
    ) -> Float[Array, "b m d"]:
        """Runs the encoder (see `Encoder`)."""
        return self.encoder(embeddings, mask, train=train)

    def _logits(self, x: Float[Array, "b k d"]) -> Float[Array, "b k v"]:
        if self.config.tied_logits:
            return self.embedding.attend(x * self.config.d_model**-0.5)
        return self.logits_dense(x)

    def decode(
        self,
        tokens: Int[Array, "b k"],
        memory: Float[Array, "b m d"],
        memory_mask: Bool[Array, "b m"],
        *,
        train: bool = False,
    ) -> Float[Array, "b k v"]:
        """Logits of the next token after each of `tokens` (teacher forcing)."""
        return self._logits(self.decoder(self.embed(tokens), memory, memory_mask, train=train))

    def start_decoding(
        self, memory: Float[Array, "b m d"], memory_mask: Bool[Array, "b m"], length: int
    ) -> DecoderCache:
        """Makes the cache for `decode_step`."""
        return self.decoder.start(memory, memory_mask, length)

    def decode_step(
        self, tokens: Int[Array, "b"], position: Int[Array, ""], cache: DecoderCache
    ) -> tuple[Float[Array, "b v"], DecoderCache]:
        """Logits of the next token after `tokens`, which stand at `position`, and the cache with them."""
        x, cache = self.decoder.step(self.embed(tokens)[:, None], position, cache)
        return self._logits(x)[:, 0], cache
