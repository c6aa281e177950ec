"""Files as others write them, and damaged ones; nothing in them is run."""

import json
import shutil
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


def test_npz_of_bfloat16(tmp_path):
    """NumPy writes its size in bytes alone."""
    values = np.linspace(-3, 3, 6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    np.savez(
        tmp_path / "w.npz", a=values, b=values.T, c=np.ones(2, np.float16), d=np.array(2, ml_dtypes.bfloat16)
    )
    found = read_weights(tmp_path / "w.npz").arrays
    expected = {"a": values, "b": values.T, "c": np.ones(2, np.float16), "d": np.array(2, ml_dtypes.bfloat16)}
    assert_same(found, expected)
    fields = np.zeros(2, [("x", np.int8), ("y", np.int8)])
    for value, kind in (
        (np.ones(2, ml_dtypes.float8_e4m3fn), r"'\|V1'"),
        (np.ones(2, ml_dtypes.float8_e5m2), "'<f1'"),
        (np.ones(2, ml_dtypes.int4), "V1'"),
        (fields, "V2'"),
    ):
        np.savez(tmp_path / "w.npz", plain=np.ones(2), b=value)
        with pytest.raises(
            ValueError, match=rf"w\.npz: b is of the type .*{kind}.* save it as bfloat16"
        ) as error:
            read_weights(tmp_path / "w.npz")
        assert "\n" not in str(error.value)


def test_the_content_counts_more_than_the_ending(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors")
    np.savez(tmp_path / "w.npz", a=ARRAYS["a"])
    for name, new in (("model.safetensors", "pytorch_model.bin"), ("w.npz", "vit"), ("w.npz", "w.PTH.TAR")):
        shutil.copy(tmp_path / name, tmp_path / new)
        assert read_weights(tmp_path / new).arrays.keys() <= ARRAYS.keys()


def test_files_that_hold_nothing_are_named(tmp_path):
    for name in ("w.npz", "w.safetensors", "w.bin", "w.ckpt", "w.PTH", "w.pth.tar"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=f"{name} is empty, 0 bytes; expected weights"):
            read_weights(tmp_path / name)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(ValueError, match=r"is a pointer of Git LFS, not the weights: .* git lfs pull"):
        read_weights(tmp_path)


def test_a_part_of_several_files_asks_for_all(tmp_path):
    name = "model-00001-of-00002.safetensors"
    safetensors.numpy.save_file(ARRAYS, tmp_path / name)
    with pytest.raises(ValueError, match=r"is part 1 of 2 of some weights: give the folder .*index"):
        read_weights(tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(ARRAYS, name)}))
    for path in (tmp_path, index):
        assert_same(read_weights(path).arrays, ARRAYS)
    whole = tmp_path / "model-00001-of-00001.safetensors"
    shutil.copy(tmp_path / name, whole)
    assert_same(read_weights(whole).arrays, ARRAYS)


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
