import jax
import pytest

from richhf.feedback import OUTPUTS, VARIANTS
from richhf.models import (
    HeatmapHeadConfig,
    RAHFConfig,
    RichFeedbackModel,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
    analytic_flops,
)

# Sizes like those of the tiny gin models: what is left out of the count (norms, softmax) has its true share.
TINY = {
    "vit": ViTConfig(64, 8, 96, 2, 4, 384, class_token=True, stem_widths=(16, 24), stem_strides=(1, 2)),
    "t5": T5Config(512, 96, 4, 24, 384, 3, 1),
    "heatmap_head": HeatmapHeadConfig((96, 64), (48, 32), 2, 32),
    "score_head": ScoreHeadConfig((64, 32), 2, "VALID", dense_widths=(64,)),
    "word_head": True,
}
SHAPES = {
    "image": (2, 64, 64, 3),
    "encoder_input_tokens": (2, 1, 40),
    "decoder_input_tokens": (2, 40),
}


def compiler_flops(config, shapes, outputs):
    model = RichFeedbackModel(config)
    variables = jax.eval_shape(lambda key: model.get_initial_variables(key, shapes), jax.random.key(0))
    inputs = [
        jax.ShapeDtypeStruct(shape, "uint8" if name == "image" else "int32") for name, shape in shapes.items()
    ]
    lowered = jax.jit(lambda v, *args: model.module.apply(v, *args, outputs=outputs)).lower(
        variables, *inputs
    )
    return lowered.cost_analysis()["flops"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("outputs", [OUTPUTS, ("misalignment", "overall"), ("keywords",)], ids="-".join)
def test_nothing_is_computed_beyond_the_analytic_count(variant, outputs):
    config = RAHFConfig(variant=variant, **TINY)
    shapes = SHAPES | {"encoder_input_tokens": (2, config.rows, 40)}
    if "keywords" not in outputs:
        del shapes["decoder_input_tokens"]
    counted = analytic_flops(config, shapes, outputs)
    ratio = compiler_flops(config, shapes, outputs) / sum(counted.values())
    assert 0.95 <= ratio <= 1.15, counted


def test_the_encoder_is_counted_once_a_row_and_the_vit_once_an_image():
    one, seven = (analytic_flops(RAHFConfig(variant=variant, **TINY), SHAPES) for variant in VARIANTS)
    assert seven["t5_encoder"] == 7 * one["t5_encoder"]
    assert {**seven, "t5_encoder": 0} == {**one, "t5_encoder": 0}


def test_the_paper_sized_heatmap_head_costs_what_is_published():
    # About 1.2 TFLOP a 512 px heatmap, six ViT-B passes.
    shapes = {"image": (1, 512, 512, 3), "encoder_input_tokens": (1, 1, 64)}
    flops = analytic_flops(RAHFConfig(), shapes, ("implausibility",))
    assert 1.15e12 < flops["heatmap_heads"] < 1.3e12
    assert 5 < flops["heatmap_heads"] / flops["vit"] < 7
    assert flops["score_heads"] == flops["t5_decoder"] == 0
