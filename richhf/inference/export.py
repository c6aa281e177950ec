"""A model written in a format that others run, and checked against the model itself before it is there."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from richhf.atomic import atomic_folder
from richhf.inference.export_folder import check_replaceable
from richhf.inference.export_onnx import read_onnx, write_onnx
from richhf.inference.export_saved_model import read_saved_model, write_saved_model
from richhf.inference.export_signature import ARRAYS, Predict, jax_predict, need, random_inputs
from richhf.inference.export_stablehlo import read_stablehlo, write_stablehlo
from richhf.inference.model_card import model_card
from richhf.models.choices import ANY, check_choice
from richhf.pretrained.native import NativeModel, read_model, write_model

LIMIT = 1e-3
"""The largest difference from the model in float32 that an export may have."""
LIMIT_HALF = 3e-2
"""The same for a network that computes in 16 bits: another compiler rounds elsewhere."""


def write_native(folder: Path, native: NativeModel) -> None:
    """Writes a native model folder with its card."""
    write_model(folder, native, card=model_card(native))


def read_native(folder: Path) -> Predict:
    """What `write_native` has written."""
    return jax_predict(read_model(folder))


FORMATS: dict[str, tuple[Callable[[Path, NativeModel], None], Callable[[Path], Predict]]] = {
    "native": (write_native, read_native),
    "stablehlo": (write_stablehlo, read_stablehlo),
    "saved_model": (write_saved_model, read_saved_model),
    "onnx": (write_onnx, read_onnx),
}
NEEDS = {"saved_model": ("tensorflow", "jax.experimental.jax2tf"), "onnx": ("onnx", "onnxruntime")}
"""Modules that a format is written and tried with, where this package does not bring them."""


def export_model(native: NativeModel, folder: str | os.PathLike, file_format: str) -> float:
    """Writes a model in a format, after a look at whether what was written predicts the same.

    Args:
      native: the model.
      folder: a new or empty folder, or an export with no other files in it, which is replaced.
      file_format: of `FORMATS`.

    Returns:
      The largest difference of any score or map value from the model's.

    Raises:
      ValueError: an unknown format; the folder holds something else; or the export predicts something else
        than the model, and is not kept.
      ImportError: the format needs what is not installed.
    """
    check_choice("FORMAT", file_format, tuple(FORMATS))
    write, read = FORMATS[file_format]
    check_installed(file_format)
    check_replaceable(folder)
    # What it will be computed on is not known, nor how many images at once.
    config = dataclasses.replace(native.model.config, optimize_for=ANY)
    native = dataclasses.replace(native, model=dataclasses.replace(native.model, config=config))
    with atomic_folder(folder) as temporary:
        write(temporary, native)
        inputs = random_inputs(native, 2)
        expected = jax_predict(native)(*inputs)
        return check_same(read(temporary)(*inputs), expected, native.model.config.dtype)


def check_installed(file_format: str) -> None:
    """Raises ImportError unless what a format is written and tried with is there."""
    for module in NEEDS.get(file_format, ()):
        need(module)


def check_same(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], dtype: str) -> float:
    """The largest difference between predictions, arrays in the order of `ARRAYS`.

    Raises:
      ValueError: it is too large for a network that computes in `dtype`, or keywords differ.
    """
    differences = {
        name: float(np.abs(np.asarray(one, np.float64) - other).max())
        for name, one, other in zip(ARRAYS, found, expected, strict=True)
    }
    tokens = differences.pop("keyword_tokens")
    largest, limit = max(differences.values()), LIMIT if dtype == "float32" else LIMIT_HALF
    if not largest <= limit or (tokens and dtype == "float32"):
        listed = ", ".join(f"{name} by up to {value:.2g}" for name, value in differences.items())
        raise ValueError(
            f"the export does not predict what the model does, and was not kept: {listed}, keywords "
            f"{'too' if tokens else 'not'}; allowed is {limit}. This is a fault of the conversion, not of "
            "the model: take another FORMAT, and report it with the versions of jax and the format's tools."
        )
    return largest
