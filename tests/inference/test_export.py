"""Each format is loaded by a process without this package's code, and predicts there what the model does."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from flax import traverse_util

from richhf.inference import export_onnx
from richhf.inference.export import FORMATS, check_same, export_model
from richhf.inference.export_folder import FILES, check_replaceable
from richhf.inference.export_onnx import plain
from richhf.inference.export_signature import flat_weights, jax_predict, need, random_inputs
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
from richhf.pretrained.native import NativeModel, Settings, parameter_shapes, read_model

CONFIG = RAHFConfig(
    vit=ViTConfig(image_size=8, patch_size=4, width=6, depth=2, num_heads=2, mlp_width=8, stem_widths=(4,)),
    t5=T5Config(vocab_size=20, d_model=8, num_heads=2, d_kv=4, d_ff=8, encoder_layers=2, decoder_layers=2),
    heatmap_head=HeatmapHeadConfig(conv_widths=(4,), deconv_widths=(4,), residual_convs=1, final_width=4),
    score_head=ScoreHeadConfig(conv_widths=(4,), dense_widths=(5,)),
    word_head=True,
)
VARIANTS = {
    "multi_head": dict(variant="multi_head"),
    "augmented_prompt": dict(variant="augmented_prompt", decoder_attends_to="text"),
}
BATCHES = (1, 3)

# What a user's program does: folders, then inputs, on its command line; no other module of this project.
LOAD = {
    "stablehlo": """
        exported = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
        weights = dict(np.load(folder / "weights.npz"))
        return lambda image, tokens: exported.call(weights, image, tokens)
    """,
    "saved_model": """
        loaded = tf.saved_model.load(str(folder))
        def predict(image, tokens):
            found = loaded.signatures["serving_default"](
                image=tf.constant(image), encoder_input_tokens=tf.constant(tokens)
            )
            return [found[name].numpy() for name in ("scores", "heatmaps", "keyword_tokens")]
        return predict
    """,
    "onnx": """
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        assert [x.name for x in session.get_outputs()] == ["scores", "heatmaps", "keyword_tokens"]
        return lambda image, tokens: session.run(None, {"image": image, "encoder_input_tokens": tokens})
    """,
}
IMPORT = {"stablehlo": "jax, jax.export", "saved_model": "tensorflow as tf", "onnx": "onnxruntime"}
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import {imported}
def load(folder):
{load}
root = Path(sys.argv[1])
for variant in sys.argv[2:]:
    predict = load(root / variant)
    for file in sorted(root.parent.glob(f"{{variant}}-*.npz")):
        inputs = np.load(file)
        found = predict(inputs["image"], inputs["tokens"])
        np.savez(root / file.name, *map(np.asarray, found))
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & {{"richhf", "jax", "tensorflow", "flax"}}))
"""


def make_model(vocabulary=b"pieces", **changes) -> NativeModel:
    model = RichFeedbackModel(dataclasses.replace(CONFIG, **changes), keyword_length=9)
    rng = np.random.default_rng(1)
    dtype = np.dtype(model.config.param_dtype)
    shapes = parameter_shapes(model.config)
    flat = {name: rng.normal(0, 0.5, shape).astype(dtype) for name, shape in shapes.items()}
    params = traverse_util.unflatten_dict(flat, sep="/")
    if model.config.scan_layers:
        params = stack_layers(params)
    settings = Settings(prompt_length=12, thresholds={"implausibility": 0.25}, provenance={"step": 3})
    return NativeModel(model, params, vocabulary, settings)


@pytest.fixture(scope="module")
def models(make_vocabulary):
    return {name: make_model(make_vocabulary(), **changes) for name, changes in VARIANTS.items()}


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    """Inputs of both batch sizes for each variant."""
    folder = tmp_path_factory.mktemp("exports")
    for name, native in models.items():
        for batch in BATCHES:
            image, tokens = random_inputs(native, batch, seed=batch)
            np.savez(folder / f"{name}-{batch}.npz", image=image, tokens=tokens)
    return folder


@pytest.fixture(scope="module")
def expected(models):
    predict = {name: jax_predict(native) for name, native in models.items()}
    return {
        f"{name}-{batch}": predict[name](*random_inputs(models[name], batch, seed=batch))
        for name in models
        for batch in BATCHES
    }


@pytest.mark.parametrize("file_format", LOAD)
def test_a_process_without_our_code_predicts_the_same(file_format, models, folder, expected, tmp_path):
    root = folder / file_format
    for name, native in models.items():
        (root / name).mkdir(parents=True)
        FORMATS[file_format][0](root / name, native)
    program = PROGRAM.format(imported=IMPORT[file_format], load=LOAD[file_format])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program, root, *models],
        cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    # TensorFlow imports JAX itself, where it is installed.
    needed = {"stablehlo": ["jax"], "saved_model": ["jax", "tensorflow"], "onnx": []}
    assert done.stdout.split() == needed[file_format]
    ends = set()
    for name, arrays in expected.items():
        with np.load(root / f"{name}.npz") as file:
            found = [file[f"arr_{i}"] for i in range(3)]
        for one, other in zip(found, arrays, strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            # Sums in another order: float32, some hundred terms.
            np.testing.assert_allclose(one, other, atol=1e-5)
        ends |= {int((row > 0).sum()) for row in found[2]}
    assert len(ends) > 1, "all rows have as many keywords: the loop's end was not tried"


def test_the_signature_says_what_goes_in_and_what_comes_out(models, tmp_path):
    native = models["augmented_prompt"]
    FORMATS["stablehlo"][0](tmp_path, native)
    found = json.loads((tmp_path / "signature.json").read_text())
    assert found["inputs"][1] == {"name": "encoder_input_tokens", "dtype": "int32", "shape": ["b", 7, 12]}
    assert found["outputs"][1] == {"name": "heatmaps", "dtype": "float32", "shape": ["b", 2, 8, 8]}
    assert found["prompt_prefixes"][2:4] == ["plausibility score: ", "alignment score: "]
    assert (found["scores"][0], found["thresholds"]) == ("plausibility", {"implausibility": 0.25})
    assert (tmp_path / "vocabulary.model").read_bytes() == native.vocabulary


def test_onnx_takes_a_model_of_another_width_that_scans(tmp_path):
    """It is computed in float32 there, from the same numbers."""
    native = make_model(scan_layers=True, remat="blocks", dtype="bfloat16", param_dtype="bfloat16")
    assert {x.dtype.name for x in flat_weights(native).values()} == {"float32"}
    FORMATS["onnx"][0](tmp_path, native)
    inputs = random_inputs(native, 2)
    expected = jax_predict(plain(native))(*inputs)
    assert check_same(FORMATS["onnx"][1](tmp_path)(*inputs), expected, "float32") < 1e-5
    assert check_same(expected, jax_predict(native)(*inputs), "bfloat16") > 1e-4


@pytest.mark.parametrize("file_format", ["stablehlo", "saved_model"])
def test_an_export_computes_in_the_width_of_the_model(tmp_path, file_format):
    native = make_model(dtype="bfloat16")
    export_model(native, tmp_path, file_format)
    inputs = random_inputs(native, 3)
    found = FORMATS[file_format][1](tmp_path)(*inputs)
    assert check_same(found, jax_predict(native)(*inputs), "bfloat16") < 1e-2
    assert check_same(found, jax_predict(plain(native))(*inputs), "bfloat16") > 1e-4


def test_weights_of_a_large_model_have_a_file_of_their_own(models, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "IN_ONE_FILE", 0)
    native = models["multi_head"]
    for _ in range(2):  # the second replaces the first
        assert export_model(native, tmp_path / "exported", "onnx") < 1e-5
    (tmp_path / "exported").rename(tmp_path / "moved")
    weights = tmp_path / "moved/model.onnx.data"
    assert weights.stat().st_size > 1024  # smaller arrays stay inside
    inputs = random_inputs(native, 3)
    found = FORMATS["onnx"][1](weights.parent)(*inputs)
    assert check_same(found, jax_predict(native)(*inputs), "float32") < 1e-5


def test_an_export_replaces_an_export_and_nothing_else(models, tmp_path):
    native, folder = models["multi_head"], tmp_path / "exported"
    assert export_model(native, folder, "native") == 0.0
    assert read_model(folder).model == native.model
    assert "step: 3" in (folder / "README.md").read_text()
    export_model(make_model(**VARIANTS["multi_head"], optimize_for=CPU), folder, "stablehlo")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("model.stablehlo", "signature.json", "vocabulary.model", "weights.npz"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    with pytest.raises(ValueError, match="Did you mean 'stablehlo'"):
        export_model(native, folder, "stable_hlo")


@pytest.mark.parametrize("file_format", FILES)
def test_a_folder_is_replaced_that_holds_the_files_of_its_format_alone(models, tmp_path, file_format):
    folder = tmp_path / "exported"
    export_model(models["multi_head"], folder, file_format)
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    check_replaceable(folder)
    check_replaceable(tmp_path / "link")
    for name in ("thesis.txt", "variables/thesis.txt", "photos"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(tmp_path)
        with pytest.raises(ValueError, match=f"'{name}' in it is not of the export, and would be lost"):
            check_replaceable(folder)
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.txt", ""),
        ("config.json", '{"model_type": "t5"}'),
        ("signature.json", '{"format": "onnx", "inputs": []}'),
        ("signature.json", "[1]"),
        ("signature.json", "mine"),
        ("runs/signature.json", "{}"),
    ],
)
def test_nothing_but_an_export_is_replaced(models, tmp_path, name, content):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"holds '{name}' and is no export"):
        export_model(models["multi_head"], tmp_path, "native")
    assert (tmp_path / name).read_text() == content
    with pytest.raises(ValueError, match=r"is (a file; expected the folder|no folder; name another place)"):
        export_model(models["multi_head"], tmp_path / name, "native")


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, 0.01, "heatmaps by up to 0.01, keywords not"),
        (0, np.nan, "scores by up to nan"),
        (2, 1, "keywords too"),
    ],
)
def test_an_export_that_predicts_something_else_is_an_error(expected, index, change, message):
    arrays = list(expected["multi_head-3"])
    arrays[index] = arrays[index] + np.asarray(change, arrays[index].dtype)
    with pytest.raises(ValueError, match=message):
        check_same(arrays, expected["multi_head-3"], "float32")


def test_what_is_not_installed_is_named():
    with pytest.raises(ImportError, match=r"needs nosuch .*pip install -e '\.\[train,export\]'"):
        need("nosuch.module")
