"""A small real model and a small real input iterator, to train in a second."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu.data.dataset_iterator import ArraySpec


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, rng=None):
        def kernel(*names):
            return nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)

        bias = nn.with_logical_partitioning(nn.initializers.zeros_init(), ("mlp",))
        x = nn.relu(nn.Dense(64, kernel_init=kernel("embed", "mlp"), bias_init=bias, name="wi")(x))
        if rng is not None:
            x = jnp.where(jax.random.bernoulli(rng, 0.9, x.shape), x, 0.0)
        return nn.Dense(8, kernel_init=kernel("mlp", None), name="wo")(x)


class ToyModel:
    """Regression with dropout; `noise=False` leaves dropout out so that microbatches can be compared."""

    def __init__(self, noise=True):
        self.network, self.noise = Network(), noise

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        return self.network.init(rng, jnp.zeros(input_shapes["x"], input_types["x"]))

    def loss_fn(self, params, batch, dropout_rng, totals):
        rng = dropout_rng if self.noise else None
        error = self.network.apply({"params": params}, batch["x"], rng) - batch["y"]
        squared, absolute = (jnp.sum(x) / totals["values"] for x in (error**2, jnp.abs(error)))
        return squared + 0.1 * absolute, {"squared": squared, "absolute": absolute}

    def loss_totals(self, batch):
        return {"values": jnp.float32(batch["y"].size)}

    def eval_fn(self, params, batch):
        error = self.network.apply({"params": params}, batch["x"]) - batch["y"]
        return {"squared": jnp.mean(error**2)}


class CountingIterator:
    """Batch i is drawn from seed i; the position is the next i. Those in `poison` hold a NaN."""

    def __init__(self, batch_size=16, seed=0, poison=()):
        self.position, self.batch_size, self.seed, self.poison = 0, batch_size, seed, poison
        self.filenames = ()
        self.before_next = lambda position: None

    @property
    def element_spec(self):
        return {
            "x": ArraySpec(np.dtype(np.float32), (self.batch_size, 16)),
            "y": ArraySpec(np.dtype(np.float32), (self.batch_size, 8)),
        }

    def __next__(self):
        self.before_next(self.position)
        rng = np.random.default_rng((self.seed, self.position))
        x = rng.normal(size=(self.batch_size, 16)).astype(np.float32)
        if self.position in self.poison:
            x[0, 0] = np.nan
        self.filenames = tuple(f"{self.position}-{row}" for row in range(self.batch_size))
        self.position += 1
        return {"x": x, "y": np.tanh(x[:, :8] * 2).astype(np.float32)}

    def save(self, filename):
        Path(filename).write_text(json.dumps(self.position))

    def restore(self, filename):
        self.position = json.loads(Path(filename).read_text())


@pytest.fixture
def toy_model():
    return ToyModel


@pytest.fixture
def counting_iterator():
    return CountingIterator
