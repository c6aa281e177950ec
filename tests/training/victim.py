"""A small training on the real input, slow enough to be killed in the middle; run in a process of its own."""

import time

import jax.numpy as jnp

import tasks.synthetic
from richhf.data.datasets import DatasetConfig
from richhf.data.training_stream import TrainingStream
from richhf.training.optimizers import adamw
from richhf.training.partitioning import Partitioner
from richhf.training.train import train
from tests.training.conftest import Network


class Scorer:
    """Scores from a few means of the image, with dropout."""

    network = Network()

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        return self.network.init(rng, jnp.zeros((1, 16)))

    def _squared(self, params, batch, rng):
        pixels = batch["image"].astype(jnp.float32).reshape(len(batch["image"]), 16, -1).mean(-1) / 255
        return (self.network.apply({"params": params}, pixels, rng)[:, :4] - batch["scores"]) ** 2

    def loss_fn(self, params, batch, dropout_rng, totals):
        squared = jnp.sum(self._squared(params, batch, dropout_rng)) / totals["values"]
        return squared, {"squared": squared}

    def loss_totals(self, batch):
        return {"values": jnp.float32(batch["scores"].size)}

    def eval_fn(self, params, batch):
        return {"squared": jnp.mean(self._squared(params, batch, None))}


class SlowStream(TrainingStream):
    """The training stream, with a pause before each batch."""

    def __next__(self):
        time.sleep(0.03)
        return super().__next__()


def run(data_dir, model_dir, steps):
    """Trains, or goes on."""
    tasks.synthetic.register(data_dir)
    lengths = {"image": 32, "inputs": 24, "targets": 24}
    train(
        model=Scorer(),
        train_iterator=SlowStream(DatasetConfig("synthetic_multi_head", lengths, "train", 8, True, seed=0)),
        model_dir=model_dir,
        optimizer=adamw(0.01),
        total_steps=steps,
        partitioner=Partitioner(num_devices=1),
        checkpoint_period=5,
        ema_decay=0.9,
        log_examples=True,
    )
