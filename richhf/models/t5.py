"""T5 encoder-decoder (Raffel et al. 2020), whose encoder takes embeddings instead of tokens.

Same parameters and same maths as the public T5 v1.0 (ReLU, tied logits) and v1.1 (gated GELU, untied): RMS
norm before each branch, relative position buckets shared by the layers of a stack, unscaled attention, no
biases.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from richhf.models.layers import Dense, Embedding
from richhf.models.stack import StackOptions
from richhf.models.t5_decoder import Decoder, DecoderCache
from richhf.models.t5_encoder import Encoder
from richhf.models.t5_layers import T5Config


class T5(nn.Module):
    """Embedding, encoder, decoder and logits, each callable alone."""

    config: T5Config
    options: StackOptions = StackOptions()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding = Embedding(config.vocab_size, config.d_model, **types)
        self.encoder = Encoder(config, self.options, **types)
        self.decoder = Decoder(config, self.options, **types)
        if not config.tied_logits:
            axes, param_dtype = ("embed", "vocab"), self.param_dtype
            self.logits_dense = Dense(config.vocab_size, axes, use_bias=False, param_dtype=param_dtype)

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
