"""`richhf convert`, on files made here."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import safetensors.numpy

from richhf import cli
from richhf.data.prompts import AUTHOR_TASK_STRINGS, WORDS
from richhf.feedback import VARIANTS
from richhf.inference.load import SHIPPED
from richhf.models import T5Config, ViTConfig
from richhf.pretrained import (
    author_table,
    export_params,
    flat_shapes,
    initial_shapes,
    read_model,
    read_weights,
    write_model,
)
from richhf.pretrained.formats import APPROXIMATE_GELU, find_format
from richhf.pretrained.model_config import config_to_json
from richhf.pretrained.sizes import infer_config

VIT = ViTConfig(
    image_size=12, patch_size=4, width=128, depth=2, num_heads=2, mlp_width=12, class_token=True, eps=1e-12
)


@pytest.fixture
def author(small, fill, tmp_path, make_vocabulary):
    """A file of the author's layout, what it is of, and a vocabulary file."""

    def make(**changes):
        config = dataclasses.replace(small, vit=VIT, **changes)
        params = fill(flat_shapes(initial_shapes(config)))
        state = export_params(author_table(config), params, "ours")
        safetensors.numpy.save_file(state, tmp_path / "author.safetensors")
        (tmp_path / "spiece.model").write_bytes(make_vocabulary())
        return config, params, state

    return make


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_authors_weights_to_a_model_folder_and_back(author, tmp_path, capsys, variant):
    config, params, state = author(variant=variant)
    source, folder, back = tmp_path / "author.safetensors", tmp_path / "model", tmp_path / "back.safetensors"
    vocabulary = f"--vocabulary={tmp_path / 'spiece.model'}"
    assert cli.main(["convert", "--from", "author", str(source), str(folder), vocabulary]) == 0
    said = capsys.readouterr().out
    assert "the author's RAHF (PyTorch)" in said
    assert "vit.pooler.dense.weight left out: never used" in said
    model = read_model(folder)
    assert model.model.config == config
    assert model.vocabulary == (tmp_path / "spiece.model").read_bytes()
    assert (model.settings.prompt_form, model.settings.task_strings) == (WORDS, AUTHOR_TASK_STRINGS)
    np.testing.assert_array_equal(model.params["vit"]["norm"]["scale"], params["vit/norm/scale"])
    assert cli.main(["convert", "--to", "author", str(folder), str(back)]) == 0
    for name, value in read_weights(back).arrays.items():
        wanted = np.zeros_like(state[name]) if "pooler" in name else state[name]
        np.testing.assert_array_equal(value, wanted, err_msg=name)


def test_parts_alone_are_a_file(author, small, fill, tmp_path, capsys):
    config, params, _ = author()
    vit = {path: value for path, value in params.items() if path.startswith("vit/")}
    safetensors.numpy.save_file(vit, tmp_path / "vit.safetensors")
    (tmp_path / "sizes.json").write_text(json.dumps(config_to_json(config)))
    flags = ["convert", str(tmp_path / "vit.safetensors")]
    assert cli.main([*flags, str(tmp_path / "out.safetensors")]) == 2
    assert "without their config.json; give it by --model" in capsys.readouterr().err
    flags += [f"--model={tmp_path / 'sizes.json'}"]
    assert cli.main([*flags, str(tmp_path / "out.safetensors")]) == 0
    assert read_weights(tmp_path / "out.safetensors").arrays.keys() == vit.keys()
    assert cli.main([*flags, str(tmp_path / "folder")]) == 2
    assert "--vocabulary FILE is missing, and there is no" in capsys.readouterr().err
    flags += [f"--vocabulary={tmp_path / 'spiece.model'}"]
    assert cli.main([*flags, str(tmp_path / "folder")]) == 2
    assert "has no visual_token_projection, t5, heatmap_heads, score_heads" in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--from", "hf-vit"], "is the author's RAHF (PyTorch) (author)"),
        (["--from", "autor"], "Did you mean 'author'"),
        (["--to", "onnx"], "--to is 'onnx'; expected one of richhf, author"),
        (["--model", "nowhere"], "--model: there is no file nowhere"),
        (["--model", "{}/list.json"], "list.json holds list; expected values by name"),
        (["--model", "{}/text.json"], "text.json is damaged, it cannot be read as JSON"),
        (["--model", "{}/other.json"], "Expected a config.json of this project"),
        (["--vocabulary", "{}/spiece.model"], "--vocabulary is for a model folder"),
        (["--prompt-length", "100000"], "is 100000; expected 2 to 4096 tokens"),
        (["folder"], "--vocabulary FILE is missing"),
        (["folder", "--vocabulary", "nowhere"], "there is no file nowhere"),
        (["folder", "--vocabulary", "{}/text.json"], "text.json is no SentencePiece model"),
        (["folder", "--vocabulary", "{}/larger.model"], "has 12 pieces, but the model embeds 11"),
        (["folder", "--vocabulary", "{}/other.model"], "ends texts with the id 2, the model with 1"),
    ],
)
def test_wrong_names_are_explained(author, make_vocabulary, tmp_path, capsys, monkeypatch, flags, message):
    author()
    contents = {"list": "[1]", "text": "hello", "other": '{"d_model": 512}'}
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(content)
    (tmp_path / "larger.model").write_bytes(make_vocabulary("abcdefgh"))
    (tmp_path / "other.model").write_bytes(make_vocabulary(eos_id=2))
    out, flags = ("folder", flags[1:]) if flags[0] == "folder" else ("out.safetensors", flags)
    if not message.startswith(("is the author's", "has 12", "ends texts")):
        monkeypatch.setattr(
            "richhf.pretrained.convert.read_weights", None
        )  # It is told before they are read.
    flags = [flag.format(tmp_path) for flag in flags]
    assert cli.main(["convert", str(tmp_path / "author.safetensors"), str(tmp_path / out), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("kind", ["hf-t5", "hf-vit", "big-vision-vit", "t5x-t5"])
def test_sizes_are_read_off_the_arrays(kind, tmp_path):
    vit = dataclasses.replace(VIT, approximate_gelu=kind == "big-vision-vit")
    vit = dataclasses.replace(vit, eps=1e-6 if kind == "big-vision-vit" else 1e-12)
    t5 = T5Config(
        vocab_size=11,
        d_model=12,
        num_heads=3,
        d_kv=5,
        d_ff=14,
        encoder_layers=2,
        decoder_layers=1,
        mlp="gated_gelu",
        tied_logits=False,
        relative_buckets=16,
    )
    width, heads = 128, (2, 64)
    block, layer = "Transformer/encoderblock_{}", "encoder.block.{}.layer"
    shapes = {
        "hf-vit": {
            "embeddings.patch_embeddings.projection.weight": (width, 3, 4, 4),
            "embeddings.position_embeddings": (1, 10, width),
            "encoder.layer.0.intermediate.dense.bias": (12,),
            **{f"encoder.layer.{i}.layernorm_before.weight": (width,) for i in range(2)},
        },
        "big-vision-vit": {
            "embedding/kernel": (4, 4, 3, width),
            "cls": (1, 1, width),
            "Transformer/posembed_input/pos_embedding": (1, 10, width),
            "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel": (width, *heads),
            "Transformer/encoderblock_0/MlpBlock_3/Dense_0/bias": (12,),
            **{f"{block.format(i)}/LayerNorm_0/scale": (width,) for i in range(2)},
        },
        "hf-t5": {
            "shared.weight": (11, 12),
            "lm_head.weight": (11, 12),
            f"{layer.format(0)}.0.SelfAttention.relative_attention_bias.weight": (16, 3),
            f"{layer.format(0)}.0.SelfAttention.q.weight": (15, 12),
            f"{layer.format(0)}.1.DenseReluDense.wi_0.weight": (14, 12),
            **{f"{layer.format(i)}.0.layer_norm.weight": (12,) for i in range(2)},
            "decoder.block.0.layer.0.layer_norm.weight": (12,),
        },
        "t5x-t5": {
            "token_embedder/embedding": (11, 12),
            "encoder/relpos_bias/rel_embedding": (3, 16),
            "encoder/layers_0/attention/query/kernel": (12, 15),
            "encoder/layers_0/mlp/wi_0/kernel": (12, 14),
            **{f"encoder/layers_{i}/mlp/wo/kernel": (14, 12) for i in range(2)},
            "decoder/layers_0/mlp/wo/kernel": (14, 12),
            "decoder/logits_dense/kernel": (12, 11),
        },
    }[kind]
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "w.npz", **{name: rng.normal(size=shape) for name, shape in shapes.items()})
    file = read_weights(tmp_path / "w.npz")
    config = infer_config(file, find_format(file, kind))
    assert (config.vit if "vit" in kind else config.t5) == (vit if "vit" in kind else t5)
    said = {
        "hf-vit": (
            {"num_attention_heads": 4, "hidden_act": APPROXIMATE_GELU, "layer_norm_eps": 1e-6},
            "vit",
        ),
        "hf-t5": ({"relative_attention_max_distance": 64, "layer_norm_epsilon": 1e-5}, "t5"),
    }.get(kind)
    if said:
        (tmp_path / "config.json").write_text(json.dumps(said[0]))
        beside = read_weights(tmp_path / "w.npz")
        told = getattr(infer_config(beside, find_format(beside)), said[1])
        changes = {"vit": dict(num_heads=4, approximate_gelu=True, eps=1e-6)}
        changes["t5"] = dict(relative_max_distance=64, eps=1e-5)
        assert told == dataclasses.replace(getattr(config, said[1]), **changes[said[1]])
        name = next(iter(said[0]))
        with pytest.raises(ValueError, match=f"says {name} '4'; expected a number"):
            infer_config(dataclasses.replace(beside, told={name: "4"}), find_format(beside))
    less = {name: value for name, value in file.arrays.items() if "query" not in name}
    less = {name: value for name, value in less.items() if "shared" not in name and "position" not in name}
    less.pop("encoder/relpos_bias/rel_embedding", None)
    with pytest.raises(ValueError, match="cannot be read: it lacks"):
        infer_config(dataclasses.replace(file, arrays=less), find_format(file, kind))
    for shape in ((), (2,)):
        odd = {name: np.zeros(shape) for name in file.arrays}
        with pytest.raises(ValueError, match=r"the sizes of .*w\.npz .*cannot be read: "):
            infer_config(dataclasses.replace(file, arrays=odd), find_format(file, kind))


@pytest.mark.parametrize("ending", ["safetensors", "SafeTensors", "pt"])
def test_what_the_authors_layout_says_not_is_kept_or_told(tmp_path, capsys, author, ending):
    if ending == "pt":
        pytest.importorskip("torch")
    author()
    source, folder, file = (tmp_path / name for name in ("author.safetensors", "model", f"a.{ending}"))
    vocabulary = f"--vocabulary={tmp_path / 'spiece.model'}"
    assumed = "not said by it, so assumed: prompts of 128 tokens, keywords of 64"
    assert cli.main(["convert", str(source), str(folder), vocabulary]) == 0
    assert assumed in capsys.readouterr().out
    native = read_model(folder)
    settings = dataclasses.replace(
        native.settings, prompt_length=20, see_prompt=False, thresholds={"alignment": 0.5}
    )
    changed = dataclasses.replace(
        native, model=dataclasses.replace(native.model, keyword_length=9), settings=settings
    )
    write_model(folder, changed, card="# Mine\n")
    assert cli.main(["convert", "--to", "author", str(folder), str(file)]) == 0
    lengths = "prompts of 20 tokens, keywords of 9, prompt form 'words'"
    said = f"{lengths}, prompts not seen (see_prompt), thresholds of alignment"
    assert (f"lost in a file of PyTorch (.safetensors keeps it): {said}" in capsys.readouterr().out) == (
        ending == "pt"
    )
    assert cli.main(["convert", str(file), str(tmp_path / "back"), vocabulary]) == 0
    assert (assumed in capsys.readouterr().out) == (ending == "pt")
    back = read_model(tmp_path / "back")
    if ending != "pt":
        assert (back.model, back.settings.thresholds) == (changed.model, settings.thresholds)
        assert (back.settings.prompt_length, back.settings.see_prompt) == (20, False)
        assert "thresholds are those that came with them" in (tmp_path / "back/README.md").read_text()


def test_a_prompt_length_is_not_asked_of_a_file_that_cannot_keep_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    flags = ["convert", "--to", "author", str(SHIPPED["synthetic-tiny"]), "--prompt-length", "20"]
    assert cli.main([*flags, str(tmp_path / "x.pt")]) == 2
    assert "--prompt-length is not kept in" in capsys.readouterr().err


def test_a_config_of_something_else_beside_a_file(tmp_path):
    """It is read only for formats that have one, and what to do with it is said."""
    (tmp_path / "config.json").write_text("{not JSON")
    names = {"Transformer/encoderblock_0/LayerNorm_0/scale": np.ones(4)}
    np.savez(tmp_path / "vit.npz", **names)
    file = read_weights(tmp_path / "vit.npz")
    with pytest.raises(ValueError, match="it lacks embedding/kernel"):
        infer_config(file, find_format(file))
    np.savez(tmp_path / "t5.npz", **{"encoder.block.0.layer.0.SelfAttention.q.weight": np.ones((4, 4))})
    file = read_weights(tmp_path / "t5.npz")
    with pytest.raises(ValueError, match=r"config\.json is damaged.* move it away"):
        infer_config(file, find_format(file))


def test_a_model_keeps_what_it_says_of_itself_as_folder_and_as_file(tmp_path):
    shipped, copy = SHIPPED["synthetic-tiny"], tmp_path / "copy"
    assert cli.main(["convert", str(shipped), str(copy)]) == 0
    assert cli.main(["convert", str(copy), str(tmp_path / "x.safetensors"), "--prompt-length", "20"]) == 0
    back = ["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "back")]
    assert cli.main([*back, f"--vocabulary={shipped / 'vocabulary.model'}"]) == 0
    assert (copy / "README.md").read_text() == (shipped / "README.md").read_text()
    theirs = read_model(shipped)
    for folder, length in (("copy", 36), ("back", 20)):
        ours = read_model(tmp_path / folder)
        provenance = {
            **theirs.settings.provenance,
            "converted_from": "parameters of this project",
            "notes": [],
        }
        expected = dataclasses.replace(theirs.settings, prompt_length=length, provenance=provenance)
        assert (ours.model, ours.settings, ours.vocabulary) == (theirs.model, expected, theirs.vocabulary)
    assert (tmp_path / "x.safetensors").stat().st_mode == (copy / "config.json").stat().st_mode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "looks like a file"),
        ("model.safetensor", "looks like a file"),
        ("notes.txt", "notes.txt is there already, and nothing is written over"),
        ("old.safetensors", "old.safetensors is there already"),
        ("dangling", "dangling is there already"),
        ("project", "project is there already and holds 'README.md'"),
        ("project.safetensors", "project.safetensors is there already"),
        ("notes.txt/model", "notes.txt is no folder"),
        ("link", "SRC and DST are one"),
    ],
)
def test_nothing_is_written_over_or_read_in_vain(tmp_path, capsys, monkeypatch, name, message):
    for file in ("notes.txt", "old.safetensors", "project/README.md"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("mine")
    (tmp_path / "project.safetensors").mkdir()
    (tmp_path / "link").symlink_to(SHIPPED["synthetic-tiny"])
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("richhf.pretrained.convert.read_weights", None)
    assert cli.main(["convert", str(SHIPPED["synthetic-tiny"]), str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_torch_is_asked_for_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("richhf.pretrained.convert.read_weights", None)
    source = str(SHIPPED["synthetic-tiny"])
    assert cli.main(["convert", "--to", "author", source, str(tmp_path / "x.pt")]) == 2
    assert "pip install torch, or let DST end in" in capsys.readouterr().err
