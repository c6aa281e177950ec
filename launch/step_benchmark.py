"""How fast the steps of training and of prediction are, on inputs that lie on the device already."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from launch.chips import STATED_PEAKS
from launch.measurement import Measurement
from launch.precompile_job import train_settings
from launch.precompile_report import read_memory
from launch.step_program import StepProgram, model_flops, predict_program, train_program
from richhf.data.datasets import DatasetConfig
from richhf.models import RichFeedbackModel
from richhf.models.batch_spec import LABELS, batch_spec
from richhf.training.partitioning import Partitioner
from richhf.training.programs import make_key


def train_step(
    *,
    model: RichFeedbackModel,
    dataset_cfg: DatasetConfig,
    partitioner: Partitioner | None = None,
    num_steps: int = 5,
) -> list[Measurement]:
    """Measures the step of training, with the settings that gin gives `training.train`.

    Args:
      model: what is trained.
      dataset_cfg: says batch size and lengths; no data is read.
      partitioner: where arrays live; None splits batches over all devices.
      num_steps: how many steps to time, after one that is not timed.

    Raises:
      ValueError: settings that cannot work, before anything is compiled.
    """
    partitioner, settings = partitioner or Partitioner(), train_settings()
    batch = batch_spec(model.config, dataset_cfg.task_feature_lengths, dataset_cfg.batch_size, LABELS)
    partitioner.check_batch_size(dataset_cfg.batch_size, settings["num_microbatches"])
    program = train_program(model, batch, partitioner, settings)
    placed = partitioner.place_whole(random_batch(batch, model.config.t5.vocab_size))
    key = make_key(partitioner, 0)
    state = program.init(key, None)

    def advance(compiled: Any) -> Any:
        nonlocal state
        state, metrics = compiled(state, placed, key)
        return metrics

    name = f"training step, batch of {dataset_cfg.batch_size}"
    seconds, compiled = _time(name, program, advance, num_steps)
    flops = model_flops(model, batch, train=True)
    return [_measurement(name, program, compiled, seconds, flops, model, partitioner)]


def predict_step(
    *,
    model: RichFeedbackModel,
    dataset_cfg: DatasetConfig,
    partitioner: Partitioner | None = None,
    num_steps: int = 5,
) -> list[Measurement]:
    """Measures the prediction of everything; arguments and errors as for `train_step`."""
    partitioner = partitioner or Partitioner()
    batch = batch_spec(model.config, dataset_cfg.task_feature_lengths, dataset_cfg.batch_size, ())
    partitioner.check_batch_size(dataset_cfg.batch_size, setting="EVAL_BATCH_SIZE")
    program = predict_program(model, batch, partitioner)
    placed = partitioner.place_whole(random_batch(batch, model.config.t5.vocab_size))
    params = program.init(make_key(partitioner, 0), None).params
    name = f"prediction, batch of {dataset_cfg.batch_size}"

    def predict(compiled: Any) -> Any:
        return compiled(params, placed)

    seconds, compiled = _time(name, program, predict, num_steps)
    flops = model_flops(model, batch, train=False)
    return [_measurement(name, program, compiled, seconds, flops, model, partitioner)]


def random_batch(spec: Mapping[str, jax.ShapeDtypeStruct], vocab_size: int) -> dict[str, np.ndarray]:
    """Arrays like spec: pixels and tokens drawn at random, numbers in [0, 1]."""
    rng = np.random.default_rng(0)

    def draw(x: jax.ShapeDtypeStruct) -> np.ndarray:
        if jnp.issubdtype(x.dtype, jnp.floating):
            return rng.random(x.shape).astype(x.dtype)
        return rng.integers(0, 256 if x.dtype == jnp.uint8 else vocab_size, x.shape).astype(x.dtype)

    return {name: draw(x) for name, x in spec.items()}


@functools.cache
def product_rate(dtype: str, side: int) -> float:
    """FLOPs a second of one device in a product of square matrices."""
    x = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.dot)
    product(x, x).block_until_ready()
    return 2.0 * side**3 / min(_seconds(lambda: product(x, x), 3))


def _time(
    name: str, program: StepProgram, run: Callable[[Any], Any], num_steps: int
) -> tuple[float, jax.stages.Compiled]:
    """The median of the steps' seconds, and the compiled program."""
    if num_steps < 1:
        raise ValueError(f"NUM_STEPS is {num_steps}; expected at least 1.")
    print(f"\n{name}: compiling ...", flush=True)
    begin = time.perf_counter()
    compiled = program.compile()
    print(f"{name}: compiled in {time.perf_counter() - begin:.0f} s", flush=True)
    jax.block_until_ready(run(compiled))
    seconds = _seconds(lambda: run(compiled), num_steps)
    median = float(np.median(seconds))
    print(
        f"{name}: {median:.4g} s (median of {num_steps}; {min(seconds):.4g} to {max(seconds):.4g})",
        flush=True,
    )
    return median, compiled


def _measurement(
    name: str,
    program: StepProgram,
    compiled: jax.stages.Compiled,
    seconds: float,
    flops: float,
    model: RichFeedbackModel,
    partitioner: Partitioner,
) -> Measurement:
    devices = partitioner.mesh.devices
    device = devices.flat[0]
    rate, peak = flops / seconds / devices.size, STATED_PEAKS.get(device.device_kind)
    product = product_rate(model.config.dtype, 2048 if device.platform == "cpu" else 8192)
    # The compiler's plan: what an allocator has seen at its peak is of all that ran before, too.
    memory = read_memory(compiled, program).total
    images = program.inputs[0]["image"].shape[0]
    return Measurement(
        name, images / seconds, flops / seconds, rate / product, rate / peak if peak else None, memory
    )


def _seconds(run: Callable[[], Any], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    return seconds
