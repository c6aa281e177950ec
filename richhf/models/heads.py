"""The two heads on a feature map (paper section 4.1): a map of logits, and one logit.

Their layouts are data: the paper's heads and those of its first author are one class with other numbers.
Whatever they compute in, the last layer gives its logits in float32.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from richhf.models.choices import ANY, check_choice, check_range
from richhf.models.convolution import CONV_AXES, Conv, UpConv
from richhf.models.layers import Dense, RMSNorm

FLATTEN = "flatten"
MEAN = "mean"


@dataclasses.dataclass(frozen=True)
class HeatmapHeadConfig:
    """Layout of a heatmap head; the defaults are the paper's (section 4.1 and supplement).

    Attributes:
        conv_widths: channels of the first 3x3 convolutions, each with norm and ReLU.
        deconv_widths: channels of the stride-2 3x3 transposed convolutions, each followed by norm, ReLU and a
            residual block; each doubles the map's side.
        residual_convs: number of 3x3 convolutions with norms in a residual block; 0 leaves the block out.
        final_width: channels of the last 3x3 convolution before ReLU and the convolution to one channel.
        norm_before_relu: in the first convolutions, norm before ReLU or after it.
        initial_value: sigmoid of the last bias at the start, around which a fresh head's maps lie; a good
            choice is the mean of the true maps.
        eps: epsilon of the norms over channels.
    """

    conv_widths: tuple[int, ...] = (768, 384)
    deconv_widths: tuple[int, ...] = (768, 384, 384, 192)
    residual_convs: int = 2
    final_width: int = 192
    norm_before_relu: bool = True
    initial_value: float = 0.5
    eps: float = 1e-8

    def __post_init__(self):
        check_range(self, ("conv_widths", "deconv_widths", "final_width"))
        check_range(self, ("residual_convs", "eps"), 0)
        if not 0 < self.initial_value < 1:
            raise ValueError(
                f"HeatmapHeadConfig.initial_value is {self.initial_value}; a map's mean lies within 0 and 1."
            )

    def map_size(self, grid: int) -> int:
        """Side of the map that comes of a feature map of side `grid`."""
        return grid * 2 ** len(self.deconv_widths)


@dataclasses.dataclass(frozen=True)
class ScoreHeadConfig:
    """Layout of a score head; the defaults are the paper's (supplement, from memory).

    Attributes:
        conv_widths: channels of the convolutions, each with norm and ReLU.
        kernel: side of their kernel.
        padding: "SAME" or "VALID".
        pool: "flatten" (the paper: every pixel has weights of its own in the first dense layer) or "mean".
        dense_widths: widths of the dense layers with ReLU before the last one, which is 1 wide.
        norm_before_relu: norm before ReLU or after it.
        eps: epsilon of the norms over channels.
    """

    conv_widths: tuple[int, ...] = (768, 384, 128, 64)
    kernel: int = 2
    padding: str = "SAME"
    pool: str = FLATTEN
    dense_widths: tuple[int, ...] = (2048, 1024)
    norm_before_relu: bool = True
    eps: float = 1e-8

    def __post_init__(self):
        check_range(self, ("conv_widths", "kernel", "dense_widths"))
        check_range(self, ("eps",), 0)
        check_choice("ScoreHeadConfig.pool", self.pool, (FLATTEN, MEAN))
        check_choice("ScoreHeadConfig.padding", self.padding, ("SAME", "VALID"))


class NormAndReLU(nn.Module):
    """T5's norm over channels and ReLU, in either order."""

    norm_first: bool
    eps: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Norms over channels."""
        norm = RMSNorm(self.eps, "conv_out", name="norm", dtype=self.dtype, param_dtype=self.param_dtype)
        return jax.nn.relu(norm(x)) if self.norm_first else norm(jax.nn.relu(x))


class ResidualBlock(nn.Module):
    """Convolutions with norms beside a shortcut; ReLU between them and after the sum."""

    convs: int
    eps: float
    optimize_for: str = ANY
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Runs the block."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = x
        for i in range(self.convs):
            conv = Conv(x.shape[-1], optimize_for=self.optimize_for, name=f"conv_{i}", **types)
            y = conv(jax.nn.relu(y) if i else y)
            y = RMSNorm(self.eps, "conv_out", name=f"norm_{i}", **types)(y)
        return jax.nn.relu(x + y)


class HeatmapHead(nn.Module):
    """Feature maps to maps of logits.

    Attributes:
        config: its layout.
        remat: keeps only the input of each residual block for gradients.
        optimize_for: what its convolutions are optimized for (`choices.PROCESSORS`).
    """

    config: HeatmapHeadConfig
    remat: bool = False
    optimize_for: str = ANY
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2"]:
        """Predicts maps; their side is `HeatmapHeadConfig.map_size` of the feature map's."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        residual_block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        how = types | {"optimize_for": self.optimize_for}
        for i, width in enumerate(config.conv_widths):
            x = Conv(width, name=f"conv_{i}", **how)(x)
            x = NormAndReLU(config.norm_before_relu, config.eps, name=f"conv_{i}_post", **types)(x)
        for i, width in enumerate(config.deconv_widths):
            x = UpConv(width, name=f"deconv_{i}", **how)(x)
            x = NormAndReLU(True, config.eps, name=f"deconv_{i}_post", **types)(x)
            if config.residual_convs:
                block = residual_block(config.residual_convs, config.eps, name=f"residual_{i}", **how)
                x = block(x)
        x = jax.nn.relu(Conv(config.final_width, name="final", **how)(x))
        start = math.log(config.initial_value / (1 - config.initial_value))
        logits = Conv(
            1,
            axes=("conv_in", None),
            bias_init=nn.initializers.constant(start),
            name="logits",
            param_dtype=self.param_dtype,
        )(x)
        return logits[..., 0]


class ScoreHead(nn.Module):
    """Feature maps to one logit each."""

    config: ScoreHeadConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b"]:
        """Predicts scores."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for i, width in enumerate(config.conv_widths):
            x = Conv(width, config.kernel, padding=config.padding, name=f"conv_{i}", **types)(x)
            x = NormAndReLU(config.norm_before_relu, config.eps, name=f"conv_{i}_post", **types)(x)
        x = x.mean(axis=(1, 2)) if config.pool == MEAN else x.reshape(x.shape[0], -1)
        for i, width in enumerate(config.dense_widths):
            x = jax.nn.relu(Dense(width, CONV_AXES, name=f"dense_{i}", **types)(x))
        return Dense(1, ("conv_in", None), name="logit", param_dtype=self.param_dtype)(x)[:, 0]
