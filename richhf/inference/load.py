"""`richhf.load`: a model by its name or from its folder."""

import difflib
import json
import os
import re
from pathlib import Path

from richhf import pretrained
from richhf.inference.export_folder import export_format
from richhf.inference.predictor import Predictor
from richhf.inference.vocabulary import Vocabulary
from richhf.pretrained.native import VOCABULARY, NativeModel, is_native, read_description, read_model
from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint

SHIPPED = {"synthetic-tiny": Path(pretrained.__file__).parent / "synthetic_tiny"}
"""The models that come with the package."""
LOADED_BY = {
    "stablehlo": "jax.export.deserialize(...).call",
    "saved_model": "tf.saved_model.load(...).signatures['serving_default']",
    "onnx": "onnxruntime.InferenceSession('model.onnx').run",
}
"""What runs an export of another format than the native one."""
MODEL_FILE = "model.json"
"""What training keeps beside its checkpoints: a native folder's `config.json` without checksums."""


def load(name_or_path: str | os.PathLike, *, model_file: str | os.PathLike | None = None) -> Predictor:
    """A model, ready to predict; offline, without TensorFlow.

    Args:
      name_or_path: the name of a model that is shipped (`synthetic-tiny`), or a folder: a native model
        folder, a run of training, one of its steps (`RUN/checkpoints/STEP`), or a checkpoint of T5X. A run
        gives its latest step, and the moving average of its parameters where there is one.
      model_file: of a checkpoint, the `model.json` that says which model it is of (or a native folder's
        `config.json`), with `vocabulary.model` beside it; absent: the one in its run's folder.

    Raises:
      ValueError: there is no such model; or it is damaged, of a newer format, or does not say what it is.
    """
    shipped = SHIPPED.get(os.fspath(name_or_path))
    folder = shipped or Path(name_or_path)
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file; expected a model's folder. richhf convert SRC DST --vocabulary FILE makes "
            "one of a file of weights."
        )
    if not folder.is_dir():
        raise ValueError(_not_there(os.fspath(name_or_path)))
    exported = export_format(folder)
    if exported in LOADED_BY:
        raise ValueError(
            f"{folder} is an export ({exported}), which is run without this package, by "
            f"{LOADED_BY[exported]}; its signature.json says what goes in and comes out. For richhf.load, "
            "export with FORMAT=native."
        )
    if is_native(folder):
        return Predictor(read_model(folder))
    return Predictor(read_checkpoint(folder, None if model_file is None else Path(model_file)))


def load_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """Loads the vocabulary of a model, a run of training or a synthetic data set, or a SentencePiece file.

    Args:
        path: the name of a shipped model, a folder with `vocabulary.model` in it, or a SentencePiece model
            file, such as T5's.

    Returns:
        The vocabulary, as `richhf.data.encode_target` and `richhf.data.read_flags` take it.

    Raises:
        ValueError: the file is missing, or is not a SentencePiece model.
    """
    file = SHIPPED.get(os.fspath(path)) or Path(path)
    if file.is_dir():
        file = file / VOCABULARY
    try:
        return Vocabulary.read(file)
    except OSError as error:
        raise ValueError(
            f"The vocabulary {file} cannot be read ({error.strerror}). Give a SentencePiece model file, or a "
            f"folder with {VOCABULARY} in it."
        ) from error


def read_checkpoint(folder: Path, model_file: Path | None = None) -> NativeModel:
    """A model from a checkpoint of training, ours or T5X's; arguments and errors as of `load`."""
    step = find_t5x_checkpoint(folder)
    if step:
        run = step.parent
        places = [run / MODEL_FILE]
    else:
        # Orbax is for those who train: it is imported only here.
        try:
            from richhf.training.checkpoints import RUN
            from richhf.training.digests import check_digests
            from richhf.training.saved_params import explained_damage, find_checkpoint, restore_params
        except ImportError as error:
            raise ImportError(
                f"{folder} is no model folder, and to read checkpoints of training needs Orbax ({error}): "
                "run pip install -e '.[train]' in a checkout of richhf, or write a model folder with "
                "launch.export where Orbax is installed."
            ) from error
        try:
            step = find_checkpoint(folder)
        except ValueError as error:
            raise ValueError(f"{folder} is no model folder, and there is {error}") from error
        with explained_damage(step):
            check_digests(step, (RUN,))
        run = step.parent.parent
        places = [step / RUN / MODEL_FILE, run / MODEL_FILE]
    path = model_file or next((place for place in places if place.is_file()), None)
    if path is None or not path.is_file():
        raise ValueError(
            f"{step} does not say which model it is of: {path or places[-1]} is missing; runs that were "
            "begun by an older version have none. Write a model folder with the run's gin files (python -m "
            "launch.export) and load that, or give model_file=, the model.json of a run with the same model."
        )
    try:
        model, settings = read_description(json.loads(path.read_text(encoding="utf-8")), path)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged, it cannot be read as JSON: {error}") from error
    vocabulary = (path.parent if model_file else run) / VOCABULARY
    if not vocabulary.is_file():
        raise ValueError(f"there is no vocabulary {vocabulary}; training keeps it beside its checkpoints.")
    params = read_t5x_checkpoint(step) if find_t5x_checkpoint(folder) else restore_params(step)
    native = NativeModel(model, params, vocabulary.read_bytes(), settings)
    native.check_params(str(step))
    return native


def _not_there(name: str) -> str:
    near = difflib.get_close_matches(re.sub(r"[\s_]", "-", name.lower()), SHIPPED, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"there is no model {name!r}: it is neither shipped ({', '.join(SHIPPED)}) nor a folder.{hint} "
        "Expected one of those names, a model folder (config.json, model.safetensors), or a run of training."
    )
