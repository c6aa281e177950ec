"""Files of PyTorch: arrays in, nothing else; and the author's layout out as one."""

import argparse
import dataclasses
import itertools
import json
import pathlib

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import safetensors.torch  # noqa: E402

from richhf import cli  # noqa: E402
from richhf.models import T5Config  # noqa: E402
from richhf.pretrained import read_model, read_weights  # noqa: E402
from richhf.pretrained.torch_file import read_torch  # noqa: E402
from tests.parity.test_rahf import SMALL  # noqa: E402
from tests.parity.torch_rahf import TorchRAHF, TorchViT, TransformersViT  # noqa: E402
from tests.parity.torch_weights import randomise  # noqa: E402


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("code of a pickle was run",))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "module", "net"])
def test_a_state_dict_in_either_precision(tmp_path, wrapper):
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    kept = {wrapper: state, "optimizer": {"state": {0: torch.ones(2)}}, "args": {"model": {"width": 3}}}
    torch.save(state if wrapper is None else kept, tmp_path / "model.pt")
    file = read_weights(tmp_path / "model.pt")
    left = f"{wrapper!r} in model.pt is taken; left are 'optimizer', 'args'"
    assert file.notes == (() if wrapper is None else (left,))
    found = file.arrays
    np.testing.assert_array_equal(found["a"], state["a"].numpy())
    assert found["b"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["b"].astype(np.float32), np.ones(2))


def test_a_folder_of_hugging_face_with_a_torch_file(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert read_weights(tmp_path).arrays.keys() == {"a"}
    safetensors.torch.save_file({"b": torch.ones(2)}, tmp_path / "model.safetensors")
    assert read_weights(tmp_path).arrays.keys() == {"b"}


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"a": Malicious()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad\.pt holds more than arrays .*nothing is ever unpick") as error:
        read_weights(tmp_path / "bad.pt")
    assert "weights_only" not in str(error.value)
    torch.save({"a": torch.ones(999)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.pt is damaged, or not a file of weights alone"):
        read_weights(tmp_path / "cut.pt")
    torch.save({"epoch": 3}, tmp_path / "no.pt")
    with pytest.raises(ValueError, match=r"no\.pt is no state_dict: 'epoch' is no array; .* save its"):
        read_weights(tmp_path / "no.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(OSError, match=r"folder\.pt"):
        read_torch(tmp_path / "folder.pt")


def test_which_weights_are_meant_is_not_guessed(tmp_path):
    state = {"a": torch.ones(2)}
    for kept, left in (
        ({"model": state, "ema": state}, "ema"),
        ({"module": state, "model": {"w": 3}}, "model"),
    ):
        torch.save(kept, tmp_path / "w.pt")
        taken = next(iter(kept))
        assert read_weights(tmp_path / "w.pt").notes == (f"{taken!r} in w.pt is taken; left are {left!r}",)
    for names in (("model", "state_dict"), ("net", "ema")):
        torch.save(dict.fromkeys(names, state), tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"several sets of weights, '.*', and does not say which"):
            read_weights(tmp_path / "w.pt")


def test_parameters_are_arrays_and_other_tensors_are_named(tmp_path):
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "w.pt")
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pt").arrays["a"], np.ones(2))
    for tensor, kind in (
        (torch.eye(2).to_sparse(), "sparse_coo, torch.float32"),
        (torch.ones(2).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
        (torch.ones(2, device="meta"), "torch.float32 on meta"),
    ):
        torch.save({"a": tensor}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=f"a is {kind}.*, no plain array"):
            read_weights(tmp_path / "w.pt")


def test_the_authors_checkpoint_in_and_out(tmp_path, capsys, make_vocabulary):
    """His file as torch saves it, to a model folder, to a file that his network loads, strictly."""
    vit = dataclasses.replace(SMALL.vit, width=128, num_heads=2)
    config = dataclasses.replace(SMALL, vit=vit, t5=T5Config(**vars(SMALL.t5)))
    theirs = TorchRAHF(config)
    randomise(theirs)
    torch.save(theirs.state_dict(), tmp_path / "model_best.pt")
    (tmp_path / "spiece.model").write_bytes(make_vocabulary())
    source, folder, back = (str(tmp_path / name) for name in ("model_best.pt", "folder", "back.pt"))
    assert cli.main(["convert", source, folder, f"--vocabulary={tmp_path / 'spiece.model'}"]) == 0
    assert read_model(folder).model.config == config
    assert cli.main(["convert", folder, back, "--to", "author"]) == 0
    assert "heatmap_heads, score_heads" in capsys.readouterr().out
    fresh = TorchRAHF(config)
    fresh.load_state_dict(torch.load(back, weights_only=True), strict=True)
    for name, value in theirs.state_dict().items():
        wanted = torch.zeros_like(value) if "pooler" in name else value
        assert torch.equal(fresh.state_dict()[name], wanted), name


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt", "pth.tar", "CKPT", "Pth.Tar", "model"])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_ending(tmp_path, ending, legacy):
    torch.save({"a": torch.ones(2)}, tmp_path / f"w.{ending}", _use_new_zipfile_serialization=not legacy)
    np.testing.assert_array_equal(read_weights(tmp_path / f"w.{ending}").arrays["a"], np.ones(2))


def test_a_checkpoint_of_lightning(tmp_path):
    """The network under state_dict, beside it an optimizer, settings, NumPy's numbers and paths."""
    net = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model._orig_mod.module.{name}": x for name, x in net.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"last_epoch": 3}],
        "callbacks": {"EMA": {"weights": dict(net.state_dict())}},
        "hyper_parameters": argparse.Namespace(
            rate=1e-3, folder=pathlib.PurePosixPath("x"), best=np.float64(2)
        ),
    }
    torch.save(content, tmp_path / "last.ckpt")
    file = read_weights(tmp_path / "last.ckpt")
    assert {*file.arrays} == {"model._orig_mod.module.weight", "model._orig_mod.module.bias"}
    assert file.notes[0].startswith(
        "'state_dict' in last.ckpt is taken; left are 'epoch', 'pytorch-lightning"
    )


def test_wrappers_nest_in_any_order(tmp_path):
    state, optimizer = {"a": torch.ones(2)}, {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    for names in itertools.permutations(("state_dict", "model", "module", "checkpoint"), 3):
        content = state
        for name in names:
            content = {name: content, "optimizer": optimizer, "step": 3}
        torch.save(content, tmp_path / "w.pt")
        assert read_weights(tmp_path / "w.pt").arrays.keys() == {"a"}, names
    torch.save({"ema": state, "optimizer": optimizer}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").notes == ("'ema' in w.pt is taken; left are 'optimizer'",)


def test_an_index_of_torch_files(tmp_path):
    places = {name: f"pytorch_model-0000{i}-of-00002.bin" for i, name in enumerate("ab", 1)}
    for name, part in places.items():
        torch.save({name: torch.ones(2)}, tmp_path / part)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert read_weights(tmp_path).arrays.keys() == {"a", "b"}
    assert read_weights(tmp_path / "pytorch_model.bin.index.json").arrays.keys() == {"a", "b"}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_of_torchscript_is_named(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"holds more than arrays \(a program, of TorchScript\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("target", ["author", "author-transformers5"])
def test_the_authors_class_with_transformers_5(tmp_path, capsys, make_vocabulary, target):
    """His network saved in training, with its ViT made by transformers: in, and out with either names."""
    config = dataclasses.replace(SMALL, vit=dataclasses.replace(SMALL.vit, width=128, num_heads=2))
    theirs = TorchRAHF(config, TransformersViT)
    randomise(theirs)
    state = {f"model._orig_mod.module.{name}": x for name, x in theirs.state_dict().items()}
    assert "model._orig_mod.module.vit.layers.0.mlp.fc1.bias" in state
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    (tmp_path / "spiece.model").write_bytes(make_vocabulary())
    source, folder, back = (str(tmp_path / name) for name in ("last.ckpt", "folder", "back.pt"))
    assert cli.main(["convert", source, folder, f"--vocabulary={tmp_path / 'spiece.model'}"]) == 0
    assert read_model(folder).model.config == config
    assert cli.main(["convert", folder, back, "--to", target]) == 0
    fresh = TorchRAHF(config, TorchViT if target == "author" else TransformersViT)
    fresh.load_state_dict(torch.load(back, weights_only=True), strict=True)
    pixels, tokens = torch.zeros(1, 3, 48, 48), torch.ones(1, config.rows, 4, dtype=torch.long)
    for name, value in theirs(pixels, tokens, outputs=("overall",)).items():
        torch.testing.assert_close(fresh(pixels, tokens, outputs=("overall",))[name], value)
