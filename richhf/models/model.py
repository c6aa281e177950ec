"""The model, which training and evaluation call: it knows batches, losses and decoding; the network, arrays.

The methods have the names of T5X's model interface. A batch is a mapping of the features that
`RichFeedbackFeatureConverter` makes; a feature that is absent skips its head statically::

    image                  uint8 [b h w 3]
    encoder_input_tokens   int32 [b t l]
    heatmaps               uint8 [b 2 h w]
    heatmap_weights        float32 [b 2]
    scores                 float32 [b 4]
    score_weights          float32 [b 4]
    decoder_input_tokens   int32 [b k]
    decoder_target_tokens  int32 [b k]
    decoder_loss_weights   float32 [b k]
    word_labels            int32 [b l]     1 misaligned, 0 aligned, -1 not counted
    shown_tokens           int32 [b l]     of the words that the image shows, 0 elsewhere
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from richhf.feedback import AUGMENTED_PROMPT, HEATMAPS, KEYWORDS, OUTPUTS, SCORES
from richhf.models.beam_search import decode_with_beams
from richhf.models.decoding import EOS_ID, decode_greedily
from richhf.models.losses import token_log_probabilities
from richhf.models.objective import IMAGE_WORDS, WORDS, Objective
from richhf.models.rahf import RAHF, Memory, RAHFConfig, make_heatmap_head, order_outputs
from richhf.models.t5_decoder import DecoderCache

Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RichFeedbackModel(Objective):
    """RAHF with its losses (those of `Objective`, given by keyword) and its decoding.

    Attributes:
        config: the network's sizes.
        keyword_length: how many keyword tokens `predict_batch` decodes at most.
        eos_id: the token that ends a keyword sequence.
    """

    config: RAHFConfig
    keyword_length: int = 64
    eos_id: int = EOS_ID

    @property
    def module(self) -> RAHF:
        """The network."""
        return RAHF(self.config)

    def get_initial_variables(
        self,
        rng: Array,
        input_shapes: Mapping[str, Sequence[int]],
        input_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Fresh variables.

        Args:
            rng: random key.
            input_shapes: shapes of a batch's features; `image` and `encoder_input_tokens` are needed.
            input_types: dtypes of the features; not needed, kept for T5X.

        Returns:
            {"params": tree}, its leaves boxed with their logical axis names (`nn.LogicallyPartitioned`).
        """
        missing = [name for name in ("image", "encoder_input_tokens") if name not in input_shapes]
        if missing:
            raise ValueError(f"input_shapes lacks {missing}; it has {sorted(input_shapes)}.")
        # Parameters do not depend on the batch size or the lengths of the texts: trace one example.
        image = jnp.zeros((1, *input_shapes["image"][1:]), jnp.uint8)
        tokens = jnp.ones((1, *input_shapes["encoder_input_tokens"][1:]), jnp.int32)
        variables = self.module.init({"params": rng}, image, tokens, jnp.zeros((1, 2), jnp.int32))
        return dict(variables)

    def loss_fn(
        self,
        params: Any,
        batch: Batch,
        dropout_rng: Array | None,
        totals: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Total loss and metrics of a training batch.

        Args:
            params: parameters.
            batch: features with labels.
            dropout_rng: dropout is on where it is given.
            totals: `loss_totals` of the whole batch, where this is a part of it: losses and metrics of the
                parts then add up to those of the whole.
        """
        return self._loss(params, batch, dropout_rng, totals or {})

    def loss_totals(self, batch: Batch) -> dict[str, Array]:
        """The sums of weights that the means in `loss_fn` are divided by, float32 [] by name."""
        totals: dict[str, Array] = {}
        for names, feature in ((HEATMAPS, "heatmap_weights"), (SCORES, "score_weights")):
            if feature in batch:
                totals |= {name: batch[feature][:, i].sum() for i, name in enumerate(names)}
        if "decoder_loss_weights" in batch:
            totals[KEYWORDS] = batch["decoder_loss_weights"].sum()
        if self.config.word_head and "word_labels" in batch:
            totals[WORDS] = self.word_loss.weights(batch["word_labels"]).sum()
        if self.config.image_word_head and "shown_tokens" in batch:
            totals[IMAGE_WORDS] = self.image_word_loss.weights(batch["shown_tokens"]).sum()
        return {name: total.astype(jnp.float32) for name, total in totals.items()}

    def eval_fn(self, params: Any, batch: Batch) -> dict[str, Array]:
        """Metrics of a batch, without dropout."""
        return self._loss(params, batch, None, {})[1]

    def predict_batch(
        self,
        params: Any,
        batch: Batch,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        keyword_length: int | None = None,
    ) -> dict[str, Array]:
        """Predicts the outputs that are asked for.

        Args:
            params: parameters.
            batch: `image` and `encoder_input_tokens`.
            outputs: names of the outputs wanted; their maps and scores are stacked in the project's order.
            keyword_length: overrides the model's.

        Returns:
            heatmaps: float32 [b 2 h w] in [0, 1] at the image's size; scores: float32 [b 4] in [0, 1];
            keyword_tokens: int32 [b k], 0 after the end; word_probabilities: float32 [b l], probability that
            a token's word is misaligned, where the network has a word head. What was not asked for is absent.
        """
        return self.predict_batch_with_aux(params, batch, outputs=outputs, keyword_length=keyword_length)[0]

    def predict_batch_with_aux(
        self,
        params: Any,
        batch: Batch,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        keyword_length: int | None = None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """As `predict_batch`, and beside it the log probability of each keyword token (float32 [b k])."""
        predictions, aux, _ = self.predict_with_memory(
            params, batch, outputs=outputs, keyword_length=keyword_length
        )
        return predictions, aux

    def predict_with_memory(
        self,
        params: Any,
        batch: Batch,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        keyword_length: int | None = None,
        beams: int = 1,
        heatmap_heads: bool = True,
    ) -> tuple[dict[str, Array], dict[str, Any], Memory | None]:
        """As `predict_batch_with_aux`, and beside it what the decoder attends to, if keywords are wanted.

        Args:
            params: parameters.
            batch: `image` (uint8, or floats in [-1, 1]) and `encoder_input_tokens`.
            outputs: names of the outputs wanted.
            keyword_length: overrides the model's.
            beams: sequences that decoding looks at beside each other; 1 takes the likeliest token each time.
            heatmap_heads: runs them; without, `heatmap_features` beside the prediction has what
                `predict_heatmap` takes, by name, float [b h w d].
        """
        outputs = order_outputs(outputs)
        image = jnp.asarray(batch["image"])
        tokens = jnp.asarray(batch["encoder_input_tokens"])
        output = self._apply(params, image, tokens, outputs=outputs, heatmap_heads=heatmap_heads)
        predictions: dict[str, Array] = {}
        aux: dict[str, Any] = {}
        if output.heatmaps:
            predictions["heatmaps"] = _to_maps(
                _stack(output.heatmaps, HEATMAPS), (image.shape[1], image.shape[2])
            )
        if output.heatmap_features:
            aux["heatmap_features"] = output.heatmap_features
        if output.scores:
            predictions["scores"] = jax.nn.sigmoid(_stack(output.scores, SCORES))
        if output.memory is not None:
            length = self.keyword_length if keyword_length is None else keyword_length
            decoded, log_probabilities = self._decode(params, output.memory, length, beams)
            predictions["keyword_tokens"] = decoded
            aux["keyword_log_probabilities"] = log_probabilities
        if output.word_logits is not None:
            predictions["word_probabilities"] = jax.nn.sigmoid(output.word_logits.astype(jnp.float32))
        return predictions, aux, output.memory

    def predict_heatmap(
        self, head_params: Any, features: Float[Array, "b h w d"], size: tuple[int, int]
    ) -> Float[Array, "b h2 w2"]:
        """One map of what an earlier prediction has encoded.

        Args:
            head_params: the parameters of its head, from `heatmap_head_params`.
            features: what its head takes.
            size: height and width of the image.

        Returns:
            float32, in [0, 1], at the image's size.
        """
        logits = make_heatmap_head(self.config).apply({"params": head_params}, features)
        return _to_maps(jnp.asarray(logits).astype(jnp.float32), size)

    def heatmap_head_params(self, params: Any, name: str) -> Any:
        """Of all parameters, those of the head that makes the heatmap `name`."""
        shared = self.config.variant == AUGMENTED_PROMPT
        return params["heatmap_head" if shared else f"heatmap_heads_{name}"]

    def keyword_logits(
        self, params: Any, memory: Memory, decoder_input_tokens: Int[Array, "b k"]
    ) -> Float[Array, "b k v"]:
        """Logits of the next token after each of given ones, from what an earlier prediction has encoded."""
        return self._apply(params, memory, decoder_input_tokens, method=RAHF.decode)

    def score_batch(self, params: Any, batch: Batch) -> Float[Array, "b"]:
        """Log likelihood of each example's keyword sequence."""
        output = self._apply(
            params,
            jnp.asarray(batch["image"]),
            jnp.asarray(batch["encoder_input_tokens"]),
            jnp.asarray(batch["decoder_input_tokens"]),
            outputs=(KEYWORDS,),
        )
        targets = jnp.asarray(batch["decoder_target_tokens"])
        weights = jnp.asarray(batch["decoder_loss_weights"])
        return jnp.sum(token_log_probabilities(output.keyword_logits, targets) * weights, axis=1)

    def _apply(self, params: Any, *inputs: Any, **settings: Any) -> Any:
        """What the network gives; `Module.apply` is declared to give, perhaps, changed variables too."""
        return self.module.apply({"params": params}, *inputs, **settings)

    def _decode(self, params: Any, memory: Memory, length: int, beams: int) -> tuple[Array, Array]:
        cache = self._apply(params, memory, length, method=RAHF.start_decoding)

        def step(tokens: Array, position: Array, cache: DecoderCache) -> tuple[Array, DecoderCache]:
            return self._apply(params, tokens, position, cache, method=RAHF.decode_step)

        sizes: dict[str, int] = {"batch": memory.tokens.shape[0], "length": length, "eos_id": self.eos_id}
        if beams == 1:
            return decode_greedily(step, cache, **sizes)
        return decode_with_beams(step, cache.repeat(beams), DecoderCache.take, beams=beams, **sizes)

    def labelled_outputs(self, batch: Batch) -> tuple[str, ...]:
        """The outputs that a batch (its arrays, or their shapes) has labels for."""
        words = (self.config.word_head and "word_labels" in batch) or (
            self.config.image_word_head and "shown_tokens" in batch
        )
        labelled = (*HEATMAPS,) * ("heatmaps" in batch) + (*SCORES,) * ("scores" in batch)
        labelled += (KEYWORDS,) * ("decoder_target_tokens" in batch or words)
        if not labelled:
            raise ValueError(
                f"the batch has no labels: found {sorted(batch)}, expected heatmaps, scores, "
                "decoder_target_tokens or (with heads for words) word_labels or shown_tokens."
            )
        return labelled

    def _loss(
        self, params: Any, batch: Batch, dropout_rng: Array | None, totals: Mapping[str, Array]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        batch = {name: jnp.asarray(value) for name, value in batch.items()}
        output = self._apply(
            params,
            batch["image"],
            batch["encoder_input_tokens"],
            batch.get("decoder_input_tokens"),
            outputs=self.labelled_outputs(batch),
            train=dropout_rng is not None,
            rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        )
        return self.add_up(output, batch, totals)


def _to_maps(logits: Float[Array, "*b h w"], size: tuple[int, int]) -> Float[Array, "*b h2 w2"]:
    """Maps in [0, 1] at the image's size."""
    maps = jax.nn.sigmoid(logits)
    shape = (*maps.shape[:-2], *size)
    return maps if maps.shape == shape else jax.image.resize(maps, shape, "linear")


def _stack(values: Mapping[str, Array], names: Sequence[str]) -> Array:
    """Stacks what there is of `names` in their order, which a mapping loses in passing through `jax.jit`."""
    return jnp.stack([values[name] for name in names if name in values], axis=1).astype(jnp.float32)
