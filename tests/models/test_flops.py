import pathlib

import jax
import pytest

import gin
from launch import configurables, gin_config
from richhf.feedback import OUTPUTS, VARIANTS
from richhf.models import RAHFConfig, RichFeedbackModel, analytic_flops

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = {
    "image": (2, 64, 64, 3),
    "encoder_input_tokens": (2, 1, 40),
    "decoder_input_tokens": (2, 40),
}


@pytest.fixture
def tiny(monkeypatch):
    """The shipped tiny sizes: what is left out of the count (norms, softmax) has its true share."""
    monkeypatch.chdir(ROOT)

    def config(variant):
        files = [f"gin/models/tiny_{variant}.gin", "gin/data/synthetic.gin", "gin/runs/eval.gin"]
        flags = [*(f"--gin_file={file}" for file in files), "--gin.MODEL_DIR=x"]
        gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
        return configurables.CONFIGURABLES["models.RichFeedbackModel"]().config

    yield config
    gin.clear_config()


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
def test_nothing_is_computed_beyond_the_analytic_count(tiny, variant, outputs):
    config = tiny(variant)
    shapes = SHAPES | {"encoder_input_tokens": (2, config.rows, 40)}
    if "keywords" not in outputs:
        del shapes["decoder_input_tokens"]
    counted = analytic_flops(config, shapes, outputs)
    ratio = compiler_flops(config, shapes, outputs) / sum(counted.values())
    assert 0.95 <= ratio <= 1.15, counted


def test_the_encoder_is_counted_once_a_row_and_the_vit_once_an_image(tiny):
    one, seven = (analytic_flops(tiny(variant), SHAPES) for variant in VARIANTS)
    assert seven["t5_encoder"] == 7 * one["t5_encoder"]
    assert {**seven, "t5_encoder": 0} == {**one, "t5_encoder": 0}


def test_the_paper_sized_heatmap_head_costs_what_is_published():
    # About 1.2 TFLOP a 512 px heatmap, six ViT-B passes.
    shapes = {"image": (1, 512, 512, 3), "encoder_input_tokens": (1, 1, 64)}
    flops = analytic_flops(RAHFConfig(), shapes, ("implausibility",))
    assert 1.15e12 < flops["heatmap_heads"] < 1.3e12
    assert 5 < flops["heatmap_heads"] / flops["vit"] < 7
    assert flops["score_heads"] == flops["t5_decoder"] == 0
