"""The native model folder: all that a prediction needs, in open formats, to be read without training's tools.

    FOLDER/
      config.json          sizes of the network, lengths, rules, provenance, checksums; written last
      model.safetensors    parameters by path (`t5/encoder/layers_0/...`), the layers of a stack one by one
      vocabulary.model     SentencePiece
      README.md            the model card

A folder is whole when it has its `config.json`, whose checksums say of which files. Nothing in it is executed
or unpickled. The top of `config.json` repeats `variant` and `image_size` for readers that look no further.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from flax.core import meta

from richhf.atomic import atomic_path
from richhf.data.prompts import PLAIN, TASK_STRINGS, check_prompt_form
from richhf.feedback import HEATMAPS, SCORES, Rule
from richhf.models.choices import check_choice
from richhf.models.model import RichFeedbackModel
from richhf.models.rahf import RAHFConfig
from richhf.models.stack import stack_layers, unstack_layers
from richhf.pretrained.loader import flat_shapes, initial_shapes
from richhf.pretrained.model_config import CONFIG, config_from_json, config_to_json, read_json
from richhf.pretrained.tensor_file import read_tensors, write_tensors
from richhf.pretrained.vocabulary_file import check_vocabulary

WEIGHTS, VOCABULARY, CARD = "model.safetensors", "vocabulary.model", "README.md"
FORMAT_NAME, FORMAT = "richhf", 1
COMPUTED = "optimize_for"
"""The field of `RAHFConfig` that says how it is computed, and nothing of which model it is."""
COMPUTED_ONCE = "convolution"
"""What stood there for it in folders and runs of before."""
SHORTEST, LONGEST = 2, 4096
"""Tokens of a prompt row: one and the end mark, and far more than any prompt has."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is to be known of a model beside its network.

    Attributes:
        prompt_length: tokens of a prompt row; longer prompts are cut.
        see_prompt: False for a model that was trained without prompts.
        thresholds: where a single output speaks for a fault, by name of a map (its peak, from there on) or of
            a score (below); see `richhf.inference.thresholds`. Empty: not calibrated.
        rules: how all that is predicted makes a verdict. Empty with thresholds, as older versions wrote it:
            the threshold of one output decides.
        calibration: how thresholds and rules were found, and their error rates; any JSON values by name.
        demonstration: why the model is a demonstration only, one sentence that people are shown; empty: it is
            not one.
        provenance: where the model comes from, any JSON values by name.
        prompt_form: how prompts are written before they become tokens, of `richhf.data.prompts.PROMPT_FORMS`.
        task_strings: what stands before the prompt to ask for each output (`augmented_prompt` alone); None:
            this project's (`richhf.data.prompts.TASK_STRINGS`).
    """

    prompt_length: int
    see_prompt: bool = True
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    calibration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    demonstration: str = ""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prompt_form: str = PLAIN
    task_strings: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class NativeModel:
    """A model as a native folder holds it.

    Attributes:
        model: the network with its lengths; its losses are the defaults.
        params: nested dicts of numpy arrays, as `model` takes them.
        vocabulary: the content of a SentencePiece model file.
        settings: everything else.
    """

    model: RichFeedbackModel
    params: Mapping[str, Any] = dataclasses.field(repr=False)
    vocabulary: bytes = dataclasses.field(repr=False)
    settings: Settings

    def check_params(self, source: str) -> dict[str, Any]:
        """The parameters by path, the layers of a stack one by one, as numpy arrays.

        Raises:
            ValueError: they are not those of the model; `source` says where they are from.
        """
        params = unstack_layers(jax.tree.map(np.asarray, dict(meta.unbox(self.params))))
        flat = traverse_util.flatten_dict(params, sep="/")
        _check_shapes(flat, parameter_shapes(self.model.config), source)
        return flat


def is_native(folder: str | os.PathLike) -> bool:
    """Whether a folder is a native model folder, whole or not."""
    return (Path(folder) / CONFIG).is_file() or (Path(folder) / WEIGHTS).is_file()


def holds_model(folder: str | os.PathLike) -> bool:
    """Whether a folder's `config.json` is this project's, and not another's file of that name."""
    try:
        config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT_NAME


def write_model(folder: str | os.PathLike, native: NativeModel, *, card: str) -> Path:
    """Writes a native model folder; a model that is there already is replaced, other files stay.

    Args:
        folder: made if need be.
        native: the model; its parameters may be boxed, and on any device.
        card: the model card, Markdown.

    Returns:
        The folder.

    Raises:
        ValueError: the parameters are not those of the model.
    """
    folder = Path(folder)
    flat = native.check_params("the parameters given")
    (folder / CONFIG).unlink(missing_ok=True)  # From here until it is there again, there is no model.
    with atomic_path(folder / VOCABULARY) as temporary:
        temporary.write_bytes(native.vocabulary)
    write_tensors(folder / WEIGHTS, flat, {"format": "np"})
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    checksums = {name: _checksum(folder / name) for name in (WEIGHTS, VOCABULARY)}
    config = describe_model(native.model, native.settings) | {"sha256": checksums}
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def read_model(folder: str | os.PathLike) -> NativeModel:
    """Reads a native model folder; numbers of another width become those of `RAHFConfig.param_dtype`.

    Raises:
        ValueError: it is no such folder or not whole, of a newer format, or damaged.
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS, VOCABULARY) if not (folder / name).is_file()]
    if missing:
        state = "is not whole" if is_native(folder) else "is no model folder"
        raise ValueError(
            f"{folder} {state}: {', '.join(missing)} missing. Expected a folder with {CONFIG}, {WEIGHTS} and "
            f"{VOCABULARY}, as launch.export writes it."
        )
    config = read_json(folder / CONFIG)
    model, settings = read_description(config, folder / CONFIG)
    checksums = _mapping(config, "sha256", folder / CONFIG)
    if checksums.keys() != {WEIGHTS, VOCABULARY}:
        raise ValueError(
            f"{folder / CONFIG}: sha256 is of {', '.join(checksums) or 'nothing'}; expected "
            f"{WEIGHTS} and {VOCABULARY}. Copy or export the whole folder again."
        )
    for name, expected in checksums.items():
        if _checksum(folder / name) != expected:
            raise ValueError(
                f"{folder / name} is damaged, or not the file that {CONFIG} was written with: its SHA-256 "
                "is another one. Copy or export the whole folder again."
            )
    vocabulary = check_vocabulary(folder / VOCABULARY, model)
    flat, _ = read_tensors(folder / WEIGHTS)
    _check_shapes(flat, parameter_shapes(model.config), str(folder / WEIGHTS))
    flat = {name: value.astype(model.config.param_dtype, copy=False) for name, value in flat.items()}
    params = traverse_util.unflatten_dict(flat, sep="/")
    if model.config.scan_layers:
        params = jax.tree.map(np.asarray, stack_layers(params))
    return NativeModel(model, params, vocabulary, settings)


def describe_model(model: RichFeedbackModel, settings: Settings) -> dict[str, Any]:
    """What `config.json` says of a model, its checksums left out."""
    network = config_to_json(model.config)
    del network[COMPUTED]
    return {
        "format": FORMAT_NAME,
        "format_version": FORMAT,
        "variant": model.config.variant,
        "image_size": model.config.vit.image_size,
        "prompt_length": settings.prompt_length,
        "see_prompt": settings.see_prompt,
        "prompt_form": settings.prompt_form,
        "task_strings": dict(settings.task_strings or TASK_STRINGS),
        "keyword_length": model.keyword_length,
        "eos_id": model.eos_id,
        "demonstration": settings.demonstration,
        "thresholds": dict(settings.thresholds),
        "rules": [rule.to_dict() for rule in settings.rules],
        "calibration": dict(settings.calibration),
        "provenance": dict(settings.provenance),
        "model": network,
    }


def read_description(config: Any, path: str | os.PathLike) -> tuple[RichFeedbackModel, Settings]:
    """The way back of `describe_model`.

    Args:
        config: what JSON gave.
        path: where it is from, for errors.

    Raises:
        ValueError: it describes no model, is of a newer format, or contradicts itself.
    """
    if not isinstance(config, Mapping) or config.get("format") != FORMAT_NAME:
        raise ValueError(f'{path} describes no model of this project: expected "format": "{FORMAT_NAME}".')
    version = config.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(
            f"{path} is of format version {version!r}; this version of richhf reads up to {FORMAT}. "
            "Install a newer richhf: run git pull and pip install . in its checkout."
        )
    kinds = {"prompt_length": int, "see_prompt": bool, "keyword_length": int, "eos_id": int}
    for name, kind in kinds.items():
        if type(config.get(name)) is not kind:
            raise ValueError(f"{path}: {name} is {config.get(name)!r:.60}; expected {kind.__name__}.")
    for name, least in (("prompt_length", SHORTEST), ("keyword_length", 1)):
        if not least <= config[name] <= LONGEST:
            raise ValueError(f"{path}: {name} is {config[name]}; expected {least} to {LONGEST}.")
    values = config.get("model")
    if isinstance(values, Mapping):
        values = {name: value for name, value in values.items() if name != COMPUTED_ONCE}
    try:
        network = config_from_json(RAHFConfig, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    shown = {"variant": network.variant, "image_size": network.vit.image_size}
    for name, value in shown.items():
        if config.get(name) != value:
            raise ValueError(f"{path}: {name} is {config.get(name)!r}, but that of the model is {value!r}.")
    rows = network.t5.vocab_size
    if not 0 < config["eos_id"] < rows:
        raise ValueError(
            f"{path}: eos_id is {config['eos_id']}; expected 1 to {rows - 1}, an id of the model."
        )
    # Folders written before these keys have this project's own.
    form, strings = config.get("prompt_form", PLAIN), config.get("task_strings")
    check_prompt_form(form, strings, source=str(path))
    thresholds = _mapping(config, "thresholds", path)
    for name, value in thresholds.items():
        check_choice(f"{path}: a threshold's name", name, (*HEATMAPS, *SCORES))
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"{path}: the threshold of {name} is {value!r:.60}; expected 0 to 1.")
    demonstration = config.get("demonstration", "")
    if not isinstance(demonstration, str):
        raise ValueError(f"{path}: demonstration is {demonstration!r:.60}; expected a sentence.")
    settings = Settings(
        prompt_length=config["prompt_length"],
        see_prompt=config["see_prompt"],
        thresholds=thresholds,
        rules=_rules(config.get("rules", []), path),
        calibration=_mapping({"calibration": {}, **config}, "calibration", path),
        demonstration=" ".join(demonstration.split()),
        provenance=_mapping(config, "provenance", path),
        prompt_form=form,
        task_strings=None if strings == TASK_STRINGS else strings,
    )
    lengths = {name: config[name] for name in ("keyword_length", "eos_id")}
    return RichFeedbackModel(config=network, **lengths), settings


def _rules(values: Any, path: str | os.PathLike) -> tuple[Rule, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{path}: rules is {values!r:.60}; expected a list.")
    try:
        return tuple(Rule.from_dict(value) for value in values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parameter_shapes(config: RAHFConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's parameters by path, the layers of a stack one by one."""
    return {name: tuple(leaf.shape) for name, leaf in flat_shapes(initial_shapes(config)).items()}


def _check_shapes(flat: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    problems = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in flat]
    problems += [f"not in the model: {name} {flat[name].shape}" for name in flat if name not in expected]
    problems += [
        f"{name} has shape {flat[name].shape}, the model's is {shape}"
        for name, shape in expected.items()
        if name in flat and flat[name].shape != shape
    ]
    problems += [
        f"{name} is {value.dtype}; expected floating-point numbers"
        for name, value in flat.items()
        if not jax.dtypes.issubdtype(value.dtype, np.floating)
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"{source} are not this model's ({len(problems)} differences):\n  {listed}")


def _mapping(config: Mapping[str, Any], name: str, path: str | os.PathLike) -> Mapping[str, Any]:
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: {name} is {value!r:.60}; expected values by name.")
    return value


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
