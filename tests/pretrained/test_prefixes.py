"""Names with what training tools put before them, in files of every format."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from richhf.pretrained import (
    WeightFile,
    author_table,
    export_params,
    find_format,
    hugging_face_t5,
    hugging_face_vit,
    import_weights,
    t5x_t5,
)
from richhf.pretrained.formats import FORMATS, part_of
from richhf.pretrained.sizes import infer_config

PREFIXES = ("module.", "_orig_mod.", "model.")
NESTED = ["".join(names) for count in (1, 2, 3) for names in itertools.permutations(PREFIXES, count)]
SLASHES = ("params/", "opt/target/", "optimizer/target/", "model/")


def big_vision(params, heads):
    """The arrays of a ViT by big_vision's names; export has no way there."""
    names = {
        "patch_embedding/": "embedding/",
        "norm/": "Transformer/encoder_norm/",
        "attention_norm/": "LayerNorm_0/",
        "mlp_norm/": "LayerNorm_1/",
        "attention/": "MultiHeadDotProductAttention_0/",
        "mlp_in/": "MlpBlock_0/Dense_0/",
        "mlp_out/": "MlpBlock_0/Dense_1/",
    }
    result = {}
    for path, value in params.items():
        block, _, rest = path.partition("/") if path.startswith("block_") else ("", "", path)
        name = next(
            (new + rest.removeprefix(old) for old, new in names.items() if rest.startswith(old)), rest
        )
        name = f"Transformer/encoder{block}/{name}" if block else name
        name = {"position_embedding": "pos_embedding", "class_token": "cls"}.get(name, name)
        if path == "patch_embedding/kernel":
            value = value.reshape(4, 4, 3, -1)
        elif name in ("pos_embedding", "cls"):
            value = value.reshape(1, -1, value.shape[-1])
        elif "/attention/out/kernel" in path:
            value = value.reshape(heads, -1, value.shape[-1])
        elif "/attention/" in path and "/out/" not in path:
            value = value.reshape(*value.shape[:-1], heads, -1)
        result[name] = value
    return result


@pytest.fixture(scope="module")
def files(small, shapes, fill):
    """For each format: arrays by its names, and the parameters that they are."""
    params = fill(shapes)
    own = {
        part: {path.removeprefix(f"{part}/"): x for path, x in params.items() if part_of(path) == part}
        for part in ("vit", "t5")
    }
    above = {part: {f"{part}/{path}": x for path, x in values.items()} for part, values in own.items()}
    heads = small.vit.num_heads
    return {
        "author": (export_params(author_table(small), params, "ours"), params),
        "hf-t5": (export_params(hugging_face_t5(small.t5), own["t5"], "ours"), above["t5"]),
        "t5x-t5": (export_params(t5x_t5(small.t5), own["t5"], "ours"), above["t5"]),
        "hf-vit": (export_params(hugging_face_vit(small.vit), own["vit"], "ours"), above["vit"]),
        "big-vision-vit": (big_vision(own["vit"], heads), above["vit"]),
        "richhf": (params, params),
    }


def read(arrays):
    return WeightFile(Path("made here"), arrays)


@pytest.fixture(scope="module")
def shapes(target):
    return target()


def assert_imports(arrays, format_name, small, shapes, params):
    file = read(arrays)
    assert find_format(file).name == format_name
    found = import_weights(file, small, shapes)
    assert found.params.keys() == params.keys()
    for path, value in params.items():
        np.testing.assert_array_equal(found.params[path], value, err_msg=path)
    return found.notes


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_prefix_is_dropped_in_every_format(files, small, shapes, format_name):
    arrays, params = files[format_name]
    plain = assert_imports(arrays, format_name, small, shapes, params)
    for prefix in (*NESTED, *SLASHES, "model._orig_mod.module.", "net.", "backbone."):
        prefixed = {prefix + name: value for name, value in arrays.items()}
        notes = assert_imports(prefixed, format_name, small, shapes, params)
        assert set(plain) <= set(notes)
        assert (f"names begin with {prefix!r}" in notes) == (prefix == "backbone.")


@pytest.mark.parametrize("format_name", ["author", "hf-t5", "hf-vit", "big-vision-vit", "t5x-t5"])
def test_sizes_are_read_below_a_prefix(files, small, format_name):
    arrays, _ = files[format_name]
    if format_name == "hf-vit":
        arrays = {f"vit.{name}": value for name, value in arrays.items()}
    config = {"num_attention_heads": small.vit.num_heads}
    plain, prefixed = (
        dataclasses.replace(read({prefix + name: x for name, x in arrays.items()}), told=config)
        for prefix in ("", "model._orig_mod.module.")
    )
    found = FORMATS[format_name]
    assert infer_config(prefixed, found) == infer_config(plain, found)


def test_tools_may_wrap_a_part_of_the_network(files, small, shapes):
    arrays, params = files["author"]
    arrays = {
        name.replace("vit.", "vit._orig_mod.").replace("t5.", "t5.module."): x for name, x in arrays.items()
    }
    assert_imports(arrays, "author", small, shapes, params)


def test_what_lies_beside_the_network_is_left_out_and_said(files, small, shapes):
    arrays, params = files["author"]
    lightning = {f"model.{name}": x for name, x in arrays.items()}
    lightning |= {f"ema_model.{name}": x + 1 for name, x in arrays.items()}
    lightning |= {"loss.lpips.weight": np.ones(2), "loss.scale": np.ones(2), "step": np.array(3)}
    notes = assert_imports(lightning, "author", small, shapes, params)
    assert f"ema_model.* left out: another copy of the network, {len(arrays)} arrays" in notes
    assert "loss.* (2), step left out: not below 'model.'" in notes
    averaged = {f"module.{name}": x for name, x in arrays.items()} | {"n_averaged": np.array(3)}
    notes = assert_imports(averaged, "author", small, shapes, params)
    assert "n_averaged left out: a single number" in notes
    beside = arrays | {f"ema.{name}": x + 1 for name, x in arrays.items()}
    assert_imports(beside, "author", small, shapes, params)


def test_which_copy_is_meant_is_not_guessed(files, small, shapes):
    arrays, _ = files["hf-t5"]
    for names in (("student.", "teacher."), ("", "model.")):
        copies = {prefix + name: x for prefix in names for name, x in arrays.items()}
        with pytest.raises(ValueError, match=r"has 2 copies of T5 of Hugging Face.*save that one alone"):
            import_weights(read(copies), small, shapes)
    twice = arrays | {f"module.{name}": x for name, x in arrays.items()}
    with pytest.raises(ValueError, match=r"has both .* and module\..*, which are one array of the network"):
        import_weights(read(twice), small, shapes)
    both = {f"t5.{name}": x for name, x in arrays.items()}
    both |= {f"vit.{name}": x for name, x in files["hf-vit"][0].items()}
    with pytest.raises(ValueError, match=r"several networks, T5 of Hugging Face and ViT of Hugging"):
        find_format(read(both))
    assert find_format(read(both), "hf-t5").name == "hf-t5"


def test_what_is_below_the_prefix_is_strict(files, small, shapes):
    arrays, _ = files["hf-t5"]
    more = {f"model.{name}": x for name, x in arrays.items()} | {"model.adapter.weight": np.ones(2)}
    with pytest.raises(ValueError, match=r"1 not used(?s:.*)not used: adapter\.weight \(2,\)"):
        import_weights(read(more), small, shapes)
