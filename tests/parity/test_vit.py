"""ViT beside Hugging Face's, as its files have it, also on images of other sizes than it was trained on."""

import dataclasses

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from richhf.models import RAHFConfig, ViT, ViTConfig  # noqa: E402
from richhf.pretrained import find_format, flat_shapes, import_weights, nest, read_weights  # noqa: E402
from richhf.pretrained.sizes import infer_config  # noqa: E402
from tests.parity.torch_rahf import vit_config  # noqa: E402
from tests.parity.torch_weights import randomise  # noqa: E402

CONFIG = ViTConfig(
    image_size=40, patch_size=8, width=48, depth=3, num_heads=4, mlp_width=80, class_token=True, eps=1e-12
)


@pytest.fixture(scope="module")
def theirs():
    model = transformers.ViTModel(vit_config(CONFIG)).eval()
    randomise(model)
    return model


@pytest.fixture(scope="module", params=["save_pretrained", "state_dict"])
def weights(theirs, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("vit")
    if request.param == "save_pretrained":
        theirs.save_pretrained(folder)
        return read_weights(folder)
    state = {f"vit.{name}": value for name, value in theirs.state_dict().items()}
    torch.save(state, folder / "vit.PTH.tar")
    return read_weights(folder / "vit.PTH.tar")


def test_sizes_are_read_off_the_arrays(weights):
    told = dataclasses.replace(weights, told={"num_attention_heads": CONFIG.num_heads}, beside=None)
    assert infer_config(told, find_format(told)).vit == CONFIG


def encode(weights, config, pixels, **settings):
    made = jax.eval_shape(ViT(config).init, jax.random.key(0), pixels)["params"]
    target = {f"vit/{path}": leaf for path, leaf in flat_shapes(made).items()}
    arrays = {name: value for name, value in weights.arrays.items() if settings.get("keep", str)(name)}
    beside = weights.beside if len(arrays) == len(weights.arrays) else None  # It tells of all layers.
    found = dataclasses.replace(weights, arrays=arrays, beside=beside)
    imported = import_weights(found, RAHFConfig(vit=config), target)
    params = nest(imported.params, {"vit": made})["vit"]
    return np.asarray(jax.jit(ViT(config).apply)({"params": params}, pixels)), imported.notes


def images(size):
    return np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)


def to_torch(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("depth", "rung"), [(0, "embeddings"), (1, "one block"), (3, "encoder")])
def test_layer_by_layer(theirs, weights, measure, depth, rung):
    pixels = images(CONFIG.image_size)
    with torch.no_grad():
        x = theirs.embeddings(to_torch(pixels))
        for layer in theirs.layers[:depth]:
            x = layer(x)
        wanted = theirs.layernorm(x)[:, 1:]
    deeper = tuple(
        f"{layer}.{i}." for i in range(depth, CONFIG.depth) for layer in ("encoder.layer", "vit.layers")
    )
    config = dataclasses.replace(CONFIG, depth=depth)
    ours, notes = encode(weights, config, pixels, keep=lambda name: not name.startswith(deeper))
    measure("Hugging Face ViT", rung, ours, wanted)
    assert len(notes) == 2
    assert all("pooler" in note for note in notes)


@pytest.mark.parametrize("size", [24, 72])
def test_other_image_sizes(theirs, weights, measure, size):
    """Both sides resample their position embeddings, from 5 x 5 to 3 x 3 and to 9 x 9."""
    pixels = images(size)
    with torch.no_grad():
        wanted = theirs(to_torch(pixels), interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    ours, notes = encode(weights, dataclasses.replace(CONFIG, image_size=size), pixels)
    measure("Hugging Face ViT", f"encoder, 40 px to {size} px", ours, wanted)
    assert any("26 positions made" in note for note in notes)
