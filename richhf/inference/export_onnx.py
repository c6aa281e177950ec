"""ONNX: a model for ONNX Runtime, and what else reads the format, without JAX or TensorFlow.

    FOLDER/
      model.onnx        the function with its weights; any batch size; keywords are decoded by a Loop inside
      model.onnx.data   the weights of a large model: the format's own file ends at two gigabytes
      signature.json    vocabulary.model

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    scores, heatmaps, keyword_tokens = session.run(None, {"image": image, "encoder_input_tokens": tokens})

It computes in float32, whatever the model does: ONNX Runtime has few operators for 16 bits on CPUs.

Operators are written by this project's own rules, a few for each of JAX's primitives that the models use:
jax2onnx (0.17.1, tried with `synthetic-tiny`) knows no batch of any size there (it ends in
`InconclusiveDimensionOperation`), and at a fixed one no resize with antialiasing.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from richhf.inference.export_signature import (
    ARRAYS,
    INPUTS,
    Predict,
    flat_weights,
    input_specs,
    need,
    predict_arrays,
    write_signature,
)
from richhf.inference.onnx_graph import Graph, integers, is_known
from richhf.inference.onnx_primitives import RULES
from richhf.models.stack import unstack_layers
from richhf.pretrained.native import NativeModel

FUNCTION = "model.onnx"
OPERATOR_SET, VERSION = 18, 9
"""Of December 2022: a reader that knows them takes the file."""
IN_ONE_FILE = 2**30
"""Bytes of weights from which on they have a file of their own."""


def write_onnx(folder: Path, native: NativeModel) -> None:
    """Writes the files into a folder, which is there.

    Raises:
      ImportError: onnx is not installed.
    """
    onnx, native, path = need("onnx"), plain(native), folder / FUNCTION
    (batch,) = jax.export.symbolic_shape("b")
    weights = flat_weights(native)
    inputs = dict(zip(INPUTS, input_specs(native, batch), strict=True))
    model = convert_function(functools.partial(predict_arrays, native.model, weights), inputs, ARRAYS)
    large = sum(x.nbytes for x in weights.values()) > IN_ONE_FILE
    onnx.save_model(model, str(path), save_as_external_data=large, location=f"{path.name}.data")
    onnx.checker.check_model(str(path))
    write_signature(folder, native, "onnx", operator_set=OPERATOR_SET)


def read_onnx(folder: Path) -> Predict:
    """What `write_onnx` has written, on CPUs.

    Raises:
      ImportError: onnxruntime is not installed.
    """
    session = need("onnxruntime").InferenceSession(folder / FUNCTION, providers=["CPUExecutionProvider"])
    return lambda image, tokens: tuple(
        session.run(list(ARRAYS), dict(zip(INPUTS, (image, tokens), strict=True)))
    )


def plain(native: NativeModel) -> NativeModel:
    """The same model in float32, its layers one by one, nothing kept for gradients."""
    config = dataclasses.replace(
        native.model.config, dtype="float32", param_dtype="float32", scan_layers=False, remat="none"
    )
    params = unstack_layers(traverse_util.unflatten_dict(flat_weights(native), sep="/"))
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    return dataclasses.replace(native, model=dataclasses.replace(native.model, config=config), params=params)


def convert_function(
    function: Callable[..., Sequence[Any]],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    outputs: Sequence[str],
) -> Any:
    """A function of arrays as an ONNX model.

    Args:
      function: arrays, in the order of `inputs`, to a sequence of arrays.
      inputs: their shapes and dtypes by name; the first size of the first one may be symbolic, the batch's,
        and others multiples of it.
      outputs: names of the outputs.

    Returns:
      An `onnx.ModelProto`.

    Raises:
      ImportError: onnx is not installed.
      NotImplementedError: the function uses a primitive that `onnx_primitives.py` does not know.
    """
    onnx = need("onnx")
    helper = onnx.helper
    traced = jax.make_jaxpr(function)(*inputs.values())
    graph = Graph(onnx, RULES, batch="batch")
    shape = graph.add("Shape", next(iter(inputs)))
    graph.add("Slice", shape, integers([0]), integers([1]), output=graph.batch)
    for name, value in zip(outputs, graph.walk(traced.jaxpr, traced.consts, [*inputs]), strict=True):
        graph.add("Identity", value, output=name)

    def described(name: str, spec: Any) -> Any:
        shape = [size if is_known(size) else "batch" for size in spec.shape]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        return helper.make_tensor_value_info(name, kind, shape)

    content = helper.make_graph(
        graph.nodes,
        "richhf",
        [described(name, spec) for name, spec in inputs.items()],
        [described(name, spec) for name, spec in zip(outputs, traced.out_avals, strict=True)],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.values()],
    )
    operators = [helper.make_opsetid("", OPERATOR_SET)]
    return helper.make_model(content, opset_imports=operators, ir_version=VERSION, producer_name="richhf")
