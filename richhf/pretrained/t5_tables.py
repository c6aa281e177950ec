"""T5 in the layouts of Hugging Face (v1.0, v1.1) and T5X.

Names and shapes as in transformers' `T5ForConditionalGeneration` (models/t5/modeling_t5.py) and T5X's
`examples/t5/network.py` and `layers.py`, which the published checkpoints have.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from richhf.models.t5_layers import GATED_GELU, T5Config
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.transforms import TRANSPOSE

# Ours, theirs of Hugging Face (and in the decoder), theirs of T5X.
PROJECTIONS = (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o"))


EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Transformers' names of the one embedding; a file has any of them."""
LOGITS = "lm_head.weight"
SCALED_LOGITS = "scale_decoder_outputs"
"""The setting in `config.json` that tells T5 1.0's logits (True) from T5 1.1's, since transformers 5."""


def scales_logits(facts: Mapping[str, Any]) -> bool | None:
    """Returns whether a `config.json` says that the decoder's output is rescaled before the logits.

    Transformers 4 says it by `tie_word_embeddings`, which is False for T5 1.1; version 5 always ties, and has
    a setting of its own. None: the file does not say.
    """
    if SCALED_LOGITS in facts:
        return facts[SCALED_LOGITS]
    return False if facts.get("tie_word_embeddings") is False else None


def add_tied_logits(
    arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Adds the logits' kernel to a T5 1.1 that transformers 5 saved with the embedding in its place.

    Args:
        arrays: by Hugging Face's names.
        facts: the `config.json` beside them.

    Returns:
        the arrays, and a note where one was added.
    """
    name = next((name for name in EMBEDDINGS if name in arrays), None)
    tied = facts.get("tie_word_embeddings") is True and facts.get(SCALED_LOGITS) is False
    if LOGITS in arrays or name is None or not tied:
        return dict(arrays), ()
    return {**arrays, LOGITS: arrays[name]}, (f"{LOGITS} is {name}, as config.json says",)


def hugging_face_t5(config: T5Config) -> Table:
    """Transformers' names; linear layers keep their weight as [out in]."""
    rules = [Rule(name, "embedding/embedding") for name in EMBEDDINGS]
    if config.tied_logits:
        rules.append(Rule(LOGITS, "embedding/embedding"))
    else:
        rules.append(Rule(LOGITS, "logits_dense/kernel", TRANSPOSE))
    own, memory = (
        ("norm", "attention", "SelfAttention"),
        ("memory_norm", "memory_attention", "EncDecAttention"),
    )
    attention = {"encoder": [own], "decoder": [own, memory]}
    mlp = (("gate", "wi_0"), ("inward", "wi_1")) if config.mlp == GATED_GELU else (("inward", "wi"),)
    for side, branches in attention.items():
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rules.append(Rule(first, f"{side}/position_bias/embedding"))
        block, layer = f"{side}.block.{{i}}.layer", f"{side}/layers_{{i}}"
        for n, (norm, ours, theirs) in enumerate(branches):
            rules.append(Rule(f"{block}.{n}.layer_norm.weight", f"{layer}/{norm}/scale"))
            for name, letter in PROJECTIONS:
                source = f"{block}.{n}.{theirs}.{letter}.weight"
                rules.append(Rule(source, f"{layer}/{ours}/{name}/kernel", TRANSPOSE))
        n = len(branches)
        rules.append(Rule(f"{block}.{n}.layer_norm.weight", f"{layer}/mlp/norm/scale"))
        for name, theirs in (*mlp, ("outward", "wo")):
            source = f"{block}.{n}.DenseReluDense.{theirs}.weight"
            rules.append(Rule(source, f"{layer}/mlp/{name}/kernel", TRANSPOSE))
        rules.append(Rule(f"{side}.final_layer_norm.weight", f"{side}/norm/scale"))
    unread = r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
    why = "early conversions of T5 have it, and no model reads it"
    return Table("Hugging Face T5", tuple(rules), left_out={unread: why})


def t5x_t5(config: T5Config) -> Table:
    """T5X's names; kernels are [in out] with the heads joined, the relative bias is [heads buckets]."""
    rules = [Rule("token_embedder/embedding", "embedding/embedding")]
    if not config.tied_logits:
        rules.append(Rule("decoder/logits_dense/kernel", "logits_dense/kernel"))
    attention = {
        "encoder": [("norm", "attention", "pre_attention_layer_norm", "attention")],
        "decoder": [
            ("norm", "attention", "pre_self_attention_layer_norm", "self_attention"),
            (
                "memory_norm",
                "memory_attention",
                "pre_cross_attention_layer_norm",
                "encoder_decoder_attention",
            ),
        ],
    }
    mlp = (("gate", "wi_0"), ("inward", "wi_1")) if config.mlp == GATED_GELU else (("inward", "wi"),)
    for side, branches in attention.items():
        bias = Rule(f"{side}/relpos_bias/rel_embedding", f"{side}/position_bias/embedding", TRANSPOSE)
        layer = f"{side}/layers_{{i}}"
        rules += [bias, Rule(f"{side}/{side}_norm/scale", f"{side}/norm/scale")]
        for norm, ours, their_norm, theirs in branches:
            rules.append(Rule(f"{layer}/{their_norm}/scale", f"{layer}/{norm}/scale"))
            for name, _ in PROJECTIONS:
                rules.append(Rule(f"{layer}/{theirs}/{name}/kernel", f"{layer}/{ours}/{name}/kernel"))
        rules.append(Rule(f"{layer}/pre_mlp_layer_norm/scale", f"{layer}/mlp/norm/scale"))
        for name, theirs in (*mlp, ("outward", "wo")):
            rules.append(Rule(f"{layer}/mlp/{theirs}/kernel", f"{layer}/mlp/{name}/kernel"))
    return Table("T5X T5", tuple(rules))
