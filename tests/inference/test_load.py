"""What `richhf.load` takes, and that nothing of training comes with it."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import richhf
from richhf.inference.export_folder import FILES
from richhf.inference.export_signature import write_signature
from richhf.inference.vocabulary import Vocabulary
from richhf.pretrained import write_model, write_t5x_checkpoint
from richhf.pretrained.native import describe_model

TOO_HEAVY = {"tensorflow", "seqio", "gin", "tensorflow_datasets", "clu", "orbax", "optax", "torch"}


def assert_is(predictor, native):
    """The same network, numbers, vocabulary and settings predict the same."""
    assert isinstance(predictor, richhf.Predictor)
    assert (predictor.model, predictor.settings) == (native.model, native.settings)
    assert predictor.encoder.vocabulary.digest == Vocabulary(native.vocabulary).digest
    jax.tree.map(np.testing.assert_array_equal, predictor.params, dict(native.params))


@pytest.fixture
def run(native, tmp_path):
    """A run of training with one step, whose moving average is the model."""
    step = tmp_path / "run/checkpoints/7"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(step / "params", jax.tree.map(np.zeros_like, dict(native.params)))
        checkpointer.save(step / "ema_params", dict(native.params))
    (tmp_path / "run/vocabulary.model").write_bytes(native.vocabulary)
    (step / "run").mkdir()
    (step / "run/model.json").write_text(json.dumps(describe_model(native.model, native.settings)))
    return tmp_path / "run"


def test_a_model_folder(native, tmp_path):
    assert_is(richhf.load(write_model(tmp_path / "model", native, card="")), native)


def test_a_run_of_training_or_one_of_its_steps(run, native):
    assert_is(richhf.load(run), native)
    assert_is(richhf.load(str(run / "checkpoints/7")), native)


def test_a_run_says_which_model_it_is_of_or_is_told(run, native, tmp_path):
    (run / "checkpoints/7/run/model.json").rename(run / "model.json")
    assert_is(richhf.load(run), native)
    folder = write_model(tmp_path / "model", native, card="")
    (run / "model.json").unlink()
    with pytest.raises(ValueError, match=r"does not say which model.*model\.json is missing.*launch\.export"):
        richhf.load(run)
    assert_is(richhf.load(run, model_file=folder / "config.json"), native)


def test_a_checkpoint_of_t5x(native, tmp_path):
    folder = write_model(tmp_path / "model", native, card="")
    write_t5x_checkpoint(tmp_path / "t5x", native.params, 3)
    assert_is(richhf.load(tmp_path / "t5x", model_file=folder / "config.json"), native)


def test_a_run_of_another_model_is_refused(run, native, tmp_path):
    described = describe_model(native.model, native.settings)
    described["model"]["word_head"] = False
    (run / "checkpoints/7/run/model.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="not in the model: word_head"):
        richhf.load(run)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synthetic-tyni", "Did you mean 'synthetic-tiny'"),
        ("Synthetic_Tiny", "Did you mean 'synthetic-tiny'"),
        ("no/such/folder", "neither shipped .synthetic-tiny. nor a folder"),
        (".", "is no model folder, and there is no checkpoint in"),
    ],
)
def test_what_is_no_model_is_explained(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        richhf.load(name)


@pytest.mark.parametrize("file_format", sorted(FILES.keys() - {"native"}))
def test_an_export_of_another_format_says_what_runs_it(native, tmp_path, file_format):
    write_signature(tmp_path, native, file_format)
    with pytest.raises(ValueError, match=rf"is an export \({file_format}\).* by \w+\..*FORMAT=native"):
        richhf.load(tmp_path)
    with pytest.raises(ValueError, match=r"signature\.json is a file; expected a model's folder.*convert"):
        richhf.load(tmp_path / "signature.json")


def test_loading_and_predicting_import_nothing_of_training(tmp_path):
    """As a user does it: in a folder of his own, in a fresh process, with the model that is shipped."""
    code = """
import sys, richhf
light = "jax" not in sys.modules
import numpy as np
feedback = richhf.load("synthetic-tiny")(np.zeros((20, 30, 3), np.uint8), "a red square")[0]
assert feedback.heatmaps["misalignment"].shape == (20, 30), feedback
print(light, *sorted({name.split(".")[0] for name in sys.modules}))
"""
    root = str(pathlib.Path(richhf.__file__).parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    light, *modules = done.stdout.split()
    assert light == "True"
    assert "jax" in modules
    assert not TOO_HEAVY & set(modules)
