"""ONNX: a model for ONNX Runtime, and what else reads the format, without JAX or TensorFlow.

    FOLDER/
      model.onnx        the function with its weights; any batch size; keywords are decoded by a Loop inside
      model.onnx.data   the weights of a large model: the format's own file ends at two gigabytes
      signature.json    vocabulary.model

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    scores, heatmaps, keyword_tokens = session.run(None, {"image": image, "encoder_input_tokens": tokens})

It computes in float32, whatever the model does: ONNX Runtime has few operators for 16 bits on CPUs.
"""

import dataclasses
from pathlib import Path

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
    onnx = need("onnx")
    native = plain(native)
    (batch,) = jax.export.symbolic_shape("b")
    weights, specs = flat_weights(native), input_specs(native, batch)
    traced = jax.make_jaxpr(lambda image, tokens: predict_arrays(native.model, weights, image, tokens))(
        *specs
    )
    graph = Graph(onnx, RULES, batch="batch")
    shape = graph.add("Shape", INPUTS[0])
    graph.add("Slice", shape, integers([0]), integers([1]), output=graph.batch)
    found = graph.walk(traced.jaxpr, traced.consts, INPUTS)
    for name, value in zip(ARRAYS, found, strict=True):
        graph.add("Identity", value, output=name)
    _save(onnx, graph, specs, traced.out_avals, folder / FUNCTION)
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


def _save(onnx, graph: Graph, inputs, outputs, path: Path) -> None:
    helper = onnx.helper

    def described(name, spec):
        shape = [size if is_known(size) else "batch" for size in spec.shape]
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), shape
        )

    constants = list(graph.constants.values())
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "richhf",
            [described(name, spec) for name, spec in zip(INPUTS, inputs, strict=True)],
            [described(name, spec) for name, spec in zip(ARRAYS, outputs, strict=True)],
            [onnx.numpy_helper.from_array(x, name) for name, x in constants],
        ),
        opset_imports=[helper.make_opsetid("", OPERATOR_SET)],
        ir_version=VERSION,
        producer_name="richhf",
    )
    large = sum(x.nbytes for _, x in constants) > IN_ONE_FILE
    onnx.save_model(model, str(path), save_as_external_data=large, location=f"{path.name}.data")
    onnx.checker.check_model(str(path))
