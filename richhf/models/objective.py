"""The training objective: the losses of all outputs, and what they add up to."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from richhf.feedback import HEATMAPS, KEYWORDS, SCORES
from richhf.models.choices import check_choice
from richhf.models.losses import (
    HeatmapLoss,
    ImageWordLoss,
    KeywordLoss,
    ScoreLoss,
    WordLoss,
    weighted_mean,
)
from richhf.models.rahf import RAHFOutput

WORDS = "words"
IMAGE_WORDS = "image_words"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """The sum over outputs of the output's loss times the weight of its kind and, where it has one, its own.

    Outputs are two maps, four scores, keywords, words, image words. The paper's weights are unknown,
    1 / 1 / 1 in the author's code.

    Attributes:
        heatmap_loss: loss of each heatmap.
        score_loss: loss of each score.
        keyword_loss: loss of the keyword sequence.
        word_loss: loss of the word head, where the network has one.
        image_word_loss: loss of the image word head, where the network has one.
        output_weights: further factors of single maps or scores, by name; 1 where none is given.
    """

    heatmap_loss: HeatmapLoss = dataclasses.field(default_factory=HeatmapLoss)
    score_loss: ScoreLoss = dataclasses.field(default_factory=ScoreLoss)
    keyword_loss: KeywordLoss = dataclasses.field(default_factory=KeywordLoss)
    word_loss: WordLoss = dataclasses.field(default_factory=WordLoss)
    image_word_loss: ImageWordLoss = dataclasses.field(default_factory=ImageWordLoss)
    output_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in self.output_weights:
            check_choice("a name in RichFeedbackModel.output_weights", name, (*HEATMAPS, *SCORES))

    def add_up(
        self, output: RAHFOutput, batch: Mapping[str, Array], totals: Mapping[str, Array]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Total loss and metrics of what the network gave for a batch.

        Args:
            output: heads that are absent there have no loss.
            batch: the features with labels (`richhf.models.model`).
            totals: by name of the output, what its mean is divided by; where there is none, the weights of
                the batch.
        """
        losses, weights, metrics = {}, {}, {}
        for i, name in enumerate(HEATMAPS if output.heatmaps else ()):
            given = batch["heatmaps"][:, i], batch["heatmap_weights"][:, i]
            losses[name] = self.heatmap_loss(output.heatmaps[name], *given, totals.get(name))
            weights[name] = self.heatmap_loss.weight * self.output_weights.get(name, 1.0)
        for i, name in enumerate(SCORES if output.scores else ()):
            given = batch["scores"][:, i], batch["score_weights"][:, i]
            losses[name] = self.score_loss(output.scores[name], *given, totals.get(name))
            weights[name] = self.score_loss.weight * self.output_weights.get(name, 1.0)
        if output.keyword_logits is not None:
            given = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
            losses[KEYWORDS] = self.keyword_loss(output.keyword_logits, *given, totals.get(KEYWORDS))
            weights[KEYWORDS] = self.keyword_loss.weight
            hits = jnp.argmax(output.keyword_logits, axis=-1) == given[0]
            metrics["keyword_token_accuracy"] = weighted_mean(
                hits.astype(jnp.float32), given[1], totals.get(KEYWORDS)
            )
        if output.word_logits is not None and "word_labels" in batch:
            losses[WORDS] = self.word_loss(output.word_logits, batch["word_labels"], totals.get(WORDS))
            weights[WORDS] = self.word_loss.weight
        if output.image_word_logits is not None and "shown_tokens" in batch:
            losses[IMAGE_WORDS] = self.image_word_loss(
                output.image_word_logits, batch["shown_tokens"], totals.get(IMAGE_WORDS)
            )
            weights[IMAGE_WORDS] = self.image_word_loss.weight
        zero = jnp.zeros((), jnp.float32)
        total = sum((weights[name] * loss for name, loss in losses.items()), zero)
        metrics |= {f"loss/{name}": loss for name, loss in losses.items()}
        return total, {"loss": total, **metrics}
