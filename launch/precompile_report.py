"""The lines that `launch.precompile` prints."""

import dataclasses
from typing import Any

import jax

from launch.chips import GIB, Chip
from launch.step_program import StepProgram
from richhf.models import RAHFConfig, parameter_parts
from richhf.models.rahf import NO_REMAT
from richhf.training.partitioning import Partitioner
from richhf.training.placement import device_bytes, placements


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a chip's memory by use.

    Attributes:
      parameters: as stored.
      optimizer: its state.
      moving_average: of parameters.
      batch: this chip's part of it.
      outputs: results that take no place of an argument.
      temporaries: activations, gathered parameters, gradients.
      code: the program.
    """

    parameters: int
    optimizer: int
    moving_average: int
    batch: int
    outputs: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))


def read_memory(compiled: jax.stages.Compiled, program: StepProgram) -> Memory:
    """What a compiled step takes; the state's share is known from its placement."""
    found: Any = compiled.memory_analysis()
    state = program.state
    return Memory(
        parameters=device_bytes(state.params),
        optimizer=device_bytes(state.opt_state),
        moving_average=device_bytes(state.ema_params),
        batch=device_bytes(program.inputs[0]),
        outputs=found.output_size_in_bytes - found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
    )


def heading_lines(
    topology: str,
    chip: Chip,
    partitioner: Partitioner,
    step: str,
    microbatches: int,
    share: int,
    config: RAHFConfig,
) -> list[str]:
    """What is compiled for what; `share` is the images that a chip computes at a time."""
    shape = partitioner.mesh.shape
    mesh = " x ".join(f"{axis}={n}" for axis, n in shape.items())
    images = share * microbatches * partitioner.num_batch_shards
    split = f"{microbatches} microbatch(es) of {share} a chip" if microbatches > 1 else f"{share} a chip"
    how = f"{config.dtype}, remat {config.remat}, scan_layers {config.scan_layers}"
    return [
        f"{topology}: {partitioner.mesh.size} chip(s) of {format_bytes(chip.memory)}; mesh {mesh}",
        f"{step} step: {config.variant}, {images} images of {config.vit.image_size} px, {split}; {how}",
    ]


def parameter_lines(params: Any, partitioner: Partitioner) -> list[str]:
    """Number and placement of parameters by group."""
    rows = [("parameters", "number", "a chip", "split over")]
    for group in placements(parameter_parts(params)):
        splits = ", ".join(f"{split} {share:.1%}" for split, share in group.splits.items())
        rows.append((group.name, f"{group.size / 1e6:.2f} M", format_bytes(group.per_device), splits))
    size = sum(x.size for x in jax.tree.leaves(params))
    rows.append(("in all", f"{size / 1e6:.2f} M", format_bytes(device_bytes(params)), ""))
    return [
        "",
        *(f"  {name:<28}{number:>10}{there:>12}   {split}".rstrip() for name, number, there, split in rows),
    ]


def flops_lines(counted: float, asked: float, training: bool) -> list[str]:
    """The model's own count beside XLA's."""
    count = "the model's count, 3 x forward" if training else "the model's count"
    return [
        "",
        "  FLOPs a step, all chips",
        f"  {count:<50}{counted:>12.4g}",
        f"  {'XLA, loss and gradient, nothing computed again' if training else 'XLA':<50}{asked:>12.4g}",
        f"  {'ratio':<50}{asked / counted:>12.3f}",
    ]


def memory_lines(memory: Memory, chip: Chip, hints: str) -> list[str]:
    """Memory of a chip by use, and whether it fits."""
    names = {"temporaries": "activations, temporaries", "moving_average": "moving average"}
    lines = ["", "  memory of a chip"]
    for field, size in dataclasses.asdict(memory).items():
        lines.append(f"  {names.get(field, field):<28}{format_bytes(size):>12}")
    lines.append(f"  {'in all':<28}{format_bytes(memory.total):>12}  of {format_bytes(chip.memory)}")
    if memory.total <= chip.memory:
        return [*lines, "", f"fits: {memory.total / chip.memory:.0%} of a chip's memory"]
    return [*lines, "", f"does not fit: {format_bytes(memory.total)} of {format_bytes(chip.memory)}. {hints}"]


def estimate_lines(
    memory: Memory,
    chip: Chip,
    chips: int,
    asked: float,
    microbatches: int,
    again: bool,
) -> list[str]:
    """How long a step takes at least, by the chip's peak rates; `again`: the forward pass runs twice.

    Of memory traffic only what must be is counted: all that is held is written and read once, temporaries
    once a microbatch. What the compiler counts says less: it counts the body of a loop once.
    """
    if not chip.flops:
        return ["", f"no estimate of time: {chip.name} has no peak rates in the table"]
    operations = asked * (4 / 3 if again else 1)
    computing = operations / chips / chip.flops
    moved = 2 * (memory.total + (microbatches - 1) * memory.temporaries)
    moving = moved / chip.bandwidth
    return [
        "",
        f"  estimate, not a measurement: a step takes at least {max(computing, moving):.3g} s",
        f"  {computing:.3g} s for {operations / chips:.3g} FLOPs a chip at its peak of {chip.flops:.3g}/s"
        + (" (a third more than asked for: the forward pass again)" if again else ""),
        f"  {moving:.3g} s for {moved:.3g} bytes a chip, written and read once, at {chip.bandwidth:.3g}/s",
    ]


def advice(
    config: RAHFConfig, partitioner: Partitioner, microbatches: int, share: int, training: bool
) -> str:
    """What to change where a step does not fit."""
    shape = partitioner.mesh.shape
    hints = []
    if training and config.remat == NO_REMAT:
        hints.append("compute blocks again (REMAT='blocks')")
    if training and share > 1:
        hints.append(f"more microbatches (NUM_MICROBATCHES={microbatches * share})")
    if not training and share > 1:
        hints.append("a smaller BATCH_SIZE")
    if training and shape["data"] > 1:
        hints.append("split the parameters over all chips (Partitioner.data=1, Partitioner.fsdp=-1)")
    if training and share == 1 and shape["model"] == 1 and shape["fsdp"] > 1:
        hints.append("split heads and MLPs too (Partitioner.model=2)")
    return "Try " + "; ".join([*hints, "chips with more memory, or more of them"]) + "."


def format_bytes(size: int) -> str:
    """A size in GiB, or in MiB where it is small."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 100 else f"{size / 2**20:.2f} MiB"
