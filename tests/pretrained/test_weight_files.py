"""Files as others write them, and damaged ones; nothing in them is run."""

import json
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from richhf.pretrained import read_weights

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, ml_dtypes.bfloat16)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_a_safetensors_file_and_a_folder_with_its_config(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors")
    assert_same(read_weights(tmp_path / "model.safetensors").arrays, ARRAYS)
    (tmp_path / "config.json").write_text('{"num_heads": 3}')
    for path in (tmp_path, tmp_path / "model.safetensors"):
        found = read_weights(path)
        assert_same(found.arrays, ARRAYS)
        assert (found.path, found.config) == (path, {"num_heads": 3})
    safetensors.numpy.save_file(ARRAYS, tmp_path / "OWN.SafeTensors", metadata={"richhf": '{"own": 1}'})
    assert read_weights(tmp_path / "OWN.SafeTensors").config == {"own": 1}
    safetensors.numpy.save_file(ARRAYS, tmp_path / "own.safetensors", metadata={"richhf": "own"})
    with pytest.raises(ValueError, match=r"metadata \(richhf\) of .*own\.safetensors is damaged"):
        read_weights(tmp_path / "own.safetensors")


def test_shards_by_an_index(tmp_path):
    for name, value in ARRAYS.items():
        safetensors.numpy.save_file({name: value}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    places = {name: f"{name}.safetensors" for name in ARRAYS}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_same(read_weights(tmp_path).arrays, ARRAYS)
    index.write_text(json.dumps({"weight_map": places | {"c": "a.safetensors"}}))
    with pytest.raises(ValueError, match="names 1 arrays that its files lack, the first is c"):
        read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(ValueError, match=r"names '\.\./a\.safetensors'; expected files in its own folder"):
        read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": places}))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b\.safetensors is missing"):
        read_weights(tmp_path)


def test_npz_without_pickles(tmp_path):
    arrays = {"x/y": ARRAYS["a"]}
    np.savez(tmp_path / "w.npz", **arrays)
    assert_same(read_weights(tmp_path / "w.npz").arrays, arrays)
    np.savez(tmp_path / "p.npz", x=np.array([{"code": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"p\.npz: x is .* pickled, and nothing is ever unpickled") as error:
        read_weights(tmp_path / "p.npz")
    assert "allow_pickle" not in str(error.value)
    np.save(tmp_path / "one.npy", ARRAYS["a"])
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match=r"one\.npz is an npy file, one array without a name"):
        read_weights(tmp_path / "one.npz")
    content = bytearray((tmp_path / "w.npz").read_bytes())
    content[140:150] = b"\xff" * 10
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.npz is damaged at x/y: Bad CRC-32"):
        read_weights(tmp_path / "w.npz")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
def test_what_a_machine_lacks_is_not_called_damage(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    np.savez(tmp_path / "w.npz", x=ARRAYS["a"])
    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(type(error)):
        read_weights(tmp_path / "w.npz")


def test_numbers_of_eight_bits_are_named(tmp_path):
    header = b'{"b":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}      '
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"12")
    with pytest.raises(ValueError, match="b is of F8_E4M3; expected numbers of 16 bits or more"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors"])
def test_damaged_files_are_named(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        read_weights(file)


def test_what_was_found_is_said(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no weights: found nothing; expected model"):
        read_weights(tmp_path)
    (tmp_path / "w.onnx").touch()
    with pytest.raises(ValueError, match=r"found the ending '\.onnx', expected one of \.safetensors, \.npz"):
        read_weights(tmp_path / "w.onnx")
    with pytest.raises(ValueError, match=r"holds no weights: found w\.onnx"):
        read_weights(tmp_path)


def test_files_of_torch_ask_for_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ImportError, match="pip install torch, or give the weights"):
        read_weights(tmp_path / "model.bin")
