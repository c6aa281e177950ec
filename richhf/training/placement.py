"""What a placed tree costs each device, by group: for reports before anything is allocated."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding

WHOLE = "whole"


@dataclasses.dataclass(frozen=True)
class Placement:
    """A group of arrays and where they live.

    Attributes:
      name: of the group, the first key of its arrays' paths.
      size: number of elements.
      total: bytes of one copy.
      per_device: bytes on each device.
      splits: share of `total` by how it is split: mesh axes (`fsdp`, `fsdp+model`) or `whole`.
    """

    name: str
    size: int
    total: int
    per_device: int
    splits: Mapping[str, float]


def placements(tree: Mapping[str, Any]) -> list[Placement]:
    """The groups of a tree, in its order.

    Args:
      tree: by name, trees of jax.ShapeDtypeStruct with NamedShardings (or of such arrays).
    """
    return [_placement(name, jax.tree.leaves(group)) for name, group in tree.items()]


def device_bytes(tree: Any) -> int:
    """Bytes that a placed tree takes on each device."""
    return sum(_on_device(leaf) for leaf in jax.tree.leaves(tree))


def _placement(name: str, leaves: list[Any]) -> Placement:
    splits: dict[str, float] = {}
    total = sum(_bytes(leaf.shape, leaf.dtype) for leaf in leaves)
    for leaf in leaves:
        split = _split(leaf.sharding)
        splits[split] = splits.get(split, 0.0) + _bytes(leaf.shape, leaf.dtype) / total
    by_share = dict(sorted(splits.items(), key=lambda item: -item[1]))
    size = sum(math.prod(leaf.shape) for leaf in leaves)
    return Placement(name, size, total, sum(map(_on_device, leaves)), by_share)


def _split(sharding: NamedSharding) -> str:
    axes = [axis for part in sharding.spec if part for axis in (part if isinstance(part, tuple) else (part,))]
    return "+".join(axis for axis in axes if sharding.mesh.shape[axis] > 1) or WHOLE


def _on_device(leaf: Any) -> int:
    return _bytes(leaf.sharding.shard_shape(leaf.shape), leaf.dtype)


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * dtype.itemsize
