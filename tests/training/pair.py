"""One of two processes that train the toy model together; run in a process of its own."""

import os
import signal
import time

import jax

from richhf.training.optimizers import adamw
from richhf.training.partitioning import Partitioner
from richhf.training.train import train
from tests.training.conftest import CountingIterator, ToyModel


class OneSided(CountingIterator):
    """In one process it is interrupted at a position."""

    def __init__(self, interrupted_at=None):
        super().__init__(seed=jax.process_index())
        self._interrupted_at = interrupted_at

    def __next__(self):
        time.sleep(0.02)
        if self.position == self._interrupted_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__next__()


def run(address, index, model_dir, steps, troubles):
    """Trains, or goes on; troubles come to process 1 alone."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=index)
    train(
        model=ToyModel(),
        train_iterator=OneSided(**troubles if index else {}),
        model_dir=model_dir,
        optimizer=adamw(0.01),
        total_steps=steps,
        partitioner=Partitioner(fsdp=jax.device_count()),
        checkpoint_period=3,
        keep_checkpoints=100,
    )
