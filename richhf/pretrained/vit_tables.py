"""ViT in the layouts of Hugging Face and of big_vision / augreg.

Names and shapes as in transformers' ViT (published checkpoints, and models/vit/modeling_vit.py of 5.24) and
as in big_vision's `models/vit.py`; augreg's files (github.com/google-research/vision_transformer) number the
parts of a block one after the other and keep the position of the class token with the others.
"""

from richhf.models.vit import ViTConfig
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.transforms import (
    FIRST_TOKEN,
    HWIO_PATCHES,
    PATCHES,
    TRANSPOSE,
    joined_heads,
    positions,
)

NO_CLASS_TOKEN = "the model has no class token (ViTConfig.class_token)"
CLASSIFIER = "the head of a classifier"


LAYERS = {
    4: (
        "encoder.layer.{i}",
        {
            **{f"attention.attention.{name}": f"attention/{name}" for name in ("query", "key", "value")},
            "attention.output.dense": "attention/out",
            "intermediate.dense": "mlp_in",
            "output.dense": "mlp_out",
        },
    ),
    5: (
        "layers.{i}",
        {
            "attention.q_proj": "attention/query",
            "attention.k_proj": "attention/key",
            "attention.v_proj": "attention/value",
            "attention.o_proj": "attention/out",
            "mlp.fc1": "mlp_in",
            "mlp.fc2": "mlp_out",
        },
    ),
}
"""A layer's name and its linear layers, theirs and ours, by the major version of transformers.

`save_pretrained` writes the names of version 4 in both; a `state_dict` has those of the version that made it.
"""


def hugging_face_vit(config: ViTConfig, transformers: int = 4) -> Table:
    """Transformers' names, of the ViT alone or below `vit.`; linear layers keep their weight as [out in].

    Args:
        config: the sizes.
        transformers: the major version whose names are written, 4 or 5. Those of both are read.
    """
    patches = "embeddings.patch_embeddings.projection"
    rules = [
        Rule(f"{patches}.weight", "patch_embedding/kernel", PATCHES),
        Rule(f"{patches}.bias", "patch_embedding/bias"),
        Rule("embeddings.position_embeddings", "position_embedding", positions(config.class_token)),
    ]
    left_out = {r"classifier\..*": CLASSIFIER, r"pooler\.dense\..*": "the pooler, which RAHF does not use"}
    if config.class_token:
        rules.append(Rule("embeddings.cls_token", "class_token", FIRST_TOKEN))
    else:
        left_out[r"embeddings\.cls_token"] = NO_CLASS_TOKEN
    block = "block_{i}"
    for version, (layer, dense) in LAYERS.items():
        written = version == transformers
        for theirs, ours in dense.items():
            kernel = f"{block}/{ours}/kernel"
            rules.append(Rule(f"{layer}.{theirs}.weight", kernel, TRANSPOSE, written))
            rules.append(Rule(f"{layer}.{theirs}.bias", f"{block}/{ours}/bias", written=written))
        for theirs, ours in (("layernorm_before", "attention_norm"), ("layernorm_after", "mlp_norm")):
            rules += _norm(f"{layer}.{theirs}", f"{block}/{ours}", written)
    rules += _norm("layernorm", "norm", True)
    return Table("Hugging Face ViT", tuple(rules), left_out=left_out, prefix=r"vit\.")


def _norm(theirs: str, ours: str, written: bool) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", f"{ours}/scale", written=written),
        Rule(f"{theirs}.bias", f"{ours}/bias", written=written),
    ]


def big_vision_vit(config: ViTConfig) -> Table:
    """big_vision's and augreg's names; attention kernels have an axis of heads."""
    heads = config.num_heads
    rules = [
        Rule("embedding/kernel", "patch_embedding/kernel", HWIO_PATCHES),
        Rule("embedding/bias", "patch_embedding/bias"),
        Rule("Transformer/encoder_norm/scale", "norm/scale"),
        Rule("Transformer/encoder_norm/bias", "norm/bias"),
    ]
    for name in ("pos_embedding", "Transformer/pos_embedding", "Transformer/posembed_input/pos_embedding"):
        rules.append(Rule(name, "position_embedding", positions(config.class_token)))
    left_out = {
        r"(head|pre_logits)/.*": CLASSIFIER,
        r"MAPHead_0/.*": "the pooling by attention before a classifier",
    }
    if config.class_token:
        rules.append(Rule("cls", "class_token", FIRST_TOKEN))
    else:
        left_out["cls"] = NO_CLASS_TOKEN
    # Parts of a block: each numbered on its own (big_vision), or all in a row (augreg).
    for attention_norm, attention, mlp_norm, mlp in ((0, 0, 1, 0), (0, 1, 2, 3)):
        layer, block = "Transformer/encoderblock_{i}", "block_{i}"
        for number, ours in ((attention_norm, "attention_norm"), (mlp_norm, "mlp_norm")):
            for name in ("scale", "bias"):
                rules.append(Rule(f"{layer}/LayerNorm_{number}/{name}", f"{block}/{ours}/{name}"))
        inside = f"{layer}/MultiHeadDotProductAttention_{attention}"
        for name in ("query", "key", "value"):
            ours = f"{block}/attention/{name}"
            rules.append(Rule(f"{inside}/{name}/kernel", f"{ours}/kernel", joined_heads(heads, 1)))
            rules.append(Rule(f"{inside}/{name}/bias", f"{ours}/bias", joined_heads(heads, 0)))
        rules.append(Rule(f"{inside}/out/kernel", f"{block}/attention/out/kernel", joined_heads(heads, 0)))
        rules.append(Rule(f"{inside}/out/bias", f"{block}/attention/out/bias"))
        for number, ours in ((0, "mlp_in"), (1, "mlp_out")):
            for name in ("kernel", "bias"):
                source = f"{layer}/MlpBlock_{mlp}/Dense_{number}/{name}"
                rules.append(Rule(source, f"{block}/{ours}/{name}"))
    return Table("big_vision ViT", tuple(dict.fromkeys(rules)), left_out=left_out)
