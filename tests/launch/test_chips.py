import os
import re

import jax
import pytest

from launch.chips import CHIPS, GIB, parse_topology


def test_a_slice_is_its_chips_and_their_number():
    topology = parse_topology("v4:2x2x4")
    assert (topology.size, topology.chip) == (16, CHIPS["v4"])
    assert [CHIPS[name].memory // GIB for name in ("v4", "v5e", "v5p", "v6e")] == [32, 16, 95, 32]
    assert parse_topology("v5e:4x4").size == 16


def test_virtual_devices_share_this_machines_memory():
    eight, two = parse_topology("cpu:8"), parse_topology("cpu:2")
    assert eight.devices() == tuple(jax.devices())
    assert two.devices() == tuple(jax.devices()[:2])
    assert abs(two.chip.memory - 4 * eight.chip.memory) < 4
    with pytest.raises(ValueError, match=r"cpu:9: JAX has 8 CPU device\(s\) already"):
        parse_topology("cpu:9").devices()


def test_what_jax_reads_when_it_is_imported_is_set_before(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--one")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    parse_topology("cpu:3").prepare()
    assert os.environ["XLA_FLAGS"] == "--one --xla_force_host_platform_device_count=3"
    assert os.environ["JAX_PLATFORMS"] == "cpu"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5:4x4", r"there is no chip 'v5'\. Did you mean 'v5\w:4x4'\? Known: v4, v5e, v5p, v6e"),
        ("V5E:2x2", r"there is no chip 'V5E'\. Did you mean 'v5e:2x2'"),
        ("tpu", r"there is no chip 'tpu'\. .*such as v5e:4x4"),
        ("v5e:4x4x4", r"'4x4x4' is no shape of 2 axes\. Did you mean 'v5e:4x4'"),
        ("v4:4x4", r"'4x4' is no shape of 3 axes\. .*v4 comes as 2x2x1"),
        ("v4", r"'' is no shape of 3 axes"),
        ("cpu:x", "expected a number of virtual devices, such as cpu:8"),
        ("cpu:0", "expected a number of virtual devices, such as cpu:8"),
    ],
)
def test_topologies_that_there_are_not(name, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_topology(name)
    assert re.match(rf"--topology={name}: ", str(error.value))
