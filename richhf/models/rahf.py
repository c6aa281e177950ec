"""RAHF (paper section 4.1): arrays in, the seven outputs' logits out."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from richhf.feedback import AUGMENTED_PROMPT, HEATMAPS, KEYWORDS, MULTI_HEAD, OUTPUTS, SCORES, VARIANTS
from richhf.models.choices import ANY, CPU, PROCESSORS, check_choice
from richhf.models.heads import HeatmapHead, HeatmapHeadConfig, ScoreHead, ScoreHeadConfig
from richhf.models.layers import Dense
from richhf.models.stack import StackOptions
from richhf.models.t5 import T5
from richhf.models.t5_decoder import DecoderCache
from richhf.models.t5_layers import T5Config
from richhf.models.vit import ViT, ViTConfig

IMAGE_AND_TEXT = "image_and_text"
TEXT = "text"
NO_REMAT = "none"
BLOCKS = "blocks"


@dataclasses.dataclass(frozen=True)
class RAHFConfig:
    """The whole network; the defaults are the paper's sizes.

    Attributes:
        variant: "multi_head" (one prompt row, a head for each output) or "augmented_prompt" (a row for each
            output with its task string, heads shared by kind).
        decoder_attends_to: "image_and_text" (the paper) or "text" (the author's code).
        encode_class_token: T5's encoder sees the ViT's class token too, before the image's tokens (the
            author's code); it is no part of the feature map, nor seen by the decoder.
        vit: image encoder.
        t5: text model.
        heatmap_head: layout of the heatmap heads.
        score_head: layout of the score heads.
        word_head: adds a linear head on the encoded text tokens of the keywords row that says for each token
            whether its word is misaligned. Not in the paper: an extension of this project, which helps small
            models learn what the decoder must find.
        image_word_head: adds a linear head on the ViT's tokens that says which tokens of the vocabulary stand
            for what the image shows (those of the prompt's aligned words), an image at a time: word detectors
            learnt from captions (Fang et al. 2015, "From captions to visual concepts and back"). Not in the
            paper, whose ViT is pretrained: an extension of this project, by which a ViT from scratch sees
            what words speak of.
        dtype: what is computed in; statistics of norms, softmaxes, logits and losses are float32 whatever it
            is.
        param_dtype: what parameters are stored in.
        remat: what is computed again in the backward pass instead of being kept: "none", or "blocks": of the
            ViT's blocks, T5's layers and the heatmap heads' residual blocks only the input is kept.
        scan_layers: runs ViT's blocks and T5's layers by a scan, which compiles sooner; the parameters are
            then stacked (`richhf.models.stack_layers`).
        optimize_for: "any", or "cpu": convolutions and attention computed as is quickest there, the same to
            rounding, in float32. The parameters are the same.
    """

    variant: str = MULTI_HEAD
    decoder_attends_to: str = IMAGE_AND_TEXT
    encode_class_token: bool = False
    vit: ViTConfig = dataclasses.field(default_factory=ViTConfig)
    t5: T5Config = dataclasses.field(default_factory=T5Config)
    heatmap_head: HeatmapHeadConfig = dataclasses.field(default_factory=HeatmapHeadConfig)
    score_head: ScoreHeadConfig = dataclasses.field(default_factory=ScoreHeadConfig)
    word_head: bool = False
    image_word_head: bool = False
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = NO_REMAT
    scan_layers: bool = False
    optimize_for: str = ANY

    def __post_init__(self):
        check_choice("RAHFConfig.variant", self.variant, VARIANTS)
        check_choice("RAHFConfig.decoder_attends_to", self.decoder_attends_to, (IMAGE_AND_TEXT, TEXT))
        check_choice("RAHFConfig.dtype", self.dtype, ("float32", "bfloat16", "float16"))
        check_choice("RAHFConfig.param_dtype", self.param_dtype, ("float32", "bfloat16", "float16"))
        check_choice("RAHFConfig.remat", self.remat, (NO_REMAT, BLOCKS))
        if self.encode_class_token and not self.vit.class_token:
            raise ValueError(
                "RAHFConfig.encode_class_token is on, but the ViT has no class token; set "
                "ViTConfig.class_token, or leave both off."
            )
        check_choice("RAHFConfig.optimize_for", self.optimize_for, PROCESSORS)
        if self.optimize_for == CPU and self.dtype != "float32":
            raise ValueError(
                f"RAHFConfig.optimize_for is {CPU!r} and dtype {self.dtype!r}; Winograd's sums lose too much "
                f"below float32. Set dtype to 'float32' or optimize_for to {ANY!r}."
            )

    @property
    def rows(self) -> int:
        """Number of prompt rows an image comes with."""
        return len(OUTPUTS) if self.variant == AUGMENTED_PROMPT else 1

    @property
    def types(self) -> dict[str, Any]:
        """What layers are made with: `dtype` and `param_dtype`."""
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}

    @property
    def map_size(self) -> int:
        """Side of the predicted maps."""
        return self.heatmap_head.map_size(self.vit.grid)


class Memory(flax.struct.PyTreeNode):
    """What the decoder attends to.

    Attributes:
        tokens: encoded tokens of the keywords row, float [b m d].
        mask: True where there is a token, bool [b m].
    """

    # `Any`, here and below: the leaves of a pytree are also shapes, shardings or None.
    tokens: Any
    mask: Any


class RAHFOutput(flax.struct.PyTreeNode):
    """Logits of the outputs that were asked for; what was not is absent or None.

    Attributes:
        heatmaps: maps of logits by name, float [b h w], `RAHFConfig.map_size` on both sides.
        heatmap_features: in place of them, where their heads are left out, what those take, by name: encoded
            image tokens, float [b grid grid d].
        scores: logits by name, float [b].
        keyword_logits: logits of the next token after each decoder input, float [b k v].
        word_logits: for each prompt token of the keywords row, the logit of its word being misaligned,
            float [b l].
        image_word_logits: for each token of the vocabulary, the logit of the image showing what it says,
            float [b v].
        memory: what the decoder attends to, to decode from.
    """

    heatmaps: dict[str, Any]
    scores: dict[str, Any]
    heatmap_features: Any = None
    keyword_logits: Any = None
    word_logits: Any = None
    image_word_logits: Any = None
    memory: Any = None


def order_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    """Checks names of outputs and puts them into the project's order."""
    for output in outputs:
        check_choice("an output", output, OUTPUTS)
    if not outputs:
        raise ValueError(f"no output was asked for; name some of {', '.join(OUTPUTS)}.")
    return tuple(output for output in OUTPUTS if output in outputs)


def scale_image(image: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Scales bytes to [-1, 1]; floating images are taken to lie there already."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 127.5 - 1.0
    return image


def make_heatmap_head(config: RAHFConfig) -> HeatmapHead:
    """One heatmap head of the network, without its parameters."""
    return HeatmapHead(config.heatmap_head, config.remat == BLOCKS, config.optimize_for, **config.types)


def _pass_on(name: str | None, features: Array) -> Array:
    """In place of a head."""
    return features


class RAHF(nn.Module):
    """ViT once an image, T5's encoder once a prompt row, each head on the rows that need it."""

    config: RAHFConfig

    def setup(self):
        """Makes the parts."""
        config = self.config
        types = config.types
        stack = StackOptions(config.remat == BLOCKS, config.scan_layers, config.optimize_for)
        self.vit = ViT(config.vit, stack, **types)
        self.visual_token_projection = Dense(config.t5.d_model, ("joined_kv", "embed"), **types)
        self.t5 = T5(config.t5, stack, **types)
        if config.variant == MULTI_HEAD:
            self.heatmap_heads = {name: make_heatmap_head(config) for name in HEATMAPS}
            self.score_heads = {name: ScoreHead(config.score_head, **types) for name in SCORES}
        else:
            self.heatmap_head = make_heatmap_head(config)
            self.score_head = ScoreHead(config.score_head, **types)
        param_dtype = types["param_dtype"]
        if config.word_head:
            self.word_head = Dense(1, ("embed", None), param_dtype=param_dtype)
        if config.image_word_head:
            size, axes, rare = config.t5.vocab_size, ("embed", "vocab"), nn.initializers.constant(-4.0)
            self.image_word_head = Dense(size, axes, bias_init=rare, param_dtype=param_dtype)

    def __call__(
        self,
        image: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"],
        encoder_input_tokens: Int[Array, "b t l"],
        decoder_input_tokens: Int[Array, "b k"] | None = None,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        heatmap_heads: bool = True,
        train: bool = False,
    ) -> RAHFOutput:
        """Predicts the outputs that are asked for, and computes nothing else.

        Args:
            image: uint8 pixels, or floats in [-1, 1].
            encoder_input_tokens: prompt rows, padded with 0: one row (multi-head), or one for each of
                `OUTPUTS` in that order (augmented prompt).
            decoder_input_tokens: target tokens shifted right, starting with 0; without them the decoder does
                not run.
            outputs: names of the outputs wanted.
            heatmap_heads: runs them; without, what they take is given.
            train: whether dropout is on (needs a "dropout" rng where a rate is above zero).

        Returns:
            logits.
        """
        outputs = order_outputs(outputs)
        if encoder_input_tokens.shape[1] != self.config.rows:
            raise ValueError(
                f"encoder_input_tokens has {encoder_input_tokens.shape[1]} rows an image; the variant "
                f"{self.config.variant} takes {self.config.rows}. Task and model must be of one variant."
            )
        with_class = self.config.encode_class_token
        seen = self.vit(scale_image(image), train=train, keep_class_token=with_class)
        features, text, mask = self._encode(seen, encoder_input_tokens, outputs, train)
        row_of = dict.fromkeys(outputs, 0)
        if self.config.variant == AUGMENTED_PROMPT:
            row_of = {output: row for row, output in enumerate(outputs)}

        heatmap_head = self._heatmap_head if heatmap_heads else _pass_on
        maps = self._run_heads(heatmap_head, features, row_of, HEATMAPS)
        result = RAHFOutput(
            heatmaps=maps if heatmap_heads else {},
            heatmap_features=None if heatmap_heads else maps,
            scores=self._run_heads(self._score_head, features, row_of, SCORES),
        )
        if KEYWORDS not in outputs:
            return result
        row = row_of[KEYWORDS]
        text, mask = text[:, row], mask[:, row]
        memory = self._memory(features[:, row], text, mask)
        if decoder_input_tokens is not None:
            logits = self.t5.decode(decoder_input_tokens, memory.tokens, memory.mask, train=train)
            result = result.replace(keyword_logits=logits)
        if self.config.word_head:
            result = result.replace(word_logits=self.word_head(text)[..., 0])
        if self.config.image_word_head:
            logits = self.image_word_head(seen[:, int(with_class) :])
            # The logarithm of the patches' mean odds: one patch that is sure is enough.
            logits = jax.nn.logsumexp(logits, axis=1) - math.log(logits.shape[1])
            result = result.replace(image_word_logits=logits)
        return result.replace(memory=memory)

    def decode(self, memory: Memory, decoder_input_tokens: Int[Array, "b k"]) -> Float[Array, "b k v"]:
        """Logits of the next token after each of given ones."""
        return self.t5.decode(decoder_input_tokens, memory.tokens, memory.mask)

    def start_decoding(self, memory: Memory, length: int) -> DecoderCache:
        """Makes the cache for decoding up to `length` keyword tokens."""
        return self.t5.start_decoding(memory.tokens, memory.mask, length)

    def decode_step(
        self, tokens: Int[Array, "b"], position: Int[Array, ""], cache: DecoderCache
    ) -> tuple[Float[Array, "b v"], DecoderCache]:
        """Logits of the next token after `tokens`, which stand at `position`."""
        return self.t5.decode_step(tokens, position, cache)

    def _encode(
        self, seen: Float[Array, "b n c"], tokens: Array, outputs: tuple[str, ...], train: bool
    ) -> tuple[Float[Array, "b t h w d"], Float[Array, "b t l d"], Bool[Array, "b t l"]]:
        """Encodes the ViT's tokens with the rows that `outputs` need: maps, text tokens and their mask."""
        if self.config.variant == AUGMENTED_PROMPT and len(outputs) < len(OUTPUTS):
            tokens = jnp.stack([tokens[:, OUTPUTS.index(output)] for output in outputs], axis=1)
        b, t, length = tokens.shape
        visual = self.visual_token_projection(seen)
        n, d = visual.shape[1:]
        visual = jnp.broadcast_to(visual[:, None], (b, t, n, d))
        joined = jnp.concatenate([visual, self.t5.embed(tokens)], axis=2)
        mask = tokens > 0
        present = jnp.concatenate([jnp.ones((b, t, n), bool), mask], axis=2)
        joined, present = joined.reshape(b * t, n + length, d), present.reshape(b * t, n + length)
        encoded = self.t5.encode(joined, present, train=train).reshape(b, t, n + length, d)
        grid, first = self.config.vit.grid, int(self.config.encode_class_token)
        return encoded[:, :, first:n].reshape(b, t, grid, grid, d), encoded[:, :, n:], mask

    def _memory(self, features: Array, text: Array, mask: Array) -> Memory:
        if self.config.decoder_attends_to == TEXT:
            return Memory(text, mask)
        visual = features.reshape(features.shape[0], -1, features.shape[-1])
        tokens = jnp.concatenate([visual, text], axis=1)
        return Memory(tokens, jnp.concatenate([jnp.ones(visual.shape[:2], bool), mask], axis=1))

    def _heatmap_head(self, name: str | None, features: Array) -> Array:
        return (self.heatmap_heads[name] if name else self.heatmap_head)(features)

    def _score_head(self, name: str | None, features: Array) -> Array:
        return (self.score_heads[name] if name else self.score_head)(features)

    def _run_heads(
        self, head: Any, features: Float[Array, "b t h w d"], row_of: dict[str, int], names: tuple[str, ...]
    ) -> dict[str, Array]:
        """Runs a kind of head for those of `names` that have a row: one by one, or at once if shared."""
        names = tuple(name for name in names if name in row_of)
        if self.config.variant == MULTI_HEAD:
            return {name: head(name, features[:, 0]) for name in names}
        if not names:
            return {}
        # Outputs of a kind are neighbours in the order of rows, so this is a slice.
        first = row_of[names[0]]
        needed = features[:, first : first + len(names)]
        b, t = needed.shape[:2]
        values = head(None, needed.reshape(b * t, *needed.shape[2:]))
        values = values.reshape(b, t, *values.shape[1:])
        return {name: values[:, i] for i, name in enumerate(names)}
