"""What T5's encoder and decoder are made of: sizes, attention, MLP and position bias."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from richhf.models.attention import MultiHeadAttention, RelativePositionBias
from richhf.models.choices import ANY, check_choice, check_range
from richhf.models.layers import HIDDEN, Dense, RMSNorm, constrain

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
        check_range(self, ("vocab_size", "d_model", "num_heads", "d_kv", "d_ff"))
        check_range(self, ("encoder_layers", "decoder_layers"))
        check_range(self, ("relative_buckets",), 4)  # Of fewer, the bidirectional form has none for 0.
        # As many buckets are exact distances in the decoder; those beyond need some room up to the last.
        check_range(self, ("relative_max_distance",), self.relative_buckets // 2 + 1)
        check_range(self, ("neighbour_heads",), 0, self.num_heads + 1)
        check_range(self, ("eps",), 0)
        check_range(self, ("dropout",), 0, 1)


def t5_attention(
    config: T5Config, dtype: Any, param_dtype: Any, optimize_for: str = ANY
) -> MultiHeadAttention:
    """Attention with a config's sizes."""
    return MultiHeadAttention(
        config.num_heads,
        config.d_kv,
        config.d_model,
        use_bias=False,
        scaled=config.scaled_attention,
        optimize_for=optimize_for,
        dtype=dtype,
        param_dtype=param_dtype,
    )


def t5_position_bias(config: T5Config, bidirectional: bool, param_dtype: Any) -> RelativePositionBias:
    """The bias that the layers of a stack share."""
    return RelativePositionBias(
        config.num_heads,
        bidirectional,
        config.d_model,
        config.relative_buckets,
        config.relative_max_distance,
        param_dtype,
        config.neighbour_heads,
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
        hidden = constrain(Dense(config.d_ff, ("embed", "mlp"), name="inward", **types)(x), HIDDEN)
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
