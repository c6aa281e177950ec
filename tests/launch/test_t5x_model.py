"""What T5X calls: the same losses, gradients, steps and predictions as this project's own trainer."""

import dataclasses
import warnings

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from launch import configurables, gin_config
from richhf.data.datasets import DatasetConfig, get_task
from richhf.data.training_stream import train_iterator
from richhf.training import optimizers
from richhf.training.train_state import TrainState
from richhf.training.train_step import accumulate_gradients, train_step
from tasks.synthetic import register

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("t5x")
    from t5x import partitioning, train_state, trainer, utils

    from launch import t5x_model

OPTIMIZERS = {
    "adamw": optimizers.adamw,
    "adafactor": lambda rate: optimizers.adafactor(rate, min_dim_size_to_factor=8),
    "muon": optimizers.muon,
}


@pytest.fixture
def model(gin_files):
    given = [f"--gin.{name}=x" for name in ("MODEL_DIR", "DATA_DIR")]
    argv = [
        *gin_files("tiny_multi_head", "train"),
        *given,
        "--gin.TRAIN_STEPS=200",
        "--gin.T5Config.dropout=0.1",
    ]
    gin_config.load(gin_config.parse_flags(argv), configurables.PARAMETERS)
    return configurables.CONFIGURABLES["models.RichFeedbackModel"]()


@pytest.fixture
def batch(data_dir):
    register(data_dir)
    lengths = {"image": 32, "inputs": 24, "targets": 24}
    stream = train_iterator(DatasetConfig("synthetic_multi_head", lengths, "train", 8, shuffle=True, seed=0))
    return {name: jnp.asarray(value) for name, value in next(stream).items()}


@pytest.fixture
def variables(model, batch):
    shapes = {name: x.shape for name, x in batch.items()}
    return t5x_model.T5XModel(model).get_initial_variables(jax.random.PRNGKey(1), shapes)


def state_of(model, variables, optimizer):
    adapter = t5x_model.T5XModel(model, t5x_model.T5XOptimizer(optimizer))
    frozen = flax.core.freeze(variables)
    return adapter, train_state.FlaxOptimTrainState.create(adapter.optimizer_def, frozen)


def assert_close(found, expected, **tolerance):
    found, expected = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (found, expected))
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], **tolerance, err_msg=str(name))


def test_loss_and_gradient_are_those_of_our_trainer(model, batch, variables):
    rng, params = jax.random.key(2), variables["params"]
    adapter, state = state_of(model, variables, optimizers.adamw(1e-3))
    grads, metrics, _ = jax.jit(
        lambda s, b: trainer.accumulate_grads_microbatched(adapter, s, b, rng, num_microbatches=None)
    )(state, batch)
    ours, values = jax.jit(
        lambda p, b: accumulate_gradients(model.loss_fn, model.loss_totals, p, b, rng, num_microbatches=1)
    )(params, batch)
    assert_close(flax.core.unfreeze(grads), ours, rtol=1e-5, atol=1e-6)
    assert_close({name: metrics[name].compute() for name in values}, values, rtol=1e-5)
    loss, metrics = jax.jit(adapter.eval_fn)(state.params, batch)
    values = jax.jit(model.eval_fn)(params, batch)
    assert_close({name: metrics[name].compute() for name in values}, values, rtol=1e-5)
    np.testing.assert_allclose(loss, values["loss"], rtol=1e-6)


def test_microbatches_give_the_mean_of_their_gradients(model, batch, variables):
    config = dataclasses.replace(model.config, t5=dataclasses.replace(model.config.t5, dropout=0.0))
    model = dataclasses.replace(model, config=config)
    optimizer, params = t5x_model.T5XOptimizer(optimizers.adamw(1e-3)), variables["params"]
    adapter = t5x_model.T5XModel(model, optimizer, num_microbatches=2)
    state = train_state.FlaxOptimTrainState.create(optimizer, flax.core.freeze(variables))
    grads, metrics, _ = jax.jit(
        lambda s, b: trainer.accumulate_grads_microbatched(adapter, s, b, jax.random.key(0), 2)
    )(state, batch)
    gradient = jax.jit(lambda p, b: jax.grad(model.loss_fn, has_aux=True)(p, b, None))
    parts = [gradient(params, {name: x[i : i + 4] for name, x in batch.items()}) for i in (0, 4)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, parts[0][0], parts[1][0])
    assert_close(flax.core.unfreeze(grads), mean, rtol=1e-4, atol=1e-5)
    losses = [values["loss"] for _, values in parts]
    np.testing.assert_allclose(metrics["loss"].compute(), np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_that_of_our_trainer(model, batch, variables, name):
    optimizer = OPTIMIZERS[name](lambda step: jnp.float32(1e-3) / (step + 1))
    adapter, state = state_of(model, variables, optimizer)
    rate = t5x_model.learning_rate(optimizer)
    ours, key = TrainState.create(variables["params"], optimizer), jax.random.key(0)
    theirs = jax.jit(lambda s, k: trainer.train_with_lr(s, batch, rate(s.step), k, adapter, None))
    settings = {"loss_fn": model.loss_fn, "totals_fn": model.loss_totals, "optimizer": optimizer}
    step = jax.jit(lambda s: train_step(s, batch, key, **settings))
    for number in range(2):
        state, metrics = theirs(state, jax.random.fold_in(key, number))
        ours, values = step(ours)
        np.testing.assert_allclose(metrics["loss"].compute(), values["loss"], rtol=1e-5)
        np.testing.assert_allclose(metrics["learning_rate"].compute(), values["learning_rate"])
    assert_close(flax.core.unfreeze(state.params), ours.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_and_what_mirrors_them_are_split_by_our_rules(model, batch, variables, name):
    shapes = {key: x.shape for key, x in batch.items()}
    adapter, _ = state_of(model, variables, OPTIMIZERS[name](1e-3))
    rules = t5x_model.logical_axis_rules(fsdp="data")
    partitioner = partitioning.PjitPartitioner(num_partitions=1, logical_axis_rules=rules)
    initial = utils.TrainStateInitializer(
        adapter.optimizer_def, adapter.get_initial_variables, shapes, partitioner
    )
    flat = flatten_dict(initial.train_state_axes.state_dict())
    params = {path[1:]: spec for path, spec in flat.items() if path[0] == "target"}
    assert params.keys() == flatten_dict(variables["params"]).keys()
    assert params["t5", "embedding", "embedding"] == jax.P("model", "data")
    assert params["image_word_head", "bias"] == jax.P("model")
    moments = {
        path[path.index(kind) + 1 :]: spec
        for path, spec in flat.items()
        for kind in {"mu", "v"} & {*path}
        if spec is not None
    }
    assert len(moments) > (0.2 if name == "adafactor" else 0.99) * len(params)
    assert moments == {path: params[path] for path in moments}
    assert flat["state", "step"] is None
    whole = [spec for path, spec in flat.items() if {"v_row", "v_col", "count"} & {*path}]
    assert not any(axis for spec in whole for axis in spec or ())


def test_predictions_are_the_models(model, batch, variables):
    adapter = t5x_model.T5XModel(model)
    params = variables["params"]
    inputs = {name: batch[name] for name in ("image", "encoder_input_tokens")}
    expected = model.predict_batch(params, inputs)
    tokens, aux = adapter.predict_batch_with_aux(flax.core.freeze(params), inputs, rng=jax.random.PRNGKey(0))
    assert_close(
        {"keyword_tokens": tokens, **{name: aux[name] for name in expected if name in aux}}, expected
    )
    assert aux["keyword_log_probabilities"].shape == tokens.shape
    np.testing.assert_array_equal(adapter.predict_batch(params, inputs), tokens)
    np.testing.assert_array_equal(adapter.score_batch(params, batch), model.score_batch(params, batch))
    with pytest.raises(ValueError, match="return_intermediates is True"):
        adapter.score_batch(params, batch, return_intermediates=True)


def test_tasks_are_registered_when_they_are_named(data_dir, tmp_path):
    register(tmp_path)
    name = t5x_model.task_name("synthetic_multi_head", lambda: register(data_dir))
    lengths = {"image": 32, "inputs": 24, "targets": 24}
    assert get_task(DatasetConfig(name, lengths, "dev", 8)).name == name
