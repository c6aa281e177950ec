"""What a batch looks like, without any data: shapes and dtypes of a model's features."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from richhf.feedback import HEATMAPS, SCORES
from richhf.models.choices import check_choice
from richhf.models.rahf import RAHFConfig

LABELS = ("heatmaps", "scores", "targets")


def batch_spec(
    config: RAHFConfig, lengths: Mapping[str, int], batch_size: int, labels: Sequence[str] = LABELS
) -> dict[str, jax.ShapeDtypeStruct]:
    """The features of a batch (see `richhf.models.model`) as shapes and dtypes.

    Args:
        config: says the rows of the prompt, and whether there are heads for words.
        lengths: `image` (side in pixels), `inputs` and `targets` (tokens); `heatmaps`, the side of true maps,
            if it is another one.
        batch_size: number of images.
        labels: the kinds of labels there are, of `LABELS`; () for a batch to predict from. Labels of words
            come with the targets, where the network has a head for them.

    Raises:
        ValueError: an unknown kind of label, or an image side that is not the network's.
    """
    for label in labels:
        check_choice("a kind of label", label, LABELS)
    b, side, length, targets = batch_size, lengths["image"], lengths["inputs"], lengths["targets"]
    if side != config.vit.image_size:
        raise ValueError(
            f"TASK_FEATURE_LENGTHS['image'] is {side}, but the model takes images of "
            f"{config.vit.image_size} px (ViTConfig.image_size): set both to the same."
        )
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "image": ((b, side, side, 3), jnp.uint8),
        "encoder_input_tokens": ((b, config.rows, length), jnp.int32),
    }
    if "heatmaps" in labels:
        map_side = lengths.get("heatmaps", side)
        shapes["heatmaps"] = (b, len(HEATMAPS), map_side, map_side), jnp.uint8
        shapes["heatmap_weights"] = (b, len(HEATMAPS)), jnp.float32
    if "scores" in labels:
        shapes["scores"] = shapes["score_weights"] = (b, len(SCORES)), jnp.float32
    if "targets" in labels:
        shapes["decoder_input_tokens"] = shapes["decoder_target_tokens"] = (b, targets), jnp.int32
        shapes["decoder_loss_weights"] = (b, targets), jnp.float32
        if config.word_head:
            shapes["word_labels"] = (b, length), jnp.int32
        if config.image_word_head:
            shapes["shown_tokens"] = (b, length), jnp.int32
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}
