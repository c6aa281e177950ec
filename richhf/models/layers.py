"""The smallest pieces: dense layers, norms and embeddings whose parameters carry logical axis names.

Every parameter of the project is made by one of the layers of this file, `attention.py` or `convolution.py`
and is boxed by `with_axes`, so that a trainer can shard it by rules on names. `dtype` is
what a layer computes in, `param_dtype` what it stores.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

AxisNames = tuple[str | None, ...]
Initializer = Callable[..., Any]

lecun_normal = nn.initializers.lecun_normal()

# Logical axis names of activations.
STREAM = ("batch", "length", "activation_embed")
HIDDEN = ("batch", "length", "mlp")
BY_HEAD = ("batch", "heads", "length", "kv")
MAPS = ("batch", "height", "width", "conv_out")


def with_axes(initializer: Initializer, axes: AxisNames) -> Initializer:
    """Boxes what an initializer gives with logical axis names; `Module.param` unboxes what it returns."""
    return nn.with_logical_partitioning(initializer, axes)


def constrain(x: Float[Array, "..."], axes: AxisNames) -> Float[Array, "..."]:
    """Says how an activation is split over devices, by logical names of its axes.

    The mesh and the rules are those of the program around it (`Partitioner.activations`); without them, or on
    one device, nothing is said. An axis that its devices do not divide stays whole.
    """
    mesh, rules = jax.sharding.get_abstract_mesh(), nn.get_logical_axis_rules()
    if mesh.empty or mesh.size == 1 or not rules:
        return x

    def fits(mesh_axes: Any, size: int) -> bool:
        names = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
        return size % math.prod(mesh.shape[name] for name in names) == 0

    wanted = nn.logical_to_mesh_axes(axes, rules) or ()
    spec = [part if fits(part, size) else None for part, size in zip(wanted, x.shape, strict=True)]
    return lax.with_sharding_constraint(x, PartitionSpec(*spec))


def broadcast_last(vector: Float[Array, "c"], rank: int) -> Array:
    """Gives a vector leading axes of size one, so that it meets an array of `rank` without rank promotion."""
    return vector.reshape((1,) * (rank - 1) + (-1,))


class Dense(nn.Module):
    """`x @ kernel + bias` over the last axis.

    Attributes:
        features: width of the output.
        axes: logical names of the kernel's input and output axis; the bias carries the second.
        use_bias: whether there is a bias.
        kernel_init: initializer of the kernel.
        bias_init: initializer of the bias.
    """

    features: int
    axes: AxisNames
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
        """Applies the layer."""
        kernel = self.param(
            "kernel",
            with_axes(self.kernel_init, self.axes),
            (x.shape[-1], self.features),
            self.param_dtype,
        )
        y = jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            bias = self.param(
                "bias",
                with_axes(self.bias_init, self.axes[1:]),
                (self.features,),
                self.param_dtype,
            )
            y = y + broadcast_last(bias.astype(self.dtype), y.ndim)
        return y


class RMSNorm(nn.Module):
    """T5's layer norm: divides by the root mean square over the last axis; no mean subtraction, no bias.

    The statistics are taken in float32 whatever `dtype` is.

    Attributes:
        eps: 1e-6 in T5; 1e-8 in the heads, where it runs over channels.
        axis: logical name of the scale's axis.
    """

    eps: float = 1e-6
    axis: str | None = "embed"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        """Norms over the last axis."""
        scale = self.param(
            "scale",
            with_axes(nn.initializers.ones_init(), (self.axis,)),
            (x.shape[-1],),
            self.param_dtype,
        )
        x = x.astype(jnp.float32)
        x = x * lax.rsqrt(jnp.mean(lax.square(x), axis=-1, keepdims=True) + self.eps)
        return x.astype(self.dtype) * broadcast_last(scale.astype(self.dtype), x.ndim)


class LayerNorm(nn.Module):
    """The ViT's layer norm, with mean subtraction, scale and bias; statistics in float32.

    Attributes:
        eps: 1e-6 in the ViTs of Google and timm, 1e-12 in those converted by Hugging Face.
        axis: logical name of the scale's and the bias's axis.
    """

    eps: float = 1e-6
    axis: str | None = "embed"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        """Norms over the last axis."""
        shape, axes = (x.shape[-1],), (self.axis,)
        ones = with_axes(nn.initializers.ones_init(), axes)
        zeros = with_axes(nn.initializers.zeros_init(), axes)
        scale = self.param("scale", ones, shape, self.param_dtype)
        bias = self.param("bias", zeros, shape, self.param_dtype)
        x = x.astype(jnp.float32)
        centered = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(lax.square(centered), axis=-1, keepdims=True)
        y = (centered * lax.rsqrt(variance + self.eps)).astype(self.dtype)
        return y * broadcast_last(scale.astype(self.dtype), y.ndim) + broadcast_last(
            bias.astype(self.dtype), y.ndim
        )


class Embedding(nn.Module):
    """A table of token embeddings, which can also score tokens (tied logits).

    Attributes:
        size: number of tokens.
        features: width of an embedding.
    """

    size: int
    features: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        """Makes the parts."""
        self.embedding = self.param(
            "embedding",
            with_axes(nn.initializers.normal(1.0), ("vocab", "embed")),
            (self.size, self.features),
            self.param_dtype,
        )

    def __call__(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch d"]:
        """Looks embeddings up."""
        return jnp.take(self.embedding.astype(self.dtype), tokens, axis=0, mode="clip")

    def attend(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch v"]:
        """Scores every token of the table against `x`, in float32."""
        return jnp.dot(x.astype(jnp.float32), self.embedding.astype(jnp.float32).T)
