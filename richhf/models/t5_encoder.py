"""T5's encoder, on given embeddings."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from richhf.models.attention import padding_bias
from richhf.models.choices import ANY
from richhf.models.layers import STREAM, RMSNorm, constrain
from richhf.models.stack import StackOptions, make_layers, run_layers
from richhf.models.t5_layers import T5MLP, T5Config, t5_attention, t5_position_bias


class EncoderLayer(nn.Module):
    """Self-attention and MLP."""

    config: T5Config
    optimize_for: str = ANY
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.norm = RMSNorm(self.config.eps, **types)
        self.attention = t5_attention(self.config, optimize_for=self.optimize_for, **types)
        self.mlp = T5MLP(self.config, **types)
        self.dropout = nn.Dropout(self.config.dropout)

    def __call__(self, x: Float[Array, "b m d"], bias: Array, *, train: bool) -> Float[Array, "b m d"]:
        """Runs the layer; `bias` holds relative positions and mask."""
        x = x + self.dropout(self.attention.to_self(self.norm(x), bias), deterministic=not train)
        x = x + self.dropout(self.mlp(x, train=train), deterministic=not train)
        return constrain(x, STREAM)


class Encoder(nn.Module):
    """T5's encoder on given embeddings.

    The relative positions run over the given sequence by index. On concatenated image and text tokens that
    means: image token i (row by row over the grid) is at position i, text token j at position n + j. So two
    image tokens above each other are `grid` apart, and text tokens see most of a large image in the last
    bucket; where in the picture a token lies is told by the ViT's position embedding.
    """

    config: T5Config
    options: StackOptions = StackOptions()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.position_bias = t5_position_bias(config, True, self.param_dtype)
        depth, options = config.encoder_layers, self.options
        self.layers = make_layers(
            lambda _: EncoderLayer(config, options.optimize_for, **types), depth, options
        )
        self.norm = RMSNorm(config.eps, **types)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(
        self, x: Float[Array, "b m d"], mask: Bool[Array, "b m"], *, train: bool = False
    ) -> Float[Array, "b m d"]:
        """Encodes embeddings; where `mask` is False nobody looks (the outputs there mean nothing)."""
        bias = self.position_bias(x.shape[1]) + padding_bias(mask)
        x = self.dropout(constrain(x, STREAM), deterministic=not train)

        def encode(layer: EncoderLayer, x: Array, entry: None) -> tuple[Array, None]:
            return layer(x, bias, train=train), entry

        depth = self.config.encoder_layers
        x, _ = run_layers(self.layers, encode, x, depth=depth, options=self.options)
        return self.dropout(self.norm(x), deterministic=not train)
