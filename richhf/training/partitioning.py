"""Where arrays live: a device mesh, a table from logical axis names to mesh axes, and shardings of both.

Parameters carry logical axis names (flax linen's `with_logical_partitioning`); the optimizer's state
follows its parameters; batches are split over `data` and `fsdp`.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped

MESH_AXES = ("data", "fsdp", "model")
BATCH_AXES = ("data", "fsdp")

# Logical axis -> mesh axis (or axes), or None for an axis that is never split. Earlier rules choose first.
# Parameters are split along `embed` and gathered to be computed with; activations never are.
DEFAULT_RULES = (
    ("batch", BATCH_AXES),
    ("vocab", "model"),
    ("mlp", "model"),
    ("heads", "model"),
    ("joined_kv", "model"),
    ("conv_out", "model"),
    ("embed", "fsdp"),
    ("conv_in", "fsdp"),
    ("kv", None),
    ("patch", None),
    ("position", None),
    ("relpos_buckets", None),
    ("layers", None),
    ("length", None),
    ("height", None),
    ("width", None),
    ("activation_embed", None),
)


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """Devices as a mesh of data x fsdp x model, and the rules that place arrays on it.

    Attributes:
      data: devices that hold whole copies and split the batch; -1 takes all that the other two leave.
      fsdp: devices that split the batch and the parameters' `embed` axis; -1, with a given `data`, takes all
        that the other two leave.
      model: devices that split heads, MLPs and the vocabulary.
      rules: logical axis name, of parameters and activations, to mesh axis, axes or None; see DEFAULT_RULES.
        An array's axis that its mesh axis does not divide stays whole.
      num_devices: use only the first so many devices; None takes all.
      devices: what to build the mesh of; None takes JAX's.
    """

    data: int = -1
    fsdp: int = 1
    model: int = 1
    rules: tuple[tuple[str, str | tuple[str, ...] | None], ...] = DEFAULT_RULES
    num_devices: int | None = None
    devices: Sequence[Any] | None = None

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The device mesh.

        Raises:
          ValueError: the sizes do not multiply to the number of devices.
        """
        devices = list(jax.devices() if self.devices is None else self.devices)[: self.num_devices]
        data, fsdp = self.data, self.fsdp
        if data == -1:
            data = max(1, len(devices) // (fsdp * self.model))
        elif fsdp == -1:
            fsdp = max(1, len(devices) // (data * self.model))
        if data * fsdp * self.model != len(devices):
            raise ValueError(
                f"a mesh of data={self.data} x fsdp={self.fsdp} x model={self.model} does not fit "
                f"{len(devices)} device(s): the product must be {len(devices)}; data=-1 or fsdp=-1 takes "
                "what the other two leave."
            )
        grid = np.asarray(devices).reshape(data, fsdp, self.model)
        return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))

    @property
    def num_batch_shards(self) -> int:
        """How many parts a batch is split into."""
        return math.prod(self.mesh.shape[axis] for axis in BATCH_AXES)

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_sharding(self) -> NamedSharding:
        """The sharding of a batch: its first axis split."""
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    @functools.cached_property
    def share(self) -> tuple[int, int]:
        """Which part of every batch this process gives, and how many parts there are.

        Processes whose devices hold the same rows, as a `model` axis over several of them makes it, give the
        same part.

        Raises:
          ValueError: see `batch_parts`; or this process has no device in the mesh.
        """
        process = np.vectorize(lambda device: device.process_index, otypes=[int])(self.mesh.devices)
        parts = batch_parts(process.reshape(self.num_batch_shards, -1))
        if jax.process_index() not in parts:
            raise ValueError(
                f"process {jax.process_index()} has no device in a mesh of {self.mesh.size}: with several "
                "processes leave Partitioner.num_devices at None."
            )
        return parts[jax.process_index()]

    def check_batch_size(
        self, batch_size: int, num_microbatches: int = 1, *, setting: str = "BATCH_SIZE"
    ) -> None:
        """Raises ValueError unless devices and microbatches divide the (global) batch size of a setting."""
        unit = self.num_batch_shards * num_microbatches
        if num_microbatches < 1 or batch_size < 1 or batch_size % unit:
            near = max(unit, round(batch_size / unit) * unit) if unit > 0 else 1
            raise ValueError(
                f"{setting}: a batch of {batch_size} examples cannot be split over {self.num_batch_shards} "
                f"device(s) x {num_microbatches} microbatch(es): it must be a multiple of {unit}, such as "
                f"{near}."
                + (" Or take fewer microbatches (NUM_MICROBATCHES)." if num_microbatches > 1 else "")
            )

    def shard_batch(
        self, batch: Mapping[str, Shaped[np.ndarray, "b ..."]]
    ) -> dict[str, Shaped[Array, "b ..."]]:
        """Places this process's part of a batch (see `share`) on its devices.

        A batch that the devices do not divide (the last one of an evaluation) is given whole to every device.
        """
        rows = {x.shape[0] for x in batch.values()}
        parts = self.share[1]
        if all(n * parts % self.num_batch_shards == 0 for n in rows):
            sharding = self.batch_sharding
        else:
            sharding, parts = self.replicated, 1
        return {
            name: jax.make_array_from_process_local_data(sharding, x, (len(x) * parts, *x.shape[1:]))
            for name, x in batch.items()
        }

    def place_whole(
        self, batch: Mapping[str, Shaped[np.ndarray, "b ..."]]
    ) -> dict[str, Shaped[Array, "b ..."]]:
        """Splits a batch that each process has whole, row by row in its order."""
        return {
            name: jax.make_array_from_callback(x.shape, self.batch_sharding, x.__getitem__)
            for name, x in batch.items()
        }

    @contextlib.contextmanager
    def activations(self) -> Iterator[None]:
        """A context in which a model's activations are split by the rules, while a program is traced."""
        with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh), nn.logical_axis_rules(self.rules):
            yield

    def param_shardings(self, boxed_params: Any) -> Any:
        """The shardings of parameters: a tree of NamedSharding.

        Args:
          boxed_params: parameters or their shapes, in flax's boxes with logical axis names; an unboxed one is
            replicated.
        """
        names = nn.get_partition_spec(boxed_params)
        return jax.tree.map(
            lambda spec, x: self.sharding(tuple(spec or ()), x.shape),
            names,
            nn.meta.unbox(boxed_params),
            is_leaf=lambda x: x is None or isinstance(x, PartitionSpec),
        )

    def sharding(self, names: tuple[str | None, ...], shape: tuple[int, ...]) -> NamedSharding:
        """The sharding of one array.

        Args:
          names: a logical name for each axis; empty for a replicated array.
          shape: the array's shape.

        Raises:
          ValueError: a name that no rule knows.
        """
        known = [name for name, _ in self.rules]
        for name in names:
            if name is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"no partitioning rule for the logical axis {name!r} of an array of shape {shape}.{hint} "
                    f"Known: {', '.join(known)}; add ({name!r}, None) to Partitioner.rules to keep it whole."
                )
        spec: list[str | tuple[str, ...] | None] = [None] * len(names)
        taken: set[str] = set()
        for logical, axes in self.rules:
            parts = {axes} if isinstance(axes, str) else {*(axes or ())}
            devices = math.prod(self.mesh.shape[part] for part in parts)
            for i, name in enumerate(names):
                if name == logical and not parts & taken and shape[i] % devices == 0:
                    spec[i], taken = axes, taken | parts
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def gather(self, params: Any, shardings: Any) -> Any:
        """Parameters for computing with: whole along `fsdp`, split along `model` as they are stored.

        Activations are then split along the batch and not along `embed`, as fully sharded data parallelism
        means it. Left to itself XLA (jaxlib 0.10.2) does split them there on a data x fsdp x model mesh,
        and gradients of the ViT come out wrong.

        Args:
          params: parameters, inside a jitted function.
          shardings: as they are stored.
        """

        def whole(x, stored):
            # Said of `x` too, so that its gradient is summed into the part that each device stores.
            x = jax.lax.with_sharding_constraint(x, stored)
            spec = (None if axis == "fsdp" else axis for axis in stored.spec)
            return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(*spec)))

        return jax.tree.map(whole, params, shardings)

    def like_params(self, tree: Any, params: Any, shardings: Any) -> Any:
        """The shardings of anything that mirrors parameters: the optimizer's state, a moving average.

        A leaf belongs to the parameter at the end of its path. Of the same shape, it is sharded as that
        parameter is; Adafactor's `v_row` and `v_col` take its sharding without the axis that was averaged;
        all else is replicated.

        Args:
          tree: arrays or their shapes.
          params: the parameters or their shapes.
          shardings: their shardings.
        """
        flat_params = dict(jax.tree_util.tree_flatten_with_path(params)[0])
        flat_shardings = dict(jax.tree_util.tree_flatten_with_path(shardings)[0])

        def place(path, leaf):
            start = next((i for i in range(len(path)) if path[i:] in flat_params), None)
            if start is None:
                return self.replicated
            shape, sharding = flat_params[path[start:]].shape, flat_shardings[path[start:]]
            if leaf.shape == shape:
                return sharding
            fields = {getattr(key, "name", None) for key in path[:start]}
            for field, rank in (("v_row", -1), ("v_col", -2)):
                if field in fields and len(leaf.shape) == len(shape) - 1:
                    averaged = int(np.argsort(shape)[rank])
                    spec = [*sharding.spec, *[None] * (len(shape) - len(sharding.spec))]
                    return NamedSharding(self.mesh, PartitionSpec(*spec[:averaged], *spec[averaged + 1 :]))
            return self.replicated

        return jax.tree_util.tree_map_with_path(place, tree)


def batch_parts(processes: Int[np.ndarray, "shards devices"]) -> dict[int, tuple[int, int]]:
    """By process, the part of a batch that it gives and the number of parts.

    Args:
      processes: of each shard of the batch the processes whose devices hold it.

    Raises:
      ValueError: processes share some of their rows, but not all.
    """
    held = {
        int(one): tuple(map(int, np.flatnonzero((processes == one).any(axis=1))))
        for one in np.unique(processes)
    }
    parts = sorted(set(held.values()))
    # Equal parts that cover each shard once, in one piece each.
    size = len(parts[0])
    if parts != [tuple(range(start, start + size)) for start in range(0, len(processes), size)]:
        raise ValueError(
            f"processes hold these shards of a batch: {held}; expected that two hold the same ones or none "
            "in common. Choose Partitioner.model so that it divides, or is a multiple of, the number of "
            "devices of a process."
        )
    return {process: (parts.index(rows), len(parts)) for process, rows in held.items()}
