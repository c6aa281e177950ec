"""What becomes of each of JAX's primitives in ONNX (operator set 18), as far as the models use them.

A rule takes the graph, the equation and its inputs, one of them at least not known, and gives the outputs.
"""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from richhf.inference.onnx_graph import Graph, Rule, Value, integers, is_known

SAME = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"},
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "sqrt": "Sqrt", "erf": "Erf"},
    **{"neg": "Neg", "abs": "Abs", "sign": "Sign"},
    **{"and": "And", "or": "Or", "not": "Not", "eq": "Equal", "lt": "Less", "gt": "Greater"},
    **{"le": "LessOrEqual", "ge": "GreaterOrEqual"},
    **dict.fromkeys(("copy", "stop_gradient", "optimization_barrier"), "Identity"),
}
"""Primitives that an operator equals."""
REDUCED = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
TRUTH_REDUCED = {"reduce_and": "ReduceMin", "reduce_or": "ReduceMax"}
_END = np.iinfo(np.int64).max


def same(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """One operator with the same meaning."""
    name = equation.primitive.name
    if name in ("and", "or", "not") and equation.outvars[0].aval.dtype != np.bool_:
        raise NotImplementedError(f"the primitive {name} on the bits of numbers.")
    return [graph.add(SAME[name], *inputs)]


def not_equal(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`ne`."""
    return [graph.add("Not", graph.add("Equal", *inputs))]


def is_finite(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`is_finite`: neither infinite nor not a number."""
    return [graph.add("Not", graph.add("Or", graph.add("IsInf", *inputs), graph.add("IsNaN", *inputs)))]


def square(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`square`."""
    return [graph.add("Mul", inputs[0], inputs[0])]


def integer_pow(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`integer_pow` as products."""
    (x,), power = inputs, equation.params["y"]
    product = x
    for _ in range(abs(power) - 1):
        product = graph.add("Mul", product, x)
    return [product if power > 0 else graph.add("Reciprocal", product)]


def rsqrt(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`rsqrt`."""
    return [graph.add("Reciprocal", graph.add("Sqrt", inputs[0]))]


def erfc(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`erfc`."""
    one = np.ones((), equation.invars[0].aval.dtype)
    return [graph.add("Sub", one, graph.add("Erf", inputs[0]))]


def clamp(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`clamp`: smallest, x, largest."""
    smallest, x, largest = inputs
    return [graph.add("Min", graph.add("Max", x, smallest), largest)]


def select_n(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`select_n` of two cases; the first where the condition is False."""
    condition, otherwise, then = inputs
    if equation.outvars[0].aval.dtype != np.bool_:
        return [graph.add("Where", condition, then, otherwise)]
    # ONNX Runtime has no Where of truth values.
    first, second = graph.add("And", condition, then), graph.add("Not", condition)
    return [graph.add("Or", first, graph.add("And", second, otherwise))]


def convert(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`convert_element_type`."""
    return [graph.cast(inputs[0], equation.params["new_dtype"])]


def reduce(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """Sums, maxima and minima over axes."""
    name, axes = equation.primitive.name, integers(equation.params["axes"])
    if name in REDUCED:
        return [graph.add(REDUCED[name], inputs[0], axes, keepdims=0)]
    reduced = graph.add(TRUTH_REDUCED[name], graph.cast(inputs[0], np.int32), axes, keepdims=0)
    return [graph.cast(reduced, np.bool_)]


def argmax(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`argmax`: the first of equals, as in JAX."""
    (axis,) = equation.params["axes"]
    return [graph.cast(graph.add("ArgMax", inputs[0], axis=axis, keepdims=0), equation.params["index_dtype"])]


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


def dot_general(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`dot_general` as a matrix product, or else as an Einsum."""
    (left_sums, right_sums), (left_batch, right_batch) = equation.params["dimension_numbers"]
    left_rank, right_rank = (len(variable.aval.shape) for variable in equation.invars)
    left, right = inputs
    left_free = [i for i in range(left_rank) if i not in (*left_sums, *left_batch)]
    right_free = [i for i in range(right_rank) if i not in (*right_sums, *right_batch)]
    simple = len(right_free) == len(right_sums) == 1
    if simple and (len(left_free) == 1 or (left_free and not left_batch)):
        left = graph.transpose(left, [*left_batch, *left_free, *left_sums])
        right = graph.transpose(right, [*right_batch, *right_sums, *right_free])
        product = graph.add("MatMul", left, right)
    else:
        letters = iter(string.ascii_lowercase)
        names = {("left", i): next(letters) for i in range(left_rank)}
        pairs = zip((*left_sums, *left_batch), (*right_sums, *right_batch), strict=True)
        names |= {("right", j): names["left", i] for i, j in pairs}
        names |= {("right", j): next(letters) for j in right_free}
        terms = ["".join(names["left", i] for i in range(left_rank))]
        terms += ["".join(names["right", j] for j in range(right_rank))]
        result = [names["left", i] for i in (*left_batch, *left_free)]
        result += [names["right", j] for j in right_free]
        product = graph.add("Einsum", left, right, equation=f"{','.join(terms)}->{''.join(result)}")
    dtype = equation.outvars[0].aval.dtype
    return [product if dtype == equation.invars[0].aval.dtype else graph.cast(product, dtype)]


def convolution(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`conv_general_dilated`, not transposed."""
    params = equation.params
    if any(step != 1 for step in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NotImplementedError("conv_general_dilated of a dilated input, or in groups of the batch.")
    numbers = params["dimension_numbers"]
    before, after = zip(*params["padding"], strict=True)
    result = graph.add(
        "Conv",
        graph.transpose(inputs[0], numbers.lhs_spec),
        graph.transpose(inputs[1], numbers.rhs_spec),
        pads=[int(size) for size in (*before, *after)],
        strides=[int(step) for step in params["window_strides"]],
        dilations=[int(step) for step in params["rhs_dilation"]],
        group=params["feature_group_count"],
    )
    return [graph.transpose(result, np.argsort(numbers.out_spec).tolist())]


def loop(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """`while`: a Loop without a number of rounds."""
    params, helper = equation.params, graph.onnx.helper
    condition, body = params["cond_jaxpr"], params["body_jaxpr"]
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    for_condition, for_body, state = inputs[:first], inputs[first:second], inputs[second:]

    def goes_on(graph: Graph, state: Sequence[Value]) -> Value:
        return graph.walk(condition.jaxpr, condition.consts, [*for_condition, *state])[0]

    def described(name: str, dtype: Any, shape: Sequence[Any]) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, [size if is_known(size) else None for size in shape])

    inner, avals = graph.inner(), [variable.aval for variable in equation.outvars]
    number, going, *now = (graph.new_name() for _ in (None, None, *state))
    after = inner.walk(body.jaxpr, body.consts, [*for_body, *now])
    # An output of a body is made by a node of the body, and is no input of it.
    still, *then = (inner.add("Identity", value) for value in (goes_on(inner, after), *after))
    before_round, after_round = (
        [described(name, aval.dtype, aval.shape) for name, aval in zip(names, avals, strict=True)]
        for names in (now, then)
    )
    body_graph = helper.make_graph(
        inner.nodes,
        graph.new_name(),
        [described(number, np.int64, ()), described(going, np.bool_, ()), *before_round],
        [described(still, np.bool_, ()), *after_round],
    )
    found = [graph.new_name() for _ in state]
    graph.add_node("Loop", ["", goes_on(graph, state), *state], found, body=body_graph)
    return [*found]


RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, same),
    **dict.fromkeys((*REDUCED, *TRUTH_REDUCED), reduce),
    "argmax": argmax,
    "broadcast_in_dim": broadcast_in_dim,
    "clamp": clamp,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "convert_element_type": convert,
    "dim_as_value": dim_as_value,
    "dot_general": dot_general,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "erfc": erfc,
    "gather": gather,
    "integer_pow": integer_pow,
    "is_finite": is_finite,
    "ne": not_equal,
    "pad": pad,
    "reshape": reshape,
    "rsqrt": rsqrt,
    "select_n": select_n,
    "slice": cut,
    "square": square,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
    "while": loop,
}
"""Rules by primitive."""
