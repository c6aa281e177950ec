import jax
import jax.numpy as jnp
import pytest

from richhf.training.partitioning import Partitioner
from richhf.training.placement import device_bytes, placements


def test_groups_say_what_a_device_holds_and_how_it_is_split():
    partitioner = Partitioner(data=1, fsdp=4, model=2)

    def placed(shape, *names):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=partitioner.sharding(names, shape))

    tree = {
        "net": {"kernel": placed((8, 6), "embed", "mlp"), "table": placed((12, 4), "vocab", None)},
        "norm": {"scale": placed((5,), "embed")},
    }
    net, norm = placements(tree)
    assert (net.name, net.size, net.total, net.per_device) == ("net", 96, 384, 4 * (6 + 24))
    assert net.splits == {"fsdp+model": pytest.approx(0.5), "model": pytest.approx(0.5)}
    assert (norm.per_device, norm.splits) == (20, {"whole": 1.0})
    assert device_bytes(tree) == 140
    real = jax.tree.map(lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), tree)
    on_first = [
        shard.data.nbytes
        for leaf in jax.tree.leaves(real)
        for shard in leaf.addressable_shards
        if shard.device == jax.devices()[0]
    ]
    assert device_bytes(real) == sum(on_first) == 140
