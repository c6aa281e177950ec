import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from richhf.training.partitioning import Partitioner, batch_parts


def box(names, *shape):
    return nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)


def test_rules_place_each_axis_once_and_only_where_it_divides():
    partitioner = Partitioner(data=2, fsdp=2, model=2)
    boxed = {
        "mlp": box(("embed", "mlp"), 8, 6),
        "twice": box(("embed", "embed"), 8, 8),
        "odd": box(("embed", "mlp"), 7, 6),
        "vocab": box(("vocab", "embed"), 10, 4),
        "conv": box((None, None, "conv_in", "conv_out"), 3, 3, 3, 8),
        "plain": jax.ShapeDtypeStruct((4, 4), jnp.float32),
    }
    specs = jax.tree.map(lambda s: tuple(s.spec), partitioner.param_shardings(boxed))
    assert specs == {
        "mlp": ("fsdp", "model"),
        "twice": ("fsdp", None),
        "odd": (None, "model"),
        "vocab": ("model", "fsdp"),
        "conv": (None, None, None, "model"),
        "plain": (),
    }


def test_batch_is_split_over_data_and_fsdp_and_a_short_one_is_whole_everywhere():
    partitioner = Partitioner(data=2, fsdp=2, model=2)
    batch = {"x": np.arange(24.0, dtype=np.float32).reshape(8, 3)}
    x = partitioner.shard_batch(batch)["x"]
    assert x.sharding.spec == PartitionSpec(("data", "fsdp"))
    assert {shard.data.shape for shard in x.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(x, batch["x"])
    short = partitioner.shard_batch({"x": batch["x"][:3]})["x"]
    assert short.sharding.is_fully_replicated


def test_data_axis_takes_what_is_left():
    assert dict(Partitioner(fsdp=2).mesh.shape) == {"data": 4, "fsdp": 2, "model": 1}
    assert dict(Partitioner(num_devices=1).mesh.shape) == {"data": 1, "fsdp": 1, "model": 1}


@pytest.mark.parametrize(("data", "fsdp"), [(3, 1), (8, 2), (-1, 3), (0, 1)])
def test_mesh_that_does_not_fit_the_devices(data, fsdp):
    with pytest.raises(ValueError, match="the product must be 8"):
        _ = Partitioner(data=data, fsdp=fsdp).mesh


@pytest.mark.parametrize(
    ("batch_size", "microbatches", "near"), [(12, 1, 16), (8, 2, 16), (30, 1, 32), (0, 1, 8), (250, 4, 256)]
)
def test_batch_that_devices_and_microbatches_do_not_divide(batch_size, microbatches, near):
    with pytest.raises(ValueError, match=rf"a batch of {batch_size} .* such as {near}\."):
        Partitioner().check_batch_size(batch_size, microbatches)
    Partitioner().check_batch_size(near, microbatches)


def test_axis_without_a_rule():
    with pytest.raises(ValueError, match=r"no partitioning rule for the logical axis 'vocabs'.*'vocab'"):
        Partitioner().param_shardings({"w": box(("vocabs",), 8)})


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([[0], [0], [1], [1]], {0: (0, 2), 1: (1, 2)}),
        ([[0, 0], [1, 1]], {0: (0, 2), 1: (1, 2)}),
        ([[0, 1]], {0: (0, 1), 1: (0, 1)}),
        ([[0, 1], [0, 1], [2, 3], [2, 3]], {0: (0, 2), 1: (0, 2), 2: (1, 2), 3: (1, 2)}),
    ],
)
def test_processes_that_hold_the_same_rows_give_the_same_part(processes, expected):
    assert batch_parts(np.array(processes)) == expected


@pytest.mark.parametrize("processes", [[[0, 1], [1, 1]], [[0], [1], [0], [1]], [[0], [0], [1]]])
def test_rows_that_processes_cannot_share(processes):
    with pytest.raises(ValueError, match="hold the same ones or none"):
        batch_parts(np.array(processes))
