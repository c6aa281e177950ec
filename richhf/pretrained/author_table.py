"""RAHF in the layout of its first author's PyTorch reproduction, in and out.

Names and order of layers are facts read in github.com/youweiliang/RichHF (`model.py`, non-commercial
licence; no code is taken from it). The parts of a `torch.nn.Sequential` are numbered, those without weights
too: a convolution, its norm and its ReLU take three numbers, in the order in which they run. The ViT and T5
are those of transformers, with all of T5's tied names and the ViT's unused pooler.
"""

from typing import Any

from richhf.feedback import HEATMAPS, MULTI_HEAD, SCORES
from richhf.models.heads import FLATTEN, HeatmapHeadConfig, ScoreHeadConfig
from richhf.models.rahf import TEXT, RAHFConfig
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.t5_tables import hugging_face_t5
from richhf.pretrained.transforms import (
    CHANNEL_SCALE,
    CONV,
    TRANSPOSE,
    UP_CONV,
    Transform,
    channels_first,
)
from richhf.pretrained.vit_tables import hugging_face_vit


def author_table(config: RAHFConfig, transformers: int = 4) -> Table:
    """The table for a network of given sizes.

    Args:
        config: the sizes.
        transformers: the major version whose names of the ViT are written, 4 (as published) or 5. Those of
            both are read.

    Raises:
        ValueError: the layout has no place for such a network, or what it stands for computes something else.
    """
    check_author_layout(config)
    width = config.vit.width
    vit, t5 = hugging_face_vit(config.vit, transformers), hugging_face_t5(config.t5)
    parts = [vit.under("vit.", "vit/"), t5.under("t5.", "t5/")]
    rules = [rule for part in parts for rule in part.rules]
    rules += _weight_and_bias("visual_token_projection", "visual_token_projection", TRANSPOSE)
    multi_head = config.variant == MULTI_HEAD
    for name in HEATMAPS if multi_head else (None,):
        source, target = _head("heatmap", name)
        rules += _heatmap_rules(config.heatmap_head, source, target)
    for name in SCORES if multi_head else (None,):
        source, target = _head("score", name)
        rules += _score_rules(config.score_head, source, target)
    return Table(
        "the author's RAHF",
        tuple(rules),
        left_out=parts[1].left_out,
        fresh={"(image_)?word_head/.*": "an extension of this project"},
        unused={"vit.pooler.dense.weight": (width, width), "vit.pooler.dense.bias": (width,)},
    )


def check_author_layout(config: RAHFConfig) -> None:
    """Raises ValueError unless the layout stands for just what a network of these settings computes."""
    heads = config.heatmap_head, config.score_head
    needed: dict[str, tuple[Any, Any]] = {
        "RAHFConfig.decoder_attends_to": (config.decoder_attends_to, TEXT),
        "RAHFConfig.encode_class_token": (config.encode_class_token, True),
        "ViTConfig.stem_widths": (config.vit.stem_widths, ()),
        "ViTConfig.approximate_gelu": (config.vit.approximate_gelu, False),
        "T5Config.scaled_attention": (config.t5.scaled_attention, False),
        "HeatmapHeadConfig.norm_before_relu": (heads[0].norm_before_relu, False),
        "HeatmapHeadConfig.eps": (heads[0].eps, 1e-8),
        "ScoreHeadConfig.norm_before_relu": (heads[1].norm_before_relu, True),
        "ScoreHeadConfig.eps": (heads[1].eps, 1e-8),
        "ScoreHeadConfig.kernel": (heads[1].kernel, 3),
        "ScoreHeadConfig.padding": (heads[1].padding, "SAME"),
        "ScoreHeadConfig.pool": (heads[1].pool, FLATTEN),
    }
    wrong = [f"{name} = {got!r}, needs {wanted!r}" for name, (got, wanted) in needed.items() if got != wanted]
    if wrong:
        raise ValueError(
            "this model computes something else than the author's network, so that its layout would mislead: "
            f"{'; '.join(wrong)}. Take gin/models/large384_*.gin, or another format."
        )


def _head(kind: str, name: str | None) -> tuple[str, str]:
    """The beginnings of a head's names there and here."""
    source, target = f"{kind}_predictor", f"{kind}_head"
    return (f"{source}.{name}", f"{target}s_{name}") if name else (source, target)


def _weight_and_bias(source: str, target: str, transform: Transform) -> list[Rule]:
    return [Rule(f"{source}.weight", f"{target}/kernel", transform), Rule(f"{source}.bias", f"{target}/bias")]


def _norm(source: str, target: str) -> Rule:
    return Rule(f"{source}.scale", f"{target}/scale", CHANNEL_SCALE)


def _heatmap_rules(config: HeatmapHeadConfig, source: str, target: str) -> list[Rule]:
    rules = []
    for i in range(len(config.conv_widths)):
        rules += _weight_and_bias(f"{source}.conv_layers.{3 * i}", f"{target}/conv_{i}", CONV)
        # After the ReLU, hence the third of three.
        rules.append(_norm(f"{source}.conv_layers.{3 * i + 2}", f"{target}/conv_{i}_post/norm"))
    for i in range(len(config.deconv_widths)):
        rules += _weight_and_bias(f"{source}.deconv_layers.{i}.0", f"{target}/deconv_{i}", UP_CONV)
        rules.append(_norm(f"{source}.deconv_layers.{i}.1", f"{target}/deconv_{i}_post/norm"))
        for j in range(config.residual_convs):
            residual, block = f"{source}.conv_layers2.{i}", f"{target}/residual_{i}"
            rules += _weight_and_bias(f"{residual}.{3 * j}", f"{block}/conv_{j}", CONV)
            rules.append(_norm(f"{residual}.{3 * j + 1}", f"{block}/norm_{j}"))
    for theirs, ours in (("last_conv1", "final"), ("last_conv2", "logits")):
        rules += _weight_and_bias(f"{source}.{theirs}", f"{target}/{ours}", CONV)
    return rules


def _score_rules(config: ScoreHeadConfig, source: str, target: str) -> list[Rule]:
    rules = []
    for i in range(len(config.conv_widths)):
        rules += _weight_and_bias(f"{source}.conv_layers.{3 * i}", f"{target}/conv_{i}", CONV)
        rules.append(_norm(f"{source}.conv_layers.{3 * i + 1}", f"{target}/conv_{i}_post/norm"))
    layers = [f"dense_{i}" for i in range(len(config.dense_widths))] + ["logit"]
    for i, layer in enumerate(layers):
        transform = TRANSPOSE if i else channels_first(config.conv_widths[-1])
        rules += _weight_and_bias(f"{source}.linear_layers.{2 * i}", f"{target}/{layer}", transform)
    return rules
