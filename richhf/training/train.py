"""The training loop: restore or start, then step, log, evaluate, save, until total_steps or a signal."""

import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from richhf.training.checkpoints import Checkpoints, has_checkpoints, load_initial_params
from richhf.training.interruption import Interrupted, SignalWatch
from richhf.training.metrics_window import MetricsWindow
from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import Partitioner
from richhf.training.programs import Model, compile_copy, compile_eval, compile_step, initializer, make_key
from richhf.training.run_log import Progress, RunLog
from richhf.training.train_state import TrainState

EvalBatches = Callable[[], Iterable[tuple[Mapping[str, np.ndarray], int]]]


def train(
    *,
    model: Model,
    train_iterator: Any,
    model_dir: str | os.PathLike,
    optimizer: Optimizer,
    total_steps: int,
    partitioner: Partitioner | None = None,
    eval_batches: Mapping[str, EvalBatches] | None = None,
    eval_period: int = 1000,
    log_period: int = 50,
    checkpoint_period: int = 1000,
    keep_checkpoints: int = 3,
    num_microbatches: int = 1,
    ema_decay: float = 0.0,
    seed: int = 0,
    initial_checkpoint_path: str | None = None,
    image_panels: Callable[[Any, int], Mapping[str, np.ndarray]] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> TrainState:
    """Trains model, or goes on where model_dir's latest checkpoint is.

    Run again after an interruption, it ends in the same parameters, bit by bit, as a run that was never
    interrupted.

    Args:
      model: see `Model`.
      train_iterator: clu's DatasetIterator: `next`, `element_spec`, `save(filename)`, `restore(filename)`;
        batches of one shape, this process's part.
      model_dir: gets `checkpoints/`, `train_log.jsonl` and TensorBoard events.
      optimizer: from `richhf.training.optimizers`.
      total_steps: the last step.
      partitioner: where arrays live; None splits batches over all devices.
      eval_batches: by name, a function that gives batches, each with its number of examples (the rest is
        padding); mean metrics are logged as `eval/<name>/<metric>`.
      eval_period: evaluate after each so many steps, and at the end; 0 never.
      log_period: log the mean over each so many steps.
      checkpoint_period: save after each so many steps, and at the end.
      keep_checkpoints: the latest so many stay.
      num_microbatches: accumulate the gradient over so many slices of a batch.
      ema_decay: decay of the moving average of parameters that is evaluated; 0 keeps none.
      seed: of the initial parameters and of dropout.
      initial_checkpoint_path: start from this run's parameters instead of random ones (not when going on).
      image_panels: (parameters, whole and on one device, step) to images [n h w c] by name, for TensorBoard,
        at each evaluation; called in the first process only.
      on_ready: called once when all settings have proved to fit and the state is there, before the first
        step; not if the run is at total_steps already.

    Returns:
      The last state.

    Raises:
      ValueError: settings that cannot work, before anything is allocated.
      FloatingPointError: a loss or gradient that is not finite, with the step and the loss's parts.
      Interrupted: SIGINT or SIGTERM, after a checkpoint of the present step was saved.
    """
    partitioner = partitioner or Partitioner()
    shapes, types = _batch_spec(train_iterator)
    batch_size = next(iter(shapes.values()))[0] * jax.process_count()
    _check_settings(total_steps, log_period, checkpoint_period, eval_period, ema_decay)
    partitioner.check_batch_size(batch_size, num_microbatches)
    shapes = {name: (batch_size, *shape[1:]) for name, shape in shapes.items()}

    init, target = initializer(model, optimizer, partitioner, shapes, types, ema_decay)
    params = None
    if initial_checkpoint_path and not has_checkpoints(model_dir):
        params = load_initial_params(initial_checkpoint_path, target.params)
    Path(model_dir).mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(model_dir, keep=keep_checkpoints)
    state = checkpoints.restore(target, train_iterator)
    if state is None:
        state = init(make_key(partitioner, seed), params)
    start = int(state.step)

    primary = jax.process_index() == 0
    progress = Progress(total_steps, quiet=not primary)
    if start >= total_steps:
        checkpoints.close()
        progress.note(f"{model_dir}: already at step {start} of {total_steps}; raise TRAIN_STEPS to go on")
        return state
    log = RunLog(model_dir, start_step=start, primary=primary)
    size = sum(math.prod(x.shape) for x in jax.tree.leaves(target.params))
    verb = f"going on from step {start}" if start else "starting"
    mesh = " x ".join(f"{axis}={n}" for axis, n in partitioner.mesh.shape.items())
    progress.note(f"{model_dir}: {verb}; {size / 1e6:.2f} M parameters; {mesh}; batch {batch_size}")
    progress.note("compiling the first step ...")

    step_fn = compile_step(model, optimizer, partitioner, target, num_microbatches, ema_decay)
    eval_fn = compile_eval(model, partitioner, target.params)
    copy = compile_copy(partitioner)
    rng = make_key(partitioner, seed, 1)
    window = MetricsWindow(batch_size, log.seconds_before)

    if on_ready and primary:
        on_ready()

    with SignalWatch() as signals:
        for step in range(start + 1, total_steps + 1):
            batch = partitioner.shard_batch(next(train_iterator))
            state, metrics = step_fn(state, batch, rng)
            window.add(step, metrics)
            last = step == total_steps
            if last or step % log_period == 0:
                log.scalars(step, window.summary())
            if window.loss is not None:
                progress.update(step, window.loss, window.rate)
            if eval_period and (last or step % eval_period == 0):
                with window.paused():
                    values = evaluate(eval_fn, state.eval_params, eval_batches or {}, partitioner)
                    if values:
                        log.scalars(step, values | {"seconds": window.seconds})
                        losses = {k.removeprefix("eval/"): v for k, v in values.items() if k.count("/") == 2}
                        progress.note(f"step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in losses.items()))
                    if image_panels:
                        whole = jax.tree.map(lambda x: x.addressable_data(0), copy(state.eval_params))
                        if primary:
                            log.images(step, image_panels(whole, step))
            stop = signals.ask_to_stop(step)
            if last or stop or step % checkpoint_period == 0:
                with window.paused():
                    window.flush()
                    checkpoints.save(state, train_iterator)
            if stop:
                break
    checkpoints.close()
    log.close()
    if int(state.step) < total_steps and signals.received is not None:
        name = signal.Signals(signals.received).name
        progress.note(
            f"{name}: saved step {int(state.step)} of {total_steps}; run the same command again to go on"
        )
        raise Interrupted(signals.received, int(state.step))
    return state


def evaluate(
    eval_fn: Callable[[Any, Any], Mapping[str, Any]],
    params: Any,
    eval_batches: Mapping[str, EvalBatches],
    partitioner: Partitioner,
) -> dict[str, float]:
    """The mean of eval_fn's metrics over each set of batches, by example, as `eval/<name>/<metric>`."""
    means: dict[str, float] = {}
    for name, batches in eval_batches.items():
        totals: dict[str, float] = {}
        count = 0
        for batch, rows in batches():
            metrics = jax.device_get(eval_fn(params, partitioner.shard_batch(batch)))
            count += rows
            for key, value in metrics.items():
                totals[key] = totals.get(key, 0.0) + rows * float(value)
        means |= {f"eval/{name}/{key}": total / count for key, total in totals.items()}
    return means


def _batch_spec(iterator: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    spec = iterator.element_spec
    return {k: tuple(v.shape) for k, v in spec.items()}, {k: v.dtype for k, v in spec.items()}


def _check_settings(total_steps, log_period, checkpoint_period, eval_period, ema_decay):
    for name, value, least in (
        ("total_steps", total_steps, 1),
        ("log_period", log_period, 1),
        ("checkpoint_period", checkpoint_period, 1),
        ("eval_period", eval_period, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay must be in [0, 1), got {ema_decay}; 0 turns the moving average off.")
