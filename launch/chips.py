"""Accelerators by name: what a chip has, and the devices of a slice of them that need not be there.

Sizes and speeds are those of the public documentation, cloud.google.com/tpu/docs (pages v4, v5e, v5p, v6e):
peak bfloat16 operations and bandwidth of the high-bandwidth memory.

Nothing here imports JAX before it must: `Topology.prepare` sets what JAX reads when it is imported.
"""

import dataclasses
import difflib
import math
import os
import re
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of accelerator.

    Attributes:
      name: as in a topology's name.
      memory: bytes.
      flops: peak bfloat16 operations per second; 0 if not known.
      bandwidth: bytes per second between chip and memory; 0 if not known.
      axes: number of axes of a slice.
      slices: some slices there are, for suggestions.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    axes: int
    slices: tuple[str, ...]


FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
CPU = "cpu"
CHIPS = {
    "v4": Chip("v4", 32 * GIB, 275e12, 1228e9, 3, CUBIC),
    "v5e": Chip("v5e", 16 * GIB, 197e12, 819e9, 2, FLAT),
    "v5p": Chip("v5p", 95 * GIB, 459e12, 2765e9, 3, CUBIC),
    "v6e": Chip("v6e", 32 * GIB, 918e12, 1640e9, 2, FLAT),
}


# Peak bfloat16 operations per second by JAX's `device_kind`; the GPUs' are dense, from NVIDIA's data sheets.
STATED_PEAKS = {
    "TPU v4": CHIPS["v4"].flops,
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v6 lite": CHIPS["v6e"].flops,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of chips.

    Attributes:
      name: as given, `v5e:4x4` or `cpu:8`.
      chip: the kind.
      shape: chips along each axis.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    def prepare(self) -> None:
        """Sets the environment; to be called before JAX is imported."""
        os.environ["JAX_PLATFORMS"] = CPU
        if self.chip.name == CPU:
            flag = f"--xla_force_host_platform_device_count={self.size}"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
        else:
            # libtpu would ask the network what machine this is, and keep out other processes: nothing runs.
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
            os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

    def devices(self) -> tuple[Any, ...]:
        """The devices: one a chip; TPUs to compile for, not to run on.

        Raises:
          ValueError: libtpu is not installed, or knows no such slice.
        """
        import jax
        from jax.experimental import topologies

        if self.chip.name == CPU:
            found = tuple(jax.devices(CPU)[: self.size])
            if len(found) < self.size:
                raise ValueError(
                    f"{self.name}: JAX has {len(found)} CPU device(s) already; start a new process, with "
                    f"XLA_FLAGS=--xla_force_host_platform_device_count={self.size} or none."
                )
            return found
        settings: dict[str, Any] = {}
        if self.chip.name == "v4":
            settings["chip_config_name"] = "megacore"  # one device a chip, as JAX has it on a v4
        if self.size == 1:
            settings["chips_per_host_bounds"] = (1, 1, 1)
        try:
            description = topologies.get_topology_desc(platform="tpu", topology_name=self.name, **settings)
        except Exception as error:
            if importable_libtpu():
                hint = _slices(self.chip, self.name) if "INVALID_ARGUMENT" in str(error) else ""
                raise ValueError(f"{self.name}: {_first_line(error)}{hint}") from error
            raise ValueError(
                f"{self.name} needs libtpu, which compiles for TPUs without one: pip install -e '.[tpu]' "
                f"(or use --topology=cpu:{self.size}, which compiles for {self.size} virtual CPU devices)."
            ) from error
        return tuple(description.devices)


def importable_libtpu() -> bool:
    """Whether libtpu is installed."""
    import importlib.util

    return importlib.util.find_spec("libtpu") is not None


def parse_topology(name: str) -> Topology:
    """`v5e:4x4` or `cpu:8` as a value.

    Raises:
      ValueError: a chip that is not known, or a shape that it does not come in; with the near miss.
    """
    kind, _, shape = name.partition(":")
    if kind == CPU:
        if not re.fullmatch(r"[1-9]\d*", shape):
            raise ValueError(f"--topology={name}: expected a number of virtual devices, such as cpu:8.")
        count = int(shape)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // count
        return Topology(name, Chip(CPU, memory, 0.0, 0.0, 1, ("8",)), (count,))
    if kind not in CHIPS:
        near = difflib.get_close_matches(kind.lower(), (*CHIPS, CPU), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0] + ':' + (shape or '4x4')!r}?" if near else ""
        raise ValueError(
            f"--topology={name}: there is no chip {kind!r}.{hint} Known: {', '.join(CHIPS)} with a shape, "
            "such as v5e:4x4 or v4:2x2x4, and cpu with a number, such as cpu:8."
        )
    chip = CHIPS[kind]
    if not re.fullmatch(r"[1-9]\d*" + r"x[1-9]\d*" * (chip.axes - 1), shape):
        raise ValueError(
            f"--topology={name}: {shape!r} is no shape of {chip.axes} axes.{_slices(chip, name)}"
        )
    return Topology(name, chip, tuple(int(n) for n in shape.split("x")))


def _slices(chip: Chip, name: str) -> str:
    near = difflib.get_close_matches(name.partition(":")[2], chip.slices, n=1, cutoff=0.3)
    hint = f" Did you mean '{chip.name}:{near[0]}'?" if near else ""
    return f"{hint} {chip.name} comes as {', '.join(chip.slices)} and larger."


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
