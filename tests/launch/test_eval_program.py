import numpy as np
import pytest

from launch.eval_program import EvalProgram
from richhf.evaluation import measure_maps
from richhf.training.partitioning import Partitioner


@pytest.mark.parametrize("examples", [3, 8, 11])
def test_devices_measure_as_the_host_does_whatever_the_number_of_maps(examples):
    rng = np.random.default_rng(examples)
    true = (rng.integers(0, 256, (examples, 2, 24, 24)) * (rng.random((examples, 2, 24, 24)) > 0.8)).astype(
        np.uint8
    )
    true[0, 1] = 0
    predicted = rng.random((examples, 2, 12, 12)).astype(np.float32)
    # Nothing is predicted here: the model is not called.
    program = EvalProgram(None, Partitioner(num_devices=4), {}, (), batch_size=4)
    found = program.measure(predicted, true)
    np.testing.assert_allclose(found, measure_maps(predicted, true), rtol=1e-5, atol=1e-6)
    assert program._measure._cache_size() == 1
