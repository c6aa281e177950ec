"""What becomes of each of JAX's primitives in ONNX (operator set 18), as far as the models use them.

A rule takes the graph, the equation and its inputs, one of them at least not known, and gives the outputs.
"""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from richhf.inference.onnx_graph import Graph, Rule, Value, integers, is_known
from richhf.inference.onnx_shapes import SHAPE_RULES

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
    **SHAPE_RULES,
    **dict.fromkeys(SAME, same),
    **dict.fromkeys((*REDUCED, *TRUTH_REDUCED), reduce),
    "argmax": argmax,
    "clamp": clamp,
    "conv_general_dilated": convolution,
    "convert_element_type": convert,
    "dot_general": dot_general,
    "erfc": erfc,
    "integer_pow": integer_pow,
    "is_finite": is_finite,
    "ne": not_equal,
    "rsqrt": rsqrt,
    "select_n": select_n,
    "square": square,
    "while": loop,
}
"""Rules by primitive."""
