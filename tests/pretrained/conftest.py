"""Small networks, and their parameters filled with numbers that tell them apart."""

import dataclasses

import numpy as np
import pytest

from richhf.models import (
    HeatmapHeadConfig,
    RAHFConfig,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
)
from richhf.pretrained import flat_shapes, initial_shapes

SMALL = RAHFConfig(
    decoder_attends_to="text",
    encode_class_token=True,
    vit=ViTConfig(image_size=12, patch_size=4, width=8, depth=2, num_heads=2, mlp_width=12, class_token=True),
    t5=T5Config(vocab_size=11, d_model=12, num_heads=3, d_kv=5, d_ff=14, encoder_layers=2, decoder_layers=1),
    heatmap_head=HeatmapHeadConfig(
        conv_widths=(6,), deconv_widths=(5, 4), final_width=3, norm_before_relu=False
    ),
    score_head=ScoreHeadConfig(conv_widths=(6, 4), kernel=3, dense_widths=(7,)),
)


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture(scope="session")
def target():
    """Shapes by path of a network, with changes of its configuration."""
    return lambda **changes: flat_shapes(initial_shapes(dataclasses.replace(SMALL, **changes)))


@pytest.fixture(scope="session")
def fill():
    """Random arrays for shapes by path."""

    def arrays(shapes):
        rng = np.random.default_rng(0)
        return {path: rng.normal(size=leaf.shape).astype(leaf.dtype) for path, leaf in shapes.items()}

    return arrays
