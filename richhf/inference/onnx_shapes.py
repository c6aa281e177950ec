"""Rules of `onnx_primitives` for what moves values and computes none: shapes, copies, pieces, places."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from richhf.inference.onnx_graph import Graph, Rule, Value, integers, is_known

_END = np.iinfo(np.int64).max


def dim_as_value(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """A size that depends on the batch, as a scalar."""
    size = graph.add("Squeeze", graph.size(equation.params["dim"]), integers([0]))
    return [graph.cast(size, equation.outvars[0].aval.dtype)]


def broadcast_in_dim(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """New axes of size 1, then copies along them and others."""
    axes, shape = equation.params["broadcast_dimensions"], equation.outvars[0].aval.shape
    sizes = dict(zip(axes, equation.invars[0].aval.shape, strict=True))
    x, missing = inputs[0], [axis for axis in range(len(shape)) if axis not in sizes]
    if isinstance(x, np.ndarray):
        x = np.expand_dims(x, missing)
    elif missing:
        x = graph.add("Unsqueeze", x, integers(missing))
    # 1 keeps the size that is there.
    wanted = [1 if sizes.get(axis, 1) == size else size for axis, size in enumerate(shape)]
    if all(is_known(size) and size == 1 for size in wanted):
        return [x]
    return [graph.add("Expand", x, graph.shape(wanted))]


def reshape(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`reshape`; the size that is not known, if it is the only one, is left to the operator."""
    shape = equation.outvars[0].aval.shape
    if sum(not is_known(size) for size in shape) == 1:
        shape = [size if is_known(size) else -1 for size in shape]
    return [graph.add("Reshape", inputs[0], graph.shape(shape))]


def squeeze(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`squeeze`."""
    return [graph.add("Squeeze", inputs[0], integers(equation.params["dimensions"]))]


def transpose(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`transpose`."""
    return [graph.transpose(inputs[0], equation.params["permutation"])]


def concatenate(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`concatenate`."""
    return [graph.add("Concat", *inputs, axis=equation.params["dimension"])]


def stack(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`stack` along a new axis."""
    axis = equation.params["axis"]
    return [graph.add("Concat", *(graph.add("Unsqueeze", x, integers([axis])) for x in inputs), axis=axis)]


def tile(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`tile`."""
    return [graph.add("Tile", inputs[0], integers(equation.params["reps"]))]


def cut(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`slice`."""
    params, sizes = equation.params, equation.invars[0].aval.shape
    steps = params["strides"] or (1,) * len(sizes)
    bounds = zip(params["start_indices"], params["limit_indices"], sizes, steps, strict=True)
    given = [
        (start, _END if limit == size else limit, axis, step)
        for axis, (start, limit, size, step) in enumerate(bounds)
        if (start, step) != (0, 1) or limit != size
    ]
    return [graph.add("Slice", inputs[0], *map(integers, zip(*given, strict=True))) if given else inputs[0]]


def pad(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`pad` around what is there; not between."""
    before, after, between = zip(*equation.params["padding_config"], strict=True)
    if any(between):
        raise NotImplementedError("pad between values.")
    return [graph.add("Pad", inputs[0], integers([*before, *after]), inputs[1])]


def gather(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`gather` of rows of a table (an embedding), or of one piece at a known place (an index)."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    table, places = inputs
    shape = equation.invars[0].aval.shape
    if isinstance(places, np.ndarray) and places.ndim == 1:
        starts = dict(zip(numbers.start_index_map, places.tolist(), strict=True))
        chosen = [(start, start + int(sizes[axis]), axis) for axis, start in starts.items()]
        piece = graph.add("Slice", table, *map(integers, zip(*chosen, strict=True)))
        dropped = numbers.collapsed_slice_dims
        return [graph.add("Squeeze", piece, integers(dropped)) if dropped else piece]
    rank = len(equation.invars[1].aval.shape)
    by_row = numbers.start_index_map == numbers.collapsed_slice_dims == (0,)
    if not by_row or tuple(sizes[1:]) != tuple(shape[1:]) or len(numbers.offset_dims) != len(shape) - 1:
        raise NotImplementedError(f"gather with {numbers}.")
    rows = graph.add("Squeeze", graph.cast(places, np.int64), integers([rank - 1]))
    rows = graph.add("Min", graph.add("Max", rows, integers([0])), integers([shape[0] - 1]))
    return [graph.add("Gather", table, rows, axis=0)]


def _start(graph: Graph, start: Value, largest: Any) -> Value:
    """Where a piece starts, int64 [1]; JAX moves it inside."""
    start = graph.cast(start, np.int64)
    start = start.reshape(1) if isinstance(start, np.ndarray) else graph.add("Reshape", start, integers([1]))
    return graph.add("Min", graph.add("Max", start, integers([0])), integers([largest]))


def _moving_axes(equation: Any, starts: Sequence[Value], sizes: Sequence[Any]) -> list[int]:
    """Axes along which a piece is smaller than the whole."""
    shape = equation.invars[0].aval.shape
    return [axis for axis in range(len(starts)) if shape[axis] != sizes[axis]]


def dynamic_slice(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`dynamic_slice`, axis by axis."""
    (x, *starts), sizes = inputs, equation.params["slice_sizes"]
    for axis in _moving_axes(equation, starts, sizes):
        start = _start(graph, starts[axis], equation.invars[0].aval.shape[axis] - sizes[axis])
        end = graph.add("Add", start, integers([sizes[axis]]))
        x = graph.add("Slice", x, start, end, integers([axis]))
    return [x]


def dynamic_update_slice(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`dynamic_update_slice` of one place along one axis: all others keep what they have."""
    x, piece, *starts = inputs
    shape, sizes = (variable.aval.shape for variable in equation.invars[:2])
    axes = _moving_axes(equation, starts, sizes)
    if not axes:
        return [piece]
    if len(axes) > 1 or sizes[axes[0]] != 1:
        raise NotImplementedError(f"dynamic_update_slice of {sizes} in {shape}.")
    (axis,) = axes
    places = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    here = graph.add("Equal", places, _start(graph, starts[axis], shape[axis] - 1))
    return [graph.add("Where", here, piece, x)]


SHAPE_RULES: dict[str, Rule] = {
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "dim_as_value": dim_as_value,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    "pad": pad,
    "reshape": reshape,
    "slice": cut,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
"""Rules by primitive."""
