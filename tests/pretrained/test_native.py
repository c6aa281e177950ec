"""The native folder gives back what was written, and says what is wrong with one that is not whole."""

import dataclasses
import hashlib
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util

from richhf.feedback import Rule
from richhf.models import (
    HeatmapHeadConfig,
    RAHFConfig,
    RichFeedbackModel,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
    stack_layers,
)
from richhf.models.choices import CPU
from richhf.pretrained.model_config import config_from_json, config_to_json
from richhf.pretrained.native import (
    COMPUTED,
    NativeModel,
    Settings,
    describe_model,
    parameter_shapes,
    read_description,
    read_model,
    write_model,
)

SUMMED = ("model.safetensors", "vocabulary.model")
CONFIG = RAHFConfig(
    variant="augmented_prompt",
    vit=ViTConfig(image_size=8, patch_size=4, width=6, depth=2, num_heads=2, mlp_width=8, stem_widths=(4,)),
    t5=T5Config(vocab_size=20, d_model=8, num_heads=2, d_kv=4, d_ff=8, encoder_layers=2, decoder_layers=2),
    heatmap_head=HeatmapHeadConfig(conv_widths=(4,), deconv_widths=(4,), residual_convs=0, final_width=4),
    score_head=ScoreHeadConfig(conv_widths=(4,), dense_widths=(5,)),
    word_head=True,
)
SETTINGS = Settings(
    prompt_length=12,
    see_prompt=False,
    thresholds={"implausibility": 0.25},
    rules=(Rule("has_artifact", {"implausibility peak": 1.5, "implausibility area": 0.0}, -0.5, 0.4),),
    calibration={"examples": 7, "balance": "equal"},
    demonstration="it has random weights.",
    provenance={"steps": 3, "data": ["a", "b"]},
)


@pytest.fixture
def make_model(make_vocabulary):
    def make(**changes) -> NativeModel:
        model = RichFeedbackModel(dataclasses.replace(CONFIG, **changes), keyword_length=9)
        rng = np.random.default_rng(0)
        dtype = np.dtype(model.config.param_dtype)
        shapes = parameter_shapes(model.config)
        flat = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        return NativeModel(model, traverse_util.unflatten_dict(flat, sep="/"), make_vocabulary(), SETTINGS)

    return make


@pytest.fixture
def folder(make_model, tmp_path):
    return write_model(tmp_path / "model", make_model(), card="# A model\n")


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16", "float16"])
def test_a_model_comes_back_as_it_was(make_model, tmp_path, param_dtype):
    native = make_model(param_dtype=param_dtype)
    found = read_model(write_model(tmp_path / "model", native, card="# A model\n"))
    assert (found.model, found.vocabulary, found.settings) == (native.model, native.vocabulary, SETTINGS)
    jax.tree.map(np.testing.assert_array_equal, found.params, native.params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found.params)} == {param_dtype}
    assert (tmp_path / "model/README.md").read_text() == "# A model\n"


def test_layers_are_kept_one_by_one_and_stacked_for_a_model_that_scans(make_model, tmp_path):
    native = make_model()
    model = dataclasses.replace(native.model, config=dataclasses.replace(CONFIG, scan_layers=True))
    stacked = stack_layers(native.params)
    scanning = dataclasses.replace(native, model=model, params=stacked)
    found = read_model(write_model(tmp_path / "scanning", scanning, card=""))
    jax.tree.map(np.testing.assert_array_equal, found.params, jax.tree.map(np.asarray, stacked))
    write_model(tmp_path / "plain", native, card="")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("scanning", "plain")]
    assert weights[0] == weights[1]


def test_weights_of_another_width_become_the_models(make_model, tmp_path):
    native = make_model()
    half = dataclasses.replace(
        native, params=jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), native.params)
    )
    found = read_model(write_model(tmp_path / "model", half, card=""))
    for leaf, expected in zip(jax.tree.leaves(found.params), jax.tree.leaves(half.params), strict=True):
        np.testing.assert_array_equal(leaf, expected.astype(np.float32))


def test_every_default_is_written_out(folder):
    sizes = json.loads((folder / "config.json").read_text())["model"]
    names = [field.name for field in dataclasses.fields(RAHFConfig) if field.name != COMPUTED]
    assert list(sizes) == names
    assert sizes["t5"]["relative_max_distance"] == T5Config().relative_max_distance
    assert config_from_json(RAHFConfig, json.loads(json.dumps(config_to_json(CONFIG)))) == CONFIG


def test_how_a_model_is_computed_is_no_part_of_it(folder):
    """Folders of before name it otherwise."""
    model, settings = read_model(folder).model, read_model(folder).settings
    config = json.loads((folder / "config.json").read_text())
    old = config | {"model": config["model"] | {"convolution": "winograd"}}
    assert read_description(old, "x")[0] == model
    quick = dataclasses.replace(model, config=dataclasses.replace(model.config, optimize_for=CPU))
    assert describe_model(quick, settings) == describe_model(model, settings)


def test_a_folder_from_before_rules_keeps_its_thresholds(folder):
    config = json.loads((folder / "config.json").read_text())
    for name in ("rules", "calibration", "demonstration"):
        del config[name]
    _, settings = read_description(config, "x")
    assert settings == dataclasses.replace(SETTINGS, rules=(), calibration={}, demonstration="")


def test_writing_again_replaces_the_model_and_leaves_other_files(make_model, make_vocabulary, folder):
    (folder / "notes.txt").write_text("mine")
    other = dataclasses.replace(make_model(), vocabulary=make_vocabulary("ab"))
    write_model(folder, other, card="")
    assert read_model(folder).vocabulary == other.vocabulary
    assert (folder / "notes.txt").read_text() == "mine"


def test_parameters_of_another_model_are_not_written(make_model, tmp_path):
    native = make_model()
    params = {**native.params, "extra": {"kernel": np.zeros((1, 2))}}
    params.pop("word_head")
    with pytest.raises(ValueError, match=r"missing: word_head/bias \(1,\)\n.*\n.*extra/kernel \(1, 2\)"):
        write_model(tmp_path / "model", dataclasses.replace(native, params=params), card="")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.model"])
def test_a_folder_that_is_not_whole_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"is not whole: {name} missing"):
        read_model(folder)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no model folder"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.model"])
@pytest.mark.parametrize("damage", [lambda x: x[:-3], lambda x: x[:-1] + bytes([x[-1] ^ 1])])
def test_a_damaged_file_is_named(folder, name, damage):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        read_model(folder)


def test_a_file_that_was_never_whole_is_named(folder):
    (folder / "model.safetensors").write_bytes(b"junk")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SUMMED}
    edit(folder, sha256=digests)
    with pytest.raises(ValueError, match="safetensors is damaged"):
        read_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(format_version=2), "version 2; this version of richhf reads up to 1"),
        (dict(format="other"), "describes no model"),
        (dict(image_size=16), "image_size is 16, but that of the model is 8"),
        (dict(prompt_length="12"), "prompt_length is '12'; expected int"),
        (dict(prompt_length=1), "prompt_length is 1; expected 2 to 4096"),
        (dict(prompt_length=10**9), "prompt_length is 1000000000; expected 2 to 4096"),
        (dict(keyword_length=0), "keyword_length is 0; expected 1 to 4096"),
        (dict(keyword_length=10**9), "keyword_length is 1000000000; expected 1 to 4096"),
        (dict(eos_id=20), "eos_id is 20; expected 1 to 19"),
        (dict(eos_id=-1), "eos_id is -1; expected 1 to 19"),
        (dict(eos_id=2), "vocabulary.model ends texts with the id 1, the model with 2"),
        (dict(thresholds={"implausibility": 25}), "threshold of implausibility is 25"),
        (dict(thresholds={"implausible": 0.5}), "'implausible'; expected one of .*Did you mean 'implausib"),
        (dict(rules={}), "rules is {}; expected a list"),
        (dict(rules=[{"verdict": "has_artifact"}]), "expected an object with verdict, weights, bias"),
        (dict(calibration=3), "calibration is 3; expected values by name"),
        (dict(demonstration=True), "demonstration is True; expected a sentence"),
        (dict(sha256={}), "sha256 is of nothing; expected model.safetensors and vocabulary.model"),
        (dict(sha256={"vocabulary.model": ""}), "sha256 is of vocabulary.model; expected"),
        (dict(model={"vitt": {}}), "'vitt'.*Did you mean 'vit'"),
        (dict(model={"vit": {"depth": 1.5}}), "model.vit.depth is 1.5; expected int"),
        (dict(model={"score_head": {"dense_widths": 5}}), "dense_widths is 5; expected a list"),
        (dict(model={"remat": "some"}), "remat is 'some'"),
        (dict(model={"vit": {"patch_size": 0}}), "json: ViTConfig.patch_size is 0; expected 1 or more"),
        (dict(model={"vit": {"stem_widths": [4, 0]}}), r"stem_widths is \(4, 0\); expected 1 or more"),
        (dict(model={"vit": {"dropout": 2.0}}), "ViTConfig.dropout is 2.0; expected 0 or more and below 1"),
        (dict(model={"t5": {"num_heads": 0}}), "T5Config.num_heads is 0; expected 1 or more"),
        (dict(model={"t5": {"neighbour_heads": 13}}), "neighbour_heads is 13; expected 0 .* below 13"),
        (dict(model={"t5": {"relative_buckets": 1}}), "relative_buckets is 1; expected 4 or more"),
        (dict(model={"t5": {"relative_max_distance": 16}}), "max_distance is 16; expected 17 or more"),
        (dict(model={"t5": {"eps": float("nan")}}), "T5Config.eps is nan; expected 0 or more"),
        (dict(model={"heatmap_head": {"residual_convs": -1}}), "residual_convs is -1; expected 0 or more"),
        (dict(model={"score_head": {"kernel": 0}}), "ScoreHeadConfig.kernel is 0; expected 1 or more"),
    ],
)
def test_a_wrong_description_is_explained(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        read_model(folder)


def test_weights_of_another_size_are_listed(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["t5"]["d_ff"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"inward/kernel has shape \(8, 8\), the model's is \(8, 16\)"):
        read_model(folder)
