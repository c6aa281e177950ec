import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.training.optimizers import adamw
from richhf.training.train_state import TrainState, ema_rate
from richhf.training.train_step import accumulate_gradients, train_step


def totals_fn(batch):
    return {"weights": batch["weights"].sum()}


def loss_fn(params, batch, rng, totals):
    error = batch["x"] @ params["w"] - batch["y"]
    squared, absolute = (
        jnp.sum(batch["weights"] * x) / totals["weights"] for x in (error**2, jnp.abs(error))
    )
    return squared, {"absolute": absolute, "noise": jax.random.uniform(rng)}


FUNCTIONS = {"loss_fn": loss_fn, "totals_fn": totals_fn}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "x": jnp.asarray(rng.normal(size=(8, 3)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=8), jnp.float32),
        "weights": jnp.arange(8.0),
    }


@pytest.fixture
def params():
    return {"w": jnp.array([0.5, -1.0, 2.0])}


@pytest.mark.parametrize("num_microbatches", [2, 4, 8])
def test_microbatches_of_unequal_weights_give_the_batchs_gradient_and_metrics(
    batch, params, num_microbatches
):
    key = jax.random.key(0)
    whole, metrics = accumulate_gradients(loss_fn, totals_fn, params, batch, key, 1)
    parts, parts_metrics = accumulate_gradients(loss_fn, totals_fn, params, batch, key, num_microbatches)
    error = batch["weights"] * (batch["x"] @ params["w"] - batch["y"])
    expected = 2 * batch["x"].T @ error / batch["weights"].sum()
    np.testing.assert_allclose(whole["w"], expected, rtol=1e-5)
    np.testing.assert_allclose(parts["w"], expected, rtol=1e-5)
    for name in ("loss", "absolute"):
        np.testing.assert_allclose(parts_metrics[name], metrics[name], rtol=1e-5)


def test_each_microbatch_and_each_step_draws_other_numbers(batch, params):
    optimizer = adamw(0.1)
    state = TrainState.create(params, optimizer)
    noises = []
    for _ in range(2):
        for num_microbatches in (1, 2):
            new, metrics = train_step(
                state, batch, jax.random.key(1), **FUNCTIONS, optimizer=optimizer,
                num_microbatches=num_microbatches,
            )  # fmt: skip
            noises.append(float(metrics["noise"]))
        state = new
    assert len(set(noises)) == 4


def test_moving_average_against_its_closed_form(batch, params):
    optimizer = adamw(0.1)
    state = TrainState.create(params, optimizer, ema_decay=0.6)
    mean = np.asarray(params["w"])
    for step in range(12):
        state, _ = train_step(
            state, batch, jax.random.key(0), **FUNCTIONS, optimizer=optimizer, ema_decay=0.6
        )
        rate = min(0.6, (1 + step) / (10 + step))
        assert float(ema_rate(0.6, jnp.int32(step))) == pytest.approx(rate)
        mean = rate * mean + (1 - rate) * np.asarray(state.params["w"])
        np.testing.assert_allclose(state.ema_params["w"], mean, rtol=1e-5)
    assert state.eval_params is state.ema_params
    assert int(state.step) == 12


def test_metrics_say_norm_before_clipping_and_learning_rate(batch, params):
    optimizer = adamw(lambda step: 0.5 / (1 + step), clip_norm=0.001)
    state, metrics = train_step(
        TrainState.create(params, optimizer), batch, jax.random.key(0), **FUNCTIONS, optimizer=optimizer
    )
    gradient = jax.grad(lambda p: loss_fn(p, batch, jax.random.key(0), totals_fn(batch))[0])(params)["w"]
    assert float(metrics["grad_norm"]) == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-5)
    _, second = train_step(state, batch, jax.random.key(0), **FUNCTIONS, optimizer=optimizer)
    assert [float(m["learning_rate"]) for m in (metrics, second)] == [0.5, 0.25]
