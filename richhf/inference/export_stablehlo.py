"""StableHLO: a model as one file that JAX runs without this package, on CPUs, GPUs and TPUs.

    FOLDER/
      model.stablehlo   the function, by `jax.export`; any batch size
      weights.npz       its parameters by path, float32 or float16
      signature.json    vocabulary.model

    exported = jax.export.deserialize((folder / "model.stablehlo").read_bytes())
    weights = dict(np.load(folder / "weights.npz"))
    scores, heatmaps, keyword_tokens = exported.call(weights, image, encoder_input_tokens)

The weights are arguments, not constants in the function: it stays small, compiles fast, and is not held to
the two gigabytes that the file format ends at.
"""

import functools
from pathlib import Path

import jax
import numpy as np

from richhf.inference.export_signature import (
    PLATFORMS,
    Predict,
    flat_weights,
    input_specs,
    predict_arrays,
    write_signature,
)
from richhf.pretrained.native import NativeModel

FUNCTION, WEIGHTS = "model.stablehlo", "weights.npz"


def write_stablehlo(folder: Path, native: NativeModel) -> None:
    """Writes the files into a folder, which is there."""
    (batch,) = jax.export.symbolic_shape("b")
    weights = flat_weights(native)
    function = jax.jit(functools.partial(predict_arrays, native.model))
    exported = jax.export.export(function, platforms=PLATFORMS)(
        {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()},
        *input_specs(native, batch),
    )
    (folder / FUNCTION).write_bytes(exported.serialize())
    np.savez(folder / WEIGHTS, **weights)  # type: ignore[arg-type]
    write_signature(folder, native, "stablehlo", platforms=PLATFORMS)


def read_stablehlo(folder: Path) -> Predict:
    """What `write_stablehlo` has written, on the default device."""
    exported = jax.export.deserialize(bytearray((folder / FUNCTION).read_bytes()))
    with np.load(folder / WEIGHTS, allow_pickle=False) as file:
        weights = jax.device_put(dict(file))
    call = jax.jit(exported.call)
    return lambda image, tokens: jax.device_get(call(weights, image, tokens))
