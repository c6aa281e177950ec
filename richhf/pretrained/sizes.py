"""The sizes of a network, read off its arrays: for weights that come without a model of ours.

What no shape tells is taken from the `config.json` beside the weights, else it is what all published models
of the kind have: ViT heads 64 wide, T5's positions up to 128.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from richhf.feedback import AUGMENTED_PROMPT, HEATMAPS, MULTI_HEAD, SCORES
from richhf.models.heads import HeatmapHeadConfig, ScoreHeadConfig
from richhf.models.rahf import TEXT, RAHFConfig
from richhf.models.t5_layers import GATED_GELU, RELU, T5Config
from richhf.models.vit import ViTConfig
from richhf.pretrained.formats import (
    APPROXIMATE_GELU,
    AUTHOR,
    BIG_VISION_VIT,
    HF_T5,
    HF_VIT,
    T5X_T5,
    Format,
    normalize,
)
from richhf.pretrained.t5_tables import EMBEDDINGS, LOGITS, scales_logits
from richhf.pretrained.weight_files import WeightFile

HEAD_WIDTH = 64
Arrays = Mapping[str, np.ndarray]
Facts = Mapping[str, Any]


def infer_config(file: WeightFile, found: Format) -> RAHFConfig:
    """The network that weights of another make are of; parts that they lack have the paper's sizes.

    Args:
        file: what was read.
        found: its format, not that of our own parameters.

    Raises:
        ValueError: it lacks what sizes are read off.
    """
    arrays = normalize(file, found).arrays
    readers = {
        AUTHOR: lambda: _author(arrays, file.config or {}),
        HF_T5: lambda: RAHFConfig(t5=_hugging_face_t5(arrays, file.config or {})),
        T5X_T5: lambda: RAHFConfig(t5=_t5x_t5(arrays)),
        HF_VIT: lambda: RAHFConfig(vit=_hugging_face_vit(_without(arrays, "vit."), file.config or {})),
        BIG_VISION_VIT: lambda: RAHFConfig(vit=_big_vision_vit(arrays)),
    }
    try:
        return readers[found.name]()
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        # Arrays may have any number of axes, and axes of any length.
        problem = f"it lacks {error.args[0]}." if isinstance(error, KeyError) else error
        raise ValueError(f"the sizes of {file.path} ({found.what}) cannot be read: {problem}") from error


def _fact(facts: Facts, name: str, usual: int | float) -> Any:
    """A positive number that the `config.json` says, or else the usual one."""
    value = usual if facts.get(name) is None else facts[name]
    kinds = (int,) if isinstance(usual, int) else (int, float)
    if type(value) not in kinds or not value > 0:
        raise ValueError(f"the config.json beside the weights says {name} {value!r:.60}; expected a number.")
    return value


def _below(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _without(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items()}


def _count(arrays: Arrays, template: str) -> int:
    """How many numbers, from 0 on, a name goes through."""
    return next(i for i in range(len(arrays) + 1) if template.format(i) not in arrays)


def _hugging_face_vit(arrays: Arrays, facts: Facts) -> ViTConfig:
    layer, mlp = (
        ("layers.{}", "layers.0.mlp.fc1.bias")
        if "layers.0.mlp.fc1.bias" in arrays
        else ("encoder.layer.{}", "encoder.layer.0.intermediate.dense.bias")
    )
    width, _, patch, _ = arrays["embeddings.patch_embeddings.projection.weight"].shape
    positions = arrays["embeddings.position_embeddings"].shape[-2]
    return ViTConfig(
        image_size=math.isqrt(positions - 1) * patch,
        patch_size=patch,
        width=width,
        depth=_count(arrays, f"{layer}.layernorm_before.weight"),
        num_heads=_fact(facts, "num_attention_heads", max(width // HEAD_WIDTH, 1)),
        mlp_width=len(arrays[mlp]),
        eps=_fact(facts, "layer_norm_eps", 1e-12),
        class_token=True,
        approximate_gelu=facts.get("hidden_act") == APPROXIMATE_GELU,
    )


def _big_vision_vit(arrays: Arrays) -> ViTConfig:
    patch, _, _, width = arrays["embedding/kernel"].shape
    where = "pos_embedding", "Transformer/pos_embedding", "Transformer/posembed_input/pos_embedding"
    positions = arrays[next((name for name in where if name in arrays), where[0])].shape[-2]
    block = _below(arrays, "Transformer/encoderblock_0/")
    query = next((name for name in block if name.endswith("/query/kernel")), "query/kernel")
    mlp = next((name for name in block if name.endswith("/Dense_0/bias")), "Dense_0/bias")
    return ViTConfig(
        image_size=math.isqrt(positions) * patch,
        patch_size=patch,
        width=width,
        depth=_count(arrays, "Transformer/encoderblock_{}/LayerNorm_0/scale"),
        num_heads=block[query].shape[1],
        mlp_width=len(block[mlp]),
        class_token="cls" in arrays,
        approximate_gelu=True,
    )


def _hugging_face_t5(arrays: Arrays, facts: Facts) -> T5Config:
    attention = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = arrays[f"{attention}.relative_attention_bias.weight"].shape
    mlp = "encoder.block.0.layer.1.DenseReluDense"
    gated = f"{mlp}.wi_0.weight" in arrays
    names = EMBEDDINGS if gated else (*EMBEDDINGS, LOGITS)  # T5 1.0 has one matrix for both.
    embedding = arrays[next((name for name in names if name in arrays), EMBEDDINGS[0])]
    vocab_size, d_model = embedding.shape
    scaled = scales_logits(facts)
    if scaled is None:
        # A kernel of its own is T5 1.1's; where it is the embedding, the MLPs tell 1.0 from 1.1.
        logits = arrays.get(LOGITS)
        scaled = logits is None or (np.array_equal(logits, embedding) and not gated)
    return T5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        num_heads=heads,
        d_kv=len(arrays[f"{attention}.q.weight"]) // heads,
        d_ff=len(arrays[f"{mlp}.wi_0.weight" if gated else f"{mlp}.wi.weight"]),
        encoder_layers=_count(arrays, "encoder.block.{}.layer.0.layer_norm.weight"),
        decoder_layers=_count(arrays, "decoder.block.{}.layer.0.layer_norm.weight"),
        mlp=GATED_GELU if gated else RELU,
        tied_logits=scaled,
        relative_buckets=buckets,
        relative_max_distance=_fact(facts, "relative_attention_max_distance", 128),
        eps=_fact(facts, "layer_norm_epsilon", 1e-6),
    )


def _t5x_t5(arrays: Arrays) -> T5Config:
    vocab_size, d_model = arrays["token_embedder/embedding"].shape
    heads, buckets = arrays["encoder/relpos_bias/rel_embedding"].shape
    gated = "encoder/layers_0/mlp/wi_0/kernel" in arrays
    return T5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        num_heads=heads,
        d_kv=arrays["encoder/layers_0/attention/query/kernel"].shape[1] // heads,
        d_ff=len(arrays["encoder/layers_0/mlp/wo/kernel"]),
        encoder_layers=_count(arrays, "encoder/layers_{}/mlp/wo/kernel"),
        decoder_layers=_count(arrays, "decoder/layers_{}/mlp/wo/kernel"),
        mlp=GATED_GELU if gated else RELU,
        tied_logits="decoder/logits_dense/kernel" not in arrays,
        relative_buckets=buckets,
    )


def _author(arrays: Arrays, facts: Facts) -> RAHFConfig:
    multi_head = f"heatmap_predictor.{HEATMAPS[0]}.last_conv1.weight" in arrays
    names = (f".{HEATMAPS[0]}", f".{SCORES[0]}") if multi_head else ("", "")
    heatmap = _below(arrays, f"heatmap_predictor{names[0]}.")
    score = _below(arrays, f"score_predictor{names[1]}.")

    def widths(arrays: Arrays, template: str, step: int = 1) -> tuple[int, ...]:
        numbers = range(0, 100 * step, step)
        found = (arrays.get(template.format(i)) for i in numbers)
        biases = []
        for bias in found:
            if bias is None:
                break
            biases.append(len(bias))
        return tuple(biases)

    return RAHFConfig(
        variant=MULTI_HEAD if multi_head else AUGMENTED_PROMPT,
        decoder_attends_to=TEXT,
        encode_class_token=True,
        vit=_hugging_face_vit(_below(arrays, "vit."), facts),
        t5=_hugging_face_t5(_below(arrays, "t5."), facts),
        heatmap_head=HeatmapHeadConfig(
            conv_widths=widths(heatmap, "conv_layers.{}.bias", 3),
            deconv_widths=widths(heatmap, "deconv_layers.{}.0.bias"),
            residual_convs=len(widths(heatmap, "conv_layers2.0.{}.bias", 3)),
            final_width=len(heatmap["last_conv1.bias"]),
            norm_before_relu=False,
        ),
        score_head=dataclasses.replace(
            ScoreHeadConfig(kernel=3),
            conv_widths=widths(score, "conv_layers.{}.bias", 3),
            dense_widths=widths(score, "linear_layers.{}.bias", 2)[:-1],
        ),
    )
