"""Checkpoints of T5X, written here in its format as its sources describe it."""

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from flax import serialization, traverse_util

from richhf.pretrained import find_t5x_checkpoint, read_t5x_checkpoint, write_t5x_checkpoint

PARAMS = {
    "t5": {
        "shared_embedding": {"embedding": np.arange(12, dtype=np.float32).reshape(4, 3)},
        "norm": {"scale": np.array([1.5, -2.0], jnp.bfloat16)},
    },
    "head": {"bias": np.zeros(3, np.float32)},
}


def write_arrays(folder, *, driver="file", inside=("head",)):
    """As T5X's own checkpointer: zarr arrays, and beside them a msgpack file of their specs or of arrays."""
    target = {}
    for path, array in traverse_util.flatten_dict(PARAMS).items():
        if path[0] in inside:
            target[path] = array
            continue
        name = ".".join(("target", *path))
        spec = {
            "driver": "zarr",
            "dtype": array.dtype.name,
            "kvstore": {"driver": "file", "path": str(folder / name)},
            "metadata": {"shape": list(array.shape), "chunks": [2, 3][: array.ndim]},
        }
        tensorstore.open(spec, create=True).result().write(array).result()
        target[path] = spec | {"kvstore": {"driver": driver, "path": f"{name}/"}}
    tree = {"target": traverse_util.unflatten_dict(target), "state": {"step": np.int32(7)}}
    (folder / "checkpoint").write_bytes(serialization.to_bytes({"version": 3, "optimizer": tree}))


def assert_same(found):
    found, expected = traverse_util.flatten_dict(found), traverse_util.flatten_dict(PARAMS)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("driver", ["file", "gfile", "gcs"])
def test_arrays_beside_the_file(tmp_path, driver):
    folder = tmp_path / "checkpoint_7"
    write_arrays(folder, driver=driver)
    for path, step in ((tmp_path, None), (tmp_path, 7), (folder, None)):
        assert find_t5x_checkpoint(path, step)
        assert_same(read_t5x_checkpoint(path, step))
    moved = folder.rename(tmp_path / "t5_base")
    assert_same(read_t5x_checkpoint(moved))


def test_an_orbax_tree(tmp_path):
    folder = tmp_path / "checkpoint_12"
    moments = {"mu": PARAMS}
    tree = {"target": PARAMS, "state": {"step": np.int32(12), "param_states": moments}}
    ocp.PyTreeCheckpointer(use_ocdbt=True).save(folder / "state", tree)
    assert_same(read_t5x_checkpoint(tmp_path))
    assert_same(read_t5x_checkpoint(folder))
    for file in (folder / "state/d").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="checkpoint_12/state is damaged"):
        read_t5x_checkpoint(tmp_path)


def test_written_and_read_again(tmp_path):
    folder = write_t5x_checkpoint(tmp_path / "run", PARAMS, 500)
    assert folder == tmp_path / "run/checkpoint_500"
    write_t5x_checkpoint(tmp_path / "run", {"head": PARAMS["head"]}, 60)
    assert_same(read_t5x_checkpoint(tmp_path / "run"))
    content = serialization.msgpack_restore((folder / "checkpoint").read_bytes())
    assert content["version"] == 3
    assert content["optimizer"]["state"] == {"step": 500}


def test_what_is_no_checkpoint(tmp_path):
    write_t5x_checkpoint(tmp_path, PARAMS, 3)
    (tmp_path / "checkpoint_4.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "checkpoint_5").mkdir()
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/checkpoint").write_text('model_checkpoint_path: "model.ckpt-0"')
    assert not any(find_t5x_checkpoint(tmp_path / name) for name in ("tensorflow", "checkpoint_5", "nowhere"))
    assert not find_t5x_checkpoint(tmp_path, 5)
    with pytest.raises(ValueError, match=r"no checkpoint of step 5 of T5X in .*: found steps 3; give"):
        read_t5x_checkpoint(tmp_path, 5)
    with pytest.raises(ValueError, match="found steps none"):
        read_t5x_checkpoint(tmp_path / "tensorflow")


def test_damage_is_said(tmp_path):
    folder = tmp_path / "checkpoint_1"
    write_arrays(folder)
    array = folder / "target.t5.shared_embedding.embedding"
    (array / "0.0").write_bytes(b"cut")
    with pytest.raises(
        ValueError, match=r"t5/shared_embedding/embedding of .*checkpoint_1 is missing or damaged"
    ):
        read_t5x_checkpoint(tmp_path)
    (array / ".zarray").unlink()
    with pytest.raises(
        ValueError, match=r"t5/shared_embedding/embedding of .*checkpoint_1 is missing or damaged"
    ):
        read_t5x_checkpoint(tmp_path)
    file = folder / "checkpoint"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="checkpoint is damaged"):
        read_t5x_checkpoint(tmp_path)
    file.write_bytes(serialization.to_bytes({"target": {}}))
    with pytest.raises(ValueError, match="is of version 0 with"):
        read_t5x_checkpoint(tmp_path)


@pytest.mark.parametrize("place", ["../other", "/etc"])
def test_arrays_elsewhere_are_not_read(tmp_path, place):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": place}, "metadata": {"shape": [1]}}
    folder = write_t5x_checkpoint(tmp_path, PARAMS, 1)
    tree = {"version": 3, "optimizer": {"target": {"head": spec}}}
    (folder / "checkpoint").write_bytes(serialization.to_bytes(tree))
    with pytest.raises(ValueError, match=r"names .* for head; expected a zarr array in that folder"):
        read_t5x_checkpoint(tmp_path)
