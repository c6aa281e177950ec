import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from richhf.feedback import OUTPUTS, VARIANTS
from richhf.inference.computation import Computation, heatmap_options, quickest
from richhf.models import winograd
from richhf.models.heads import HeatmapHeadConfig, ScoreHeadConfig
from richhf.models.model import RichFeedbackModel
from richhf.models.rahf import RAHFConfig
from richhf.models.t5_layers import T5Config
from richhf.models.vit import ViTConfig

SIDE = 48
BATCH = 2


@pytest.fixture(scope="module", params=VARIANTS)
def made(request):
    config = RAHFConfig(
        variant=request.param,
        vit=ViTConfig(image_size=SIDE, patch_size=4, width=8, depth=1, num_heads=2, mlp_width=8),
        t5=T5Config(
            vocab_size=32,
            d_model=8,
            d_kv=4,
            d_ff=8,
            num_heads=2,
            encoder_layers=1,
            decoder_layers=1,
        ),
        heatmap_head=HeatmapHeadConfig(conv_widths=(4,), deconv_widths=(4, 4), final_width=4),
        score_head=ScoreHeadConfig(conv_widths=(4,), dense_widths=(4,)),
    )
    assert winograd.pays(config.map_size, config.map_size)
    model = RichFeedbackModel(config, keyword_length=3)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
        "encoder_input_tokens": rng.integers(1, 32, (BATCH, config.rows, 5), np.int32),
    }
    shapes = {name: value.shape for name, value in batch.items()}
    params = meta.unbox(model.get_initial_variables(jax.random.key(0), shapes))["params"]
    return model, params, batch


@pytest.mark.parametrize(
    "outputs", [OUTPUTS, ("misalignment",), ("implausibility", "misalignment", "overall"), ("keywords",)]
)
def test_it_predicts_what_the_model_does(made, outputs):
    model, params, batch = made
    wanted = jax.jit(model.predict_batch, static_argnames="outputs")(params, batch, outputs=outputs)
    found, memory = Computation(model).predict(params, batch, outputs=outputs)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
        lambda x: (x.shape, x.dtype), wanted
    )
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    assert (memory is None) == ("keywords" not in outputs)


def test_half_precision_is_computed_in_float32_on_cpus(made):
    model = made[0]
    half = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype="bfloat16"))
    assert quickest(half).config.dtype == "float32"


def test_the_option_for_heatmap_heads_keeps_products_in_batches_from_the_library():
    x, kernel = jnp.ones((1, 48, 48, 4)), jnp.ones((3, 3, 4, 4))

    def taken(options):
        compiled = jax.jit(winograd.convolve, compiler_options=options).lower(x, kernel).compile()
        return compiled.as_text().count("ynn_fusion")

    assert taken(None) > 0
    assert taken(heatmap_options()) == 0
