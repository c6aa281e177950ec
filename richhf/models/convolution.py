"""Convolutions on feature maps [b h w c]: plain ones and the stride-2 transposed one of the heatmap head."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from richhf.models import winograd
from richhf.models.choices import ANY, CPU
from richhf.models.layers import MAPS, AxisNames, Initializer, broadcast_last, constrain, with_axes

he_normal = nn.initializers.he_normal()
CONV_AXES: AxisNames = ("conv_in", "conv_out")
STRIP_PIXELS = 768
"""Of the map, in all rows of a batch, that `UpConv` doubles at once: their nine products fit in a cache."""
LEAST_PIXELS = 96 * 96
"""Of a map that is done in strips; smaller ones are no quicker so."""


class Conv(nn.Module):
    """A square convolution with bias.

    Attributes:
        features: channels of the output.
        kernel: side of the kernel in pixels.
        stride: step in pixels.
        padding: "SAME" or "VALID".
        axes: logical names of the kernel's channel axes.
        optimize_for: "any", or "cpu": large maps by `winograd.convolve`, which takes kernels of side 3,
            stride 1 and padding "SAME".
    """

    features: int
    kernel: int = 3
    stride: int = 1
    padding: str = "SAME"
    axes: AxisNames = CONV_AXES
    optimize_for: str = ANY
    kernel_init: Initializer = he_normal
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c_in"]) -> Float[Array, "b h2 w2 c_out"]:
        """Convolves maps."""
        kernel = self.param(
            "kernel",
            with_axes(self.kernel_init, (None, None, *self.axes)),
            (self.kernel, self.kernel, x.shape[-1], self.features),
            self.param_dtype,
        )
        bias = self.param(
            "bias",
            with_axes(self.bias_init, self.axes[1:]),
            (self.features,),
            self.param_dtype,
        )
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.optimize_for == CPU and winograd.pays(*x.shape[1:3]):
            y = winograd.convolve(x, kernel)
        else:
            strides, layout = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(x, kernel, strides, self.padding, dimension_numbers=layout)
        return constrain(y + broadcast_last(bias.astype(self.dtype), 4), (*MAPS[:3], self.axes[1]))


class UpConv(nn.Module):
    """A 3x3 transposed convolution of stride 2: doubles a map's side.

    Same as a 3x3 convolution (cross-correlation) of the map with zeros put between its pixels and padding
    (1, 2), and as PyTorch's ConvTranspose2d(3, stride=2, padding=1, output_padding=1) with a kernel turned by
    180 degrees. It is computed by the four phases of the output (even and odd rows and columns), each of
    which sees 1, 2, 2 or 4 of the nine taps: the same nine products a pixel, but dense matrix products
    instead of a convolution over a map that is three quarters zeros (on a CPU five times as fast).

    Attributes:
        features: channels of the output.
        axes: logical names of the kernel's channel axes.
        optimize_for: "any", or "cpu": large maps in strips of rows, so that what lies between the products
            and the map stays in the processor's cache.
    """

    features: int
    axes: AxisNames = CONV_AXES
    optimize_for: str = ANY
    kernel_init: Initializer = he_normal
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c_in"]) -> Float[Array, "b h2 w2 c_out"]:
        """Doubles the side of maps."""
        b, h, w, c = x.shape
        kernel = self.param(
            "kernel",
            with_axes(self.kernel_init, (None, None, *self.axes)),
            (3, 3, c, self.features),
            self.param_dtype,
        )
        bias = self.param(
            "bias",
            with_axes(nn.initializers.zeros_init(), self.axes[1:]),
            (self.features,),
            self.param_dtype,
        )
        tap = kernel.astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (0, 1), (0, 1), (0, 0)))
        if self.optimize_for == CPU and h * w >= LEAST_PIXELS:
            rows = next(n for n in range(h, 0, -1) if h % n == 0 and (n == 1 or b * n * w <= STRIP_PIXELS))
            strips = lax.map(
                lambda i: _double(lax.dynamic_slice_in_dim(padded, i * rows, rows + 1, axis=1), tap),
                jnp.arange(h // rows),
            )
            y = jnp.moveaxis(strips, 0, 1).reshape(b, 2 * h, 2 * w, self.features)
        else:
            y = _double(padded, tap)
        return constrain(y + broadcast_last(bias.astype(self.dtype), 4), (*MAPS[:3], self.axes[1]))


def _double(
    x: Float[Array, "b h1 w1 c_in"], tap: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "b h2 w2 c_out"]:
    """The four phases of `UpConv`, of a map with one more row and column than are doubled."""
    here, right = x[:, :-1, :-1], x[:, :-1, 1:]
    below, beyond = x[:, 1:, :-1], x[:, 1:, 1:]
    even_even = here @ tap[1, 1]
    even_odd = here @ tap[1, 0] + right @ tap[1, 2]
    odd_even = here @ tap[0, 1] + below @ tap[2, 1]
    odd_odd = here @ tap[0, 0] + right @ tap[0, 2] + below @ tap[2, 0] + beyond @ tap[2, 2]
    even_row = jnp.stack([even_even, even_odd], axis=3)
    odd_row = jnp.stack([odd_even, odd_odd], axis=3)
    b, h, w, features = even_even.shape
    return jnp.stack([even_row, odd_row], axis=2).reshape(b, 2 * h, 2 * w, features)
