"""The image encoder: a pre-norm Vision Transformer (Dosovitskiy et al. 2021), with a stem if wanted."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from richhf.models.attention import MultiHeadAttention
from richhf.models.choices import ANY, check_range
from richhf.models.convolution import Conv
from richhf.models.layers import HIDDEN, STREAM, Dense, LayerNorm, constrain, with_axes
from richhf.models.stack import StackOptions, make_layers, run_layers


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Sizes of the image encoder; the defaults are ViT-B/16 at 512 px (paper section 4.1).

    Attributes:
        image_size: side of the image in pixels.
        patch_size: side of a patch in image pixels.
        width: width of a token.
        depth: number of blocks.
        num_heads: number of attention heads.
        mlp_width: hidden width of a block's MLP.
        eps: epsilon of the layer norms (1e-6; 1e-12 in Hugging Face's conversions).
        class_token: keeps the class token of a pretrained ViT in the encoder; it is dropped from the output,
            unless the output with it is asked for.
        approximate_gelu: the tanh form of GELU (big_vision's and augreg's ViTs) instead of the exact one
            (Hugging Face's).
        stem_widths: channels of 3x3 convolutions with ReLU before the patches (Xiao et al. 2021, "Early
            convolutions help transformers see better"); () is the plain ViT.
        stem_strides: a stride for each of them; () means one, full resolution.
        stem_residual: adds its input to the output of a convolution that keeps size and channels.
        dropout: rate of dropout in the residual branches.
    """

    image_size: int = 512
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int = 3072
    eps: float = 1e-6
    class_token: bool = False
    approximate_gelu: bool = False
    stem_widths: tuple[int, ...] = ()
    stem_strides: tuple[int, ...] = ()
    stem_residual: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        check_range(self, ("image_size", "patch_size", "width", "num_heads", "mlp_width"))
        check_range(self, ("stem_widths", "stem_strides"))
        check_range(self, ("depth", "eps"), 0)
        check_range(self, ("dropout",), 0, 1)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}; "
                f"use {self.image_size // self.patch_size * self.patch_size} or another patch size."
            )
        if self.width % self.num_heads:
            raise ValueError(f"ViT width {self.width} is not a multiple of num_heads {self.num_heads}.")
        if self.stem_strides and len(self.stem_strides) != len(self.stem_widths):
            raise ValueError(
                f"stem_strides {self.stem_strides} and stem_widths {self.stem_widths} differ in length."
            )
        if self.patch_size % math.prod(self.stem_strides):
            raise ValueError(
                f"patch_size {self.patch_size} is not a multiple of the stem's stride, the product of "
                f"stem_strides {self.stem_strides}."
            )

    @property
    def grid(self) -> int:
        """Side of the token grid."""
        return self.image_size // self.patch_size

    @property
    def stem(self) -> tuple[tuple[int, int], ...]:
        """Width and stride of each convolution of the stem."""
        return tuple(zip(self.stem_widths, self.stem_strides or (1,) * len(self.stem_widths), strict=True))


CUBIC = -0.75
"""Slope parameter of the cubic convolution that position embeddings are resampled by; PyTorch's bicubic."""


def _cubic_weights(size: int, new_size: int) -> Float[np.ndarray, "new_size size"]:
    """Cubic convolution (Keys 1981) of `size` samples; beyond the border the last one counts."""
    position = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    first = np.floor(position).astype(int) - 1
    weights = np.zeros((new_size, size))
    for tap in range(4):
        x = np.abs(position - first - tap)
        near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
        far = CUBIC * (((x - 5) * x + 8) * x - 4)
        taken = np.clip(first + tap, 0, size - 1)
        np.add.at(weights, (np.arange(new_size), taken), np.where(x <= 1, near, np.where(x < 2, far, 0)))
    return weights


def resample_position_embedding(
    embedding: Float[Array, "n d"], grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[Array, "n2 d"]:
    """Moves learned position embeddings (without that of a class token) to another grid of tokens.

    By cubic convolution with pixel centres aligned and without antialiasing: what Hugging Face's ViT computes
    for images of another size (`interpolate_pos_encoding`).

    Args:
        embedding: one embedding a token, row by row.
        grid: rows and columns of tokens now.
        new_grid: rows and columns of tokens wanted.

    Returns:
        one embedding for each token of the new grid.
    """
    if math.prod(grid) != embedding.shape[0]:
        raise ValueError(
            f"{embedding.shape[0]} position embeddings do not fill a grid of {grid[0]} x {grid[1]}; "
            "give the grid they were learned on, without the class token's."
        )
    if grid == new_grid:
        return embedding
    rows, columns = (
        jnp.asarray(_cubic_weights(*sizes), embedding.dtype) for sizes in zip(grid, new_grid, strict=True)
    )
    cube = embedding.reshape(*grid, -1)
    cube = jnp.einsum("yh,xw,hwd->yxd", rows, columns, cube, precision="highest")
    return cube.reshape(math.prod(new_grid), -1)


def to_patches(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b n p"]:
    """Cuts maps into patches of `side` pixels, row by row; a patch is flattened as row, column, channel."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, (h // side) * (w // side), side * side * c)


class ViTBlock(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    config: ViTConfig
    optimize_for: str = ANY
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], *, train: bool = False) -> Float[Array, "b n d"]:
        """Runs the block."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dropout = nn.Dropout(config.dropout, deterministic=not train)
        y = LayerNorm(config.eps, name="attention_norm", **types)(x)
        head_width = config.width // config.num_heads
        attention = MultiHeadAttention(
            config.num_heads,
            head_width,
            config.width,
            optimize_for=self.optimize_for,
            name="attention",
            **types,
        )
        x = x + dropout(attention.to_self(y))
        y = LayerNorm(config.eps, name="mlp_norm", **types)(x)
        y = constrain(Dense(config.mlp_width, ("embed", "mlp"), name="mlp_in", **types)(y), HIDDEN)
        y = jax.nn.gelu(y, approximate=config.approximate_gelu)
        y = Dense(config.width, ("mlp", "embed"), name="mlp_out", **types)(y)
        return constrain(x + dropout(y), STREAM)


class ViT(nn.Module):
    """Images to tokens, row by row over the grid."""

    config: ViTConfig
    options: StackOptions = StackOptions()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "b h w 3"], *, train: bool = False, keep_class_token: bool = False
    ) -> Float[Array, "b n d"]:
        """Encodes images.

        Args:
            image: pixels in [-1, 1], `image_size` on both sides.
            train: whether dropout is on.
            keep_class_token: gives the class token too, before the others, where the encoder has one.

        Returns:
            normed tokens.
        """
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if image.shape[1:3] != (config.image_size, config.image_size):
            raise ValueError(
                f"the images are {image.shape[1]} x {image.shape[2]} px but the model takes "
                f"{config.image_size} x {config.image_size}; resize them, or set ViTConfig.image_size "
                "(and resample the position embeddings of trained weights)."
            )
        x, side = image.astype(self.dtype), config.patch_size
        for i, (width, stride) in enumerate(config.stem):
            axes = ("conv_in" if i else None, "conv_out")
            y = jax.nn.relu(Conv(width, stride=stride, axes=axes, name=f"stem_{i}", **types)(x))
            x = x + y if config.stem_residual and x.shape == y.shape else y
            side //= stride
        x = Dense(config.width, ("patch", "embed"), name="patch_embedding", **types)(to_patches(x, side))
        if config.class_token:
            first = self.param(
                "class_token",
                with_axes(nn.initializers.zeros_init(), ("embed",)),
                (config.width,),
                self.param_dtype,
            )
            first = jnp.broadcast_to(first.astype(self.dtype), (x.shape[0], 1, config.width))
            x = jnp.concatenate([first, x], axis=1)
        position = self.param(
            "position_embedding",
            with_axes(nn.initializers.normal(0.02), ("position", "embed")),
            x.shape[1:],
            self.param_dtype,
        )
        x = constrain(x + position.astype(self.dtype)[None], STREAM)
        x = nn.Dropout(config.dropout, deterministic=not train)(x)

        def encode(block: ViTBlock, x: Array, entry: None) -> tuple[Array, None]:
            return block(x, train=train), entry

        def make(i: int) -> ViTBlock:
            name = "blocks" if self.options.scan else f"block_{i}"
            return ViTBlock(config, self.options.optimize_for, name=name, **types)

        blocks = make_layers(make, config.depth, self.options)
        x, _ = run_layers(blocks, encode, x, depth=config.depth, options=self.options)
        x = LayerNorm(config.eps, name="norm", **types)(x)
        return x[:, 1:] if config.class_token and not keep_class_token else x
