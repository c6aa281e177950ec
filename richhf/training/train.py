"""The training loop: restore or start, then step, log, evaluate, save, until total_steps or a signal."""

import contextlib
import difflib
import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from richhf.training.checkpoints import Checkpoints
from richhf.training.example_log import ExampleLog
from richhf.training.interruption import Interrupted, SignalWatch
from richhf.training.metrics_window import MetricsWindow
from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import Partitioner
from richhf.training.programs import Model, compile_copy, compile_eval, compile_step, initializer, make_key
from richhf.training.retention import Best
from richhf.training.run_log import Progress, RunLog
from richhf.training.saved_params import has_checkpoints, load_initial_params
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
    keep_best: int = 0,
    best_metric: str = "eval/dev/loss",
    best_mode: str = "min",
    max_nonfinite_steps: int = 10,
    log_examples: bool = False,
    num_microbatches: int = 1,
    ema_decay: float = 0.0,
    seed: int = 0,
    initial_checkpoint_path: str | None = None,
    read_initial: Callable[[Any], Any] | None = None,
    image_panels: Callable[[Any, int], Mapping[str, np.ndarray]] | None = None,
    on_ready: Callable[[], Mapping[str, str] | None] | None = None,
) -> TrainState:
    """Trains model, or goes on where model_dir's latest checkpoint is.

    Run again after an interruption, it ends in the same parameters, bit by bit, as a run that was never
    interrupted.

    Args:
      model: see `Model`.
      train_iterator: clu's DatasetIterator: `next`, `element_spec`, `save(filename)`, `restore(filename)`;
        batches of one shape, this process's part (`Partitioner.share`); perhaps `filenames`, the ids of the
        last one's examples.
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
      keep_best: besides these the best so many, by the evaluation of their step.
      best_metric: what is best, by its name in the log.
      best_mode: `min` where less of it is better, `max` where more is.
      max_nonfinite_steps: a step whose loss or gradient is not finite is not applied; after so many in a row
        training ends.
      log_examples: whether to write which examples each step takes (`richhf.training.example_log`).
      num_microbatches: accumulate the gradient over so many slices of a batch.
      ema_decay: decay of the moving average of parameters that is evaluated; 0 keeps none.
      seed: of the initial parameters and of dropout.
      initial_checkpoint_path: start from this run's parameters instead of random ones (not when going on).
      read_initial: reads it, where it is no checkpoint of `train`; see `load_initial_params`.
      image_panels: (parameters, whole and on one device, step) to images [n h w c] by name, for TensorBoard,
        at each evaluation; called in the first process only.
      on_ready: called once when all settings have proved to fit and the state is there, before the first
        step; not if the run is at total_steps already. It may give text by file name, which each checkpoint
        then keeps in its folder `run`.

    Returns:
      The last state.

    Raises:
      ValueError: settings that cannot work, before anything is allocated.
      FloatingPointError: too many steps in a row were not finite; with the step, its examples and what of
        the loss was not.
      OSError: a checkpoint could not be written; said when the next one is due, or at the end.
      Interrupted: SIGINT or SIGTERM, after a checkpoint of the present step was saved.
    """
    partitioner = partitioner or Partitioner()
    shapes, types = _batch_spec(train_iterator)
    batch_size = next(iter(shapes.values()))[0] * partitioner.share[1]
    _check_settings(
        ema_decay,
        {
            "total_steps (TRAIN_STEPS)": (total_steps, 1),
            "log_period": (log_period, 1),
            "checkpoint_period (CHECKPOINT_PERIOD)": (checkpoint_period, 1),
            "eval_period (EVAL_PERIOD)": (eval_period, 0),
            "keep_checkpoints (KEEP_CHECKPOINTS)": (keep_checkpoints, 1),
            "keep_best (KEEP_BEST)": (keep_best, 0),
            "max_nonfinite_steps (MAX_NONFINITE_STEPS)": (max_nonfinite_steps, 1),
        },
    )
    best = Best(keep_best, best_metric, best_mode)
    if log_examples and not hasattr(train_iterator, "filenames"):
        raise ValueError("log_examples is on, but the input does not say which examples a batch has.")
    partitioner.check_batch_size(batch_size, num_microbatches)
    shapes = {name: (batch_size, *shape[1:]) for name, shape in shapes.items()}

    init, target = initializer(model, optimizer, partitioner, shapes, types, ema_decay)
    eval_fn = compile_eval(model, partitioner, target.params)
    if keep_best:
        _check_best(best, eval_fn, target.params, eval_batches or {}, checkpoint_period, eval_period)
    params = None
    if initial_checkpoint_path and not has_checkpoints(model_dir):
        params = load_initial_params(initial_checkpoint_path, target.params, read_initial)
    Path(model_dir).mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(model_dir, keep=keep_checkpoints, best=best)
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
    copy = compile_copy(partitioner)
    rng = make_key(partitioner, seed, 1)
    window = MetricsWindow(
        batch_size, log.seconds_before, max_nonfinite_steps=max_nonfinite_steps, note=progress.note
    )

    files = (on_ready() if on_ready and primary else None) or {}
    examples = ExampleLog(model_dir, start_step=start) if log_examples else None

    with SignalWatch() as signals, contextlib.ExitStack() as stack:
        stack.callback(log.close)
        if examples:
            stack.callback(examples.close)
        stack.enter_context(checkpoints)
        for step in range(start + 1, total_steps + 1):
            batch = partitioner.shard_batch(next(train_iterator))
            taken = getattr(train_iterator, "filenames", ())
            if examples:
                examples.add(step, taken)
            state, metrics = step_fn(state, batch, rng)
            window.add(step, metrics, taken)
            last = step == total_steps
            if last or step % log_period == 0:
                log.scalars(step, window.summary())
            if window.loss is not None:
                progress.update(step, window.loss, window.rate)
            values: dict[str, float] = {}
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
                    checkpoints.save(state, train_iterator, metrics=values, files=files)
            if stop:
                break
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


def _check_settings(ema_decay: float, least: Mapping[str, tuple[Any, int]]) -> None:
    for name, (value, low) in least.items():
        if not isinstance(value, int) or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay must be in [0, 1), got {ema_decay}; 0 turns the moving average off.")


def _check_best(
    best: Best,
    eval_fn: Callable[[Any, Any], Mapping[str, Any]],
    params: Any,
    eval_batches: Mapping[str, EvalBatches],
    checkpoint_period: int,
    eval_period: int,
) -> None:
    """Raises ValueError unless the evaluation at each checkpoint will give the metric."""
    if not eval_batches or not eval_period or checkpoint_period % eval_period:
        raise ValueError(
            f"KEEP_BEST is {best.count}, which needs an evaluation at each checkpoint, but CHECKPOINT_PERIOD "
            f"is {checkpoint_period} and EVAL_PERIOD {eval_period}"
            f"{'' if eval_batches else ', with nothing to evaluate on'}: make it a multiple, or KEEP_BEST 0."
        )
    known: list[str] = []
    for name, batches in eval_batches.items():
        batch, _ = next(iter(batches()))
        known += [f"eval/{name}/{key}" for key in jax.eval_shape(eval_fn, params, dict(batch))]
    if best.metric not in known:
        near = difflib.get_close_matches(best.metric, known, n=1)
        raise ValueError(
            f"BEST_METRIC is {best.metric!r}, which the evaluation does not give."
            f"{f' Did you mean {near[0]!r}?' if near else ''} It gives {', '.join(known)}."
        )
