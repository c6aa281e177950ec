"""Stacks of equal layers: run one by one or by a scan, recomputed in the backward pass if wanted.

By a scan the compiler sees one layer instead of twelve, and the parameters of all layers are one array each,
with a leading axis `layers`. The function computed is the same.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from richhf.models.choices import ANY

LAYERS_AXIS = "layers"
STACKED = ("blocks", "layers")
"""Modules whose parameters a scan stacks; one by one they are `block_0`, `layers_0` and so on."""

LayerFunction = Callable[[Any, Any, Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class StackOptions:
    """How the layers of a stack are run.

    Attributes:
        remat: keeps only the input of each layer for the backward pass and computes the rest again.
        scan: runs the layers by a scan over stacked parameters.
        optimize_for: what their attention is optimized for (`choices.PROCESSORS`).
    """

    remat: bool = False
    scan: bool = False
    optimize_for: str = ANY


def make_layers(make: Callable[[int], nn.Module], depth: int, options: StackOptions) -> Any:
    """Makes what `run_layers` runs: a list of modules, or, for a scan, the one that stands for all."""
    return make(0) if options.scan else [make(i) for i in range(depth)]


def run_layers(
    layers: Any, function: LayerFunction, x: Any, entries: Any = None, *, depth: int, options: StackOptions
) -> tuple[Any, Any]:
    """Runs something through the layers of a stack.

    Args:
        layers: from `make_layers`.
        function: (layer, x, entry) to (x, kept); `kept` may be None.
        x: what runs through.
        entries: what each layer is given besides, as an earlier call has kept it; None for nothing.
        depth: number of layers.
        options: how to run them.

    Returns:
        x after the last layer, and what each layer kept: a tuple with an entry a layer, or, of a scan,
        arrays with a leading axis of layers.
    """
    if options.remat:
        # Inside a scan nothing can merge the second computation with the first.
        function = nn.remat(function, prevent_cse=not options.scan)
    if options.scan:
        scan = nn.scan(
            function,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=depth,
            metadata_params={nn.PARTITION_NAME: LAYERS_AXIS},
        )
        return scan(layers, x, entries)
    kept = []
    for i, layer in enumerate(layers):
        x, own = function(layer, x, None if entries is None else entries[i])
        kept.append(own)
    return x, tuple(kept)


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of layers run one by one, as a scan takes them: `block_0`, ... become `blocks`."""
    result: dict[str, Any] = {}
    stacks: dict[str, dict[int, Any]] = {}
    for name, tree in params.items():
        if match := re.fullmatch(r"(block|layers)_(\d+)", name):
            stacks.setdefault({"block": "blocks"}.get(match[1], match[1]), {})[int(match[2])] = tree
        else:
            result[name] = stack_layers(tree) if isinstance(tree, Mapping) else tree
    for name, layers in stacks.items():
        result[name] = jax.tree.map(lambda *x: jnp.stack(x), *(layers[i] for i in range(len(layers))))
    return result


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """The way back of `stack_layers`."""
    result: dict[str, Any] = {}
    for name, tree in params.items():
        if name in STACKED:
            one = {"blocks": "block"}.get(name, name)
            for i in range(jax.tree.leaves(tree)[0].shape[0]):
                result[f"{one}_{i}"] = jax.tree.map(lambda x, i=i: x[i], tree)
        else:
            result[name] = unstack_layers(tree) if isinstance(tree, Mapping) else tree
    return result
