"""Files of every format, made here from our own parameters by the way out, or as the format's sources say."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy
from flax import serialization, traverse_util

from richhf.feedback import VARIANTS
from richhf.models import stack_layers
from richhf.pretrained import (
    WeightsError,
    author_table,
    export_params,
    find_format,
    hugging_face_t5,
    hugging_face_vit,
    import_weights,
    read_weights,
)
from richhf.pretrained.formats import normalize, part_of

V1_1 = {"mlp": "gated_gelu", "tied_logits": False}


def save(path, arrays, config=None):
    path.mkdir()
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()}, path / "model.safetensors"
    )
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return read_weights(path)


def below(params, part):
    return {path.removeprefix(f"{part}/"): value for path, value in params.items() if part_of(path) == part}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_authors_layout(small, target, fill, tmp_path, variant):
    config, shapes = dataclasses.replace(small, variant=variant), target(variant=variant)
    params = fill(shapes)
    state = export_params(author_table(config), params, "ours")
    head = "heatmap_predictor.implausibility." if variant == "multi_head" else "heatmap_predictor."
    assert state[f"{head}conv_layers.2.scale"].shape == (6, 1, 1)
    assert state[f"{head}deconv_layers.0.0.weight"].shape == (6, 5, 3, 3)
    assert state["t5.lm_head.weight"].shape == state["t5.encoder.embed_tokens.weight"].shape == (11, 12)
    assert state["vit.pooler.dense.weight"].shape == (8, 8)
    file = save(tmp_path / "author", state)
    assert find_format(file).name == "author"
    found = import_weights(file, config, shapes)
    assert_same(found.params, params)
    assert {note.split(":")[0] for note in found.notes} == {
        "vit.pooler.dense.weight left out",
        "vit.pooler.dense.bias left out",
    }
    with pytest.raises(WeightsError, match="d_model is 5 there and 12 in this model"):
        import_weights(dataclasses.replace(file, told={"d_model": 5}), config, shapes)
    only = import_weights(file, config, shapes, parts=["vit"])
    assert {part_of(path) for path in only.params} == {"vit"}


def test_the_authors_layout_is_not_given_to_what_computes_something_else(small):
    for changes in ({"encode_class_token": False}, {"decoder_attends_to": "image_and_text"}):
        with pytest.raises(ValueError, match=f"something else than the author's.*{next(iter(changes))}"):
            author_table(dataclasses.replace(small, **changes))


@pytest.mark.parametrize("t5", [{}, V1_1], ids=["v1.0", "v1.1"])
def test_t5_of_hugging_face(small, target, fill, tmp_path, t5):
    config = dataclasses.replace(small, t5=dataclasses.replace(small.t5, **t5))
    shapes = target(t5=config.t5)
    params = {path: value for path, value in fill(shapes).items() if part_of(path) == "t5"}
    state = export_params(hugging_face_t5(config.t5), below(params, "t5"), "ours")
    assert np.array_equal(state["lm_head.weight"], state["shared.weight"]) == (not t5)
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    said = {"num_heads": 3, "d_kv": 5, "layer_norm_epsilon": 1e-5}
    file = save(tmp_path / "t5", state | {unread: np.ones((32, 3))}, said)
    found = import_weights(file, config, shapes)
    assert_same(found.params, params)
    assert any(note.startswith(f"{unread} left out") for note in found.notes)
    assert any("layer_norm_epsilon: 1e-05" in note for note in found.notes)
    with pytest.raises(WeightsError, match="num_heads is 4 there and 3 in this model"):
        import_weights(dataclasses.replace(file, told=said | {"num_heads": 4}), config, shapes)
    with pytest.raises(WeightsError, match=r"T5 of Hugging Face.* has no vit; it has t5"):
        import_weights(file, config, shapes, parts=["vit"])


def test_v1_0_refuses_logits_of_their_own(small, target, fill, tmp_path):
    shapes = target()
    state = export_params(hugging_face_t5(small.t5), below(fill(shapes), "t5"), "ours")
    file = save(tmp_path / "t5", state | {"lm_head.weight": state["shared.weight"] + 1})
    with pytest.raises(WeightsError, match=r"not equal: shared\.weight and lm_head\.weight"):
        import_weights(file, small, shapes)


T5X = {
    "embedding/embedding": "token_embedder/embedding",
    "encoder/position_bias/embedding": "encoder/relpos_bias/rel_embedding",
    "decoder/position_bias/embedding": "decoder/relpos_bias/rel_embedding",
    "encoder/norm/scale": "encoder/encoder_norm/scale",
    "decoder/norm/scale": "decoder/decoder_norm/scale",
    "logits_dense/kernel": "decoder/logits_dense/kernel",
}
T5X_PARTS = (
    ("/mlp/norm/", "/pre_mlp_layer_norm/"),
    ("/mlp/outward/", "/mlp/wo/"),
    ("/memory_norm/", "/pre_cross_attention_layer_norm/"),
    ("/memory_attention/", "/encoder_decoder_attention/"),
)


def t5x_name(path, gated):
    """The name in `t5x/examples/t5/network.py`, written here once more by hand."""
    if path in T5X:
        return T5X[path]
    for ours, theirs in T5X_PARTS:
        path = path.replace(ours, theirs)
    path = path.replace("/mlp/inward/", "/mlp/wi_1/" if gated else "/mlp/wi/").replace("/gate/", "/wi_0/")
    if path.startswith("encoder"):
        return path.replace("/norm/", "/pre_attention_layer_norm/")
    return path.replace("/norm/", "/pre_self_attention_layer_norm/").replace(
        "/attention/", "/self_attention/"
    )


@pytest.mark.parametrize("t5", [{}, V1_1], ids=["v1.0", "v1.1"])
def test_t5_of_t5x(small, target, fill, tmp_path, t5):
    config = dataclasses.replace(small, t5=dataclasses.replace(small.t5, **t5))
    shapes = target(t5=config.t5)
    params = {path: value for path, value in fill(shapes).items() if part_of(path) == "t5"}
    named = {t5x_name(path, bool(t5)): value for path, value in below(params, "t5").items()}
    named |= {name: value.T for name, value in named.items() if "rel_embedding" in name}
    tree = traverse_util.unflatten_dict(named, sep="/")
    content = {"version": 3, "optimizer": {"target": tree, "state": {"step": np.int32(5)}}}
    folder = tmp_path / "checkpoint_5"
    folder.mkdir()
    (folder / "checkpoint").write_bytes(serialization.to_bytes(content))
    file = read_weights(tmp_path)
    assert find_format(file).name == "t5x-t5"
    assert_same(import_weights(file, config, shapes).params, params)


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_vit_of_hugging_face(small, target, fill, tmp_path, prefix):
    shapes = target()
    params = {path: value for path, value in fill(shapes).items() if part_of(path) == "vit"}
    state = export_params(hugging_face_vit(small.vit), below(params, "vit"), "ours")
    state = {prefix + name: value for name, value in state.items()} | {"classifier.weight": np.ones((2, 8))}
    file = save(tmp_path / "vit", state, {"num_attention_heads": 2, "hidden_act": "gelu"})
    found = import_weights(file, small, shapes)
    assert_same(found.params, params)
    assert found.notes == ("classifier.weight left out: the head of a classifier",)
    for changes, message in (
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new' there and 'gelu' in this model"),
        ({"hidden_size": 16}, "hidden_size is 16 there and 8 in this model"),
    ):
        with pytest.raises(WeightsError, match=message):
            import_weights(dataclasses.replace(file, told=changes), small, shapes)


def test_the_blocks_of_big_vision_may_be_stacked(tmp_path):
    names = ("params/Transformer/{}/LayerNorm_0/scale", "params/Transformer/{}/MlpBlock_0/Dense_0/kernel")
    rng = np.random.default_rng(0)
    stacks = {names[0]: rng.normal(size=(3, 4)), names[1]: rng.normal(size=(3, 4, 5))}
    others = {"params/cls": np.ones(1), "params/Transformer/encoderblock/step": np.array(3.0)}
    arrays = {name.format("encoderblock"): value for name, value in stacks.items()} | others
    file = dataclasses.replace(save(tmp_path / "vit", arrays), arrays=arrays)  # It makes scalars rows of one.
    found = find_format(file)
    assert found.name == "big-vision-vit"
    blocks = {name.format(f"encoderblock_{i}"): value[i] for name, value in stacks.items() for i in range(3)}
    expected = {name.removeprefix("params/"): value for name, value in (blocks | others).items()}
    assert_same(normalize(file, found).arrays, expected)


def test_a_model_without_class_token_and_of_another_size(small, target, fill, tmp_path):
    state = export_params(hugging_face_vit(small.vit), below(fill(target()), "vit"), "ours")
    vit = dataclasses.replace(small.vit, class_token=False, image_size=20)
    config = dataclasses.replace(small, vit=vit, encode_class_token=False)
    found = import_weights(save(tmp_path / "vit", state), config, target(vit=vit, encode_class_token=False))
    assert found.params["vit/position_embedding"].shape == (25, 8)
    assert "vit/class_token" not in found.params
    assert found.notes == (
        "vit/position_embedding: 10 positions made 25 (resampled, or a class token's dropped)",
        "embeddings.cls_token left out: the model has no class token (ViTConfig.class_token)",
    )


def test_parameters_of_ours_stacked_or_not(small, target, fill, tmp_path):
    shapes = target()
    params = fill(shapes)
    nested = traverse_util.unflatten_dict(params, sep="/")
    stacked = traverse_util.flatten_dict(stack_layers(nested), sep="/")
    for name, arrays in (("one", params), ("stacked", {k: np.asarray(v) for k, v in stacked.items()})):
        file = save(tmp_path / name, arrays)
        assert find_format(file).name == "richhf"
        assert_same(import_weights(file, small, shapes).params, params)
    vit = {path: value for path, value in params.items() if part_of(path) == "vit"}
    found = import_weights(save(tmp_path / "vit", vit), small, shapes)
    assert_same(found.params, vit)
    del vit["vit/norm/scale"]
    with pytest.raises(WeightsError, match="missing: vit/norm/scale"):
        import_weights(save(tmp_path / "less", vit), small, shapes)


def test_unknown_formats_say_what_was_found(tmp_path):
    file = save(tmp_path / "x", {"bert.embeddings": np.ones(2), "bert.norm": np.ones(1)})
    with pytest.raises(ValueError, match=r"of no known format: 2 arrays, named bert\.embeddings, bert\.norm"):
        find_format(file)
    with pytest.raises(ValueError, match=r"'hf-t4' is no format.*Did you mean 'hf-t5'"):
        find_format(file, "hf-t4")
