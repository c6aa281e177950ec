"""T5 in the layouts of Hugging Face (v1.0, v1.1) and T5X.

Names and shapes as in transformers' `T5ForConditionalGeneration` (models/t5/modeling_t5.py) and T5X's
`examples/t5/network.py` and `layers.py`, which the published checkpoints have.
"""

from richhf.models.t5_layers import GATED_GELU, T5Config
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.transforms import TRANSPOSE

# Ours, theirs of Hugging Face (and in the decoder), theirs of T5X.
PROJECTIONS = (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o"))


def hugging_face_t5(config: T5Config) -> Table:
    """Transformers' names; linear layers keep their weight as [out in]."""
    rules = [Rule("shared.weight", "embedding/embedding")]
    rules += [Rule(f"{side}.embed_tokens.weight", "embedding/embedding") for side in ("encoder", "decoder")]
    if config.tied_logits:
        rules.append(Rule("lm_head.weight", "embedding/embedding"))
    else:
        rules.append(Rule("lm_head.weight", "logits_dense/kernel", TRANSPOSE))
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
