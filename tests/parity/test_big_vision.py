"""ViT beside one of big_vision's form, made of Flax's own attention, norms and convolution."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from richhf.models import RAHFConfig, ViT, ViTConfig
from richhf.pretrained import flat_shapes, import_weights, nest, read_weights

CONFIG = ViTConfig(
    image_size=40, patch_size=8, width=48, depth=2, num_heads=4, mlp_width=80, approximate_gelu=True
)
AUGREG = {
    "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
    "LayerNorm_1": "LayerNorm_2",
    "MlpBlock_0": "MlpBlock_3",
}


class MlpBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        hidden = nn.gelu(nn.Dense(self.width)(x))
        return nn.Dense(x.shape[-1])(hidden)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(CONFIG.num_heads)(nn.LayerNorm()(x))
        return x + MlpBlock(CONFIG.mlp_width)(nn.LayerNorm()(x))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(CONFIG.depth):
            x = Block(name=f"encoderblock_{i}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class BigVision(nn.Module):
    """`token`: whether the class token stands with the others when positions are added, or there is none."""

    token: bool

    @nn.compact
    def __call__(self, image):
        side, normal = CONFIG.patch_size, nn.initializers.normal(0.5)
        x = nn.Conv(CONFIG.width, (side, side), (side, side), "VALID", name="embedding")(image)
        x = x.reshape(len(x), -1, CONFIG.width)
        if self.token:
            first = self.param("cls", normal, (1, 1, CONFIG.width))
            x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, CONFIG.width)), x], axis=1)
        x = x + self.param("pos_embedding", normal, (1, x.shape[1], CONFIG.width))
        return Transformer(name="Transformer")(x)[:, int(self.token) :]


def randomised(shapes):
    rng = np.random.default_rng(0)

    def number(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1] == "kernel":
            inputs = (
                leaf.shape[:2] if path[-2] == "out" else leaf.shape[:-1] if path[0] == "embedding" else ()
            )
            return noise * np.prod(inputs or leaf.shape[:1]) ** -0.5
        return noise * 0.3 + (path[-1] == "scale")

    return {path: number(path, leaf) for path, leaf in traverse_util.flatten_dict(shapes).items()}


def augreg_name(path):
    name = "/".join(AUGREG.get(part, part) for part in path)
    return name.replace("pos_embedding", "Transformer/posembed_input/pos_embedding")


def scanned(named):
    """The blocks of a stack as a scan keeps them: one array for all, with a leading axis."""
    first, stack = "Transformer/encoderblock_0/", "Transformer/encoderblock/"
    blocks = {
        name.replace(first, stack): [name.replace("block_0", f"block_{i}") for i in range(CONFIG.depth)]
        for name in named
        if first in name
    }
    rest = {name: x for name, x in named.items() if "encoderblock" not in name}
    return rest | {name: np.stack([named[one] for one in layers]) for name, layers in blocks.items()}


@pytest.mark.parametrize("layout", ["augreg", "big_vision", "big_vision, scanned"])
def test_encoder(layout, tmp_path, measure):
    image = np.random.default_rng(1).uniform(-1, 1, (2, 40, 40, 3)).astype(np.float32)
    token = layout == "augreg"
    reference = BigVision(token)
    flat = randomised(jax.eval_shape(lambda: reference.init(jax.random.key(0), image))["params"])
    theirs = reference.apply({"params": traverse_util.unflatten_dict(flat)}, image)
    named = {augreg_name(path) if token else "params/" + "/".join(path): x for path, x in flat.items()}
    named = scanned(named) if "scanned" in layout else named
    np.savez(tmp_path / "vit.npz", **named, **{"head/kernel" if token else "params/head/kernel": np.ones(3)})

    config = dataclasses.replace(CONFIG, class_token=token)
    made = jax.eval_shape(ViT(config).init, jax.random.key(0), image)["params"]
    target = {f"vit/{path}": leaf for path, leaf in flat_shapes(made).items()}
    imported = import_weights(read_weights(tmp_path / "vit.npz"), RAHFConfig(vit=config), target)
    params = nest(imported.params, {"vit": made})["vit"]
    ours = jax.jit(ViT(config).apply)({"params": params}, image)
    measure(f"{layout} ViT", "encoder", ours, theirs)
    assert imported.notes == ("head/kernel left out: the head of a classifier",)
