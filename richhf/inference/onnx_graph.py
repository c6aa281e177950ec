"""An ONNX graph in the making, and the walk through a jaxpr that fills it.

What depends on constants alone, weights among them, is computed at once; the rest becomes nodes, by the table
in `onnx_primitives.py`. One size may be open, that of the batch. A value is a numpy array, where it is known,
or else the name of a tensor.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

Value = np.ndarray | str
Rule = Callable[..., Sequence[Value]]
"""(graph, the equation, its inputs) to its outputs."""

INLINED = ("jaxpr", "call_jaxpr")
"""Parameters that hold what a call computes."""
_MULTIPLE = re.compile(r"(?:(\d+)\*)?[a-z]+")


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """Nodes, and what they share with the graphs of loops inside them.

    Attributes:
      onnx: the package.
      rules: what becomes of a primitive, by name.
      batch: name of an int64 tensor [1]: the size of the batch.
      nodes: in order.
      constants: arrays with their names, by identity.
      numbers: makes names.
    """

    onnx: Any
    rules: Mapping[str, Rule]
    batch: str
    nodes: list[Any] = dataclasses.field(default_factory=list)
    constants: dict[int, tuple[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def inner(self) -> "Graph":
        """A graph inside a node of this one; it sees all that is outside."""
        return dataclasses.replace(self, nodes=[])

    def add(self, operator: str, *inputs: Value, output: str = "", **attributes: Any) -> str:
        """Adds a node of one output, and returns the output's name."""
        output = output or self.new_name()
        self.add_node(operator, inputs, [output], **attributes)
        return output

    def add_node(
        self, operator: str, inputs: Sequence[Value], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Adds a node."""
        names = [self.name(value) for value in inputs]
        self.nodes.append(self.onnx.helper.make_node(operator, names, list(outputs), **attributes))

    def new_name(self) -> str:
        """A name that no other tensor has."""
        return f"v{next(self.numbers)}"

    def name(self, value: Value) -> str:
        """The name of a value; a known one becomes a constant of the model."""
        if isinstance(value, str):
            return value
        # The array is kept beside its name: while it lives, no other has its identity.
        return self.constants.setdefault(id(value), (f"c{len(self.constants)}", value))[0]

    def cast(self, value: Value, dtype: Any) -> Value:
        """A value in another dtype."""
        if isinstance(value, np.ndarray):
            return value.astype(dtype)
        return self.add("Cast", value, to=self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """A value with its axes in another order."""
        order = [int(axis) for axis in order]
        if order == sorted(order):
            return value
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value.transpose(order))
        return self.add("Transpose", value, perm=order)

    def shape(self, sizes: Sequence[Any]) -> Value:
        """Sizes as an int64 tensor; one may be the batch's or a multiple of it."""
        if all(is_known(size) for size in sizes):
            return integers(sizes)
        parts = [integers([size]) if is_known(size) else self.size(size) for size in sizes]
        return self.add("Concat", *parts, axis=0)

    def size(self, size: Any) -> Value:
        """A multiple of the batch's size as an int64 tensor [1]."""
        match = _MULTIPLE.fullmatch(str(size))
        if not match:
            raise NotImplementedError(f"the size {size}: only multiples of the batch's size are supported.")
        return self.add("Mul", self.batch, integers([match[1]])) if match[1] else self.batch

    def walk(self, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        """Adds what a jaxpr computes; returns its outputs.

        Raises:
          NotImplementedError: for a primitive without a rule.
        """
        known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
        known |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Value:
            literal = isinstance(variable, Literal)
            return np.asarray(variable.val, variable.aval.dtype) if literal else known[variable]

        for equation in jaxpr.eqns:
            found = self._apply(equation, [read(variable) for variable in equation.invars])
            known |= dict(zip(equation.outvars, found, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _apply(self, equation: Any, inputs: list[Value]) -> Sequence[Value]:
        name, params = equation.primitive.name, equation.params
        called = next((params[key] for key in INLINED if key in params), None)
        if called is not None:
            return self.walk(getattr(called, "jaxpr", called), getattr(called, "consts", ()), inputs)
        sizes = [size for variable in equation.outvars for size in variable.aval.shape]
        known = all(isinstance(value, np.ndarray) for value in inputs) and all(map(is_known, sizes))
        if known and name != "dim_as_value":
            found = equation.primitive.bind(*inputs, **params)
            return [np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])]
        if name not in self.rules:
            raise NotImplementedError(f"the primitive {name}, of {equation.source_info.name_stack}.")
        return self.rules[name](self, equation, inputs)


def is_known(size: Any) -> bool:
    """Whether a size is a number, not the batch's."""
    return not jax.export.is_symbolic_dim(size)


def integers(values: Sequence[Any]) -> np.ndarray:
    """Whole numbers as ONNX takes sizes and axes: int64 [n]."""
    return np.asarray([int(value) for value in values], np.int64)
