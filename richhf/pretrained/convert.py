"""Weights from one form into another: what the command `richhf convert` does."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from richhf.atomic import atomic_folder, atomic_path
from richhf.data.prompts import AUTHOR_TASK_STRINGS, WORDS
from richhf.models.model import RichFeedbackModel
from richhf.models.parameters import parameter_parts
from richhf.models.rahf import RAHFConfig
from richhf.pretrained.author_table import author_table
from richhf.pretrained.destination import check_writable
from richhf.pretrained.formats import (
    AUTHOR,
    RICHHF,
    check_format,
    find_format,
    import_weights,
    normalize,
    part_of,
)
from richhf.pretrained.loader import export_params, flat_shapes, initial_shapes, nest
from richhf.pretrained.model_config import config_from_json, read_json
from richhf.pretrained.native import (
    CARD,
    FORMAT_NAME,
    LONGEST,
    SHORTEST,
    VOCABULARY,
    NativeModel,
    Settings,
    describe_model,
    holds_model,
    read_description,
    write_model,
)
from richhf.pretrained.rules import Table
from richhf.pretrained.sizes import infer_config
from richhf.pretrained.tensor_file import TENSORS, write_tensors
from richhf.pretrained.torch_file import TORCH
from richhf.pretrained.vocabulary_file import check_vocabulary
from richhf.pretrained.weight_files import DESCRIPTION, WeightFile, check_exists, read_weights

AUTHOR_5 = "author-transformers5"
AUTHOR_NAMES = {AUTHOR: 4, AUTHOR_5: 5}
"""Targets of the author's layout, with the major version of transformers whose names the ViT has."""
TARGETS = (RICHHF, *AUTHOR_NAMES)
OTHERS = (".npz", ".npy", ".onnx", ".ckpt", ".h5", ".msgpack", ".zip", ".json", ".safetensor", ".gguf")
PROMPT_LENGTH = 128
"""Tokens of a prompt row, where nothing says how many."""

Described = tuple[RichFeedbackModel, Settings]


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    source_format: str | None = None,
    target_format: str = RICHHF,
    model: str | os.PathLike | None = None,
    vocabulary: str | os.PathLike | None = None,
    prompt_length: int | None = None,
    note: Callable[[str], Any] = print,
) -> None:
    """Reads weights of any form and writes them in another, over nothing that is there.

    Args:
        source: see `read_weights`.
        destination: a `.safetensors` file, of our parameters by path, which also says what model they are of,
            or of the author's names (the latter also `.pt`); or, for our own, a native model folder, new or
            empty, which is of a whole network.
        source_format: what the source is said to be (`FORMATS`); None: found out.
        target_format: `richhf`; `author`, with the ViT's names of transformers 4, as the author published
            them; or `author-transformers5`, with those that his network has with transformers 5.
        model: a `config.json` of ours with the sizes; None: what the source says, or what is read off its
            arrays.
        vocabulary: for a native folder, the SentencePiece model that the weights were trained with; None: the
            one beside the source.
        prompt_length: tokens of a prompt row; None: what the source says, or else 128.
        note: is told what was done, line by line.

    Raises:
        ValueError: the weights do not fit, or cannot be written so. What can be told without reading them
            is told before.
    """
    source, destination = Path(source), Path(destination)
    if target_format not in TARGETS:
        raise ValueError(f"--to is {target_format!r}; expected one of {', '.join(TARGETS)}.")
    check_format(source_format)
    _check_destination(destination, source, target_format)
    to_folder = target_format == RICHHF and destination.suffix.lower() != TENSORS
    check_exists(source)
    if prompt_length is not None and not SHORTEST <= prompt_length <= LONGEST:
        raise ValueError(f"--prompt-length is {prompt_length}; expected {SHORTEST} to {LONGEST} tokens.")
    if prompt_length is not None and destination.suffix.lower() in TORCH:
        raise ValueError(
            f"--prompt-length is not kept in {destination}, a file of PyTorch: leave it out, or let DST end "
            f"in {TENSORS}."
        )
    if vocabulary is not None and not to_folder:
        raise ValueError(
            f"--vocabulary is for a model folder, and {destination} is to be a file: leave it out, or name a "
            "folder."
        )
    pieces = _find_vocabulary(source, vocabulary) if to_folder else None
    given = None if model is None else _read_given(Path(model))
    file = read_weights(source)
    found = find_format(file, source_format)
    file = normalize(file, found)
    known = given or _described(file, found.name)
    described, settings = known or (
        RichFeedbackModel(infer_config(file, found)),
        _settings(found.name, prompt_length or PROMPT_LENGTH),
    )
    config = described.config
    imported = import_weights(file, config, flat_shapes(initial_shapes(config)), format_name=found.name)
    note(f"{file.path}: {found.what}, {len(file.arrays)} arrays")
    for line in imported.notes:
        note(f"  {line}")
    if known is None and found.name == AUTHOR:
        note(f"  not said by it, so assumed: {_beside_arrays(described, settings)}")
    parts = list(dict.fromkeys(part_of(path) for path in imported.params))
    # What is ours already stays from where it is.
    told = {"converted_from": found.what, "notes": list(imported.notes)} | dict(settings.provenance)
    settings = dataclasses.replace(
        settings, provenance=told, prompt_length=prompt_length or settings.prompt_length
    )
    description = json.dumps(describe_model(described, settings), ensure_ascii=False)
    if target_format in AUTHOR_NAMES:
        table = author_table(config, AUTHOR_NAMES[target_format])
        _write_author(destination, table, imported.params, str(file.path), description)
        if known and destination.suffix.lower() in TORCH:
            note(f"  lost in a file of PyTorch ({TENSORS} keeps it): {_beside_arrays(described, settings)}")
    elif pieces is None:
        write_tensors(destination, imported.params, {"format": "np", DESCRIPTION: description})
    else:
        lacking = [part for part in parameter_parts(initial_shapes(config)) if part not in parts]
        if lacking:
            raise ValueError(
                f"a model folder holds a whole network, but {file.path} has no {', '.join(lacking)}: give a "
                f"DST that ends in {TENSORS} for the parameters alone."
            )
        note(f"  vocabulary: {pieces}")
        content = check_vocabulary(pieces, described)
        native = NativeModel(described, nest(imported.params, initial_shapes(config)), content, settings)
        with atomic_folder(destination) as temporary:
            write_model(temporary, native, card=_card(source, found.what, imported.notes, settings))
    size = sum(value.size for value in imported.params.values())
    note(f"{destination}: {', '.join(parts)}; {size / 1e6:.2f} M parameters")


def _check_destination(destination: Path, source: Path, target_format: str) -> None:
    """Raises an error unless what is asked for can be written there, over nothing."""
    suffix = destination.suffix.lower()
    if target_format in AUTHOR_NAMES and suffix not in (TENSORS, *TORCH):
        raise ValueError(
            f"{destination} should end in {TENSORS} or {', '.join(TORCH)}, for the author's layout."
        )
    if target_format == RICHHF and suffix in (*TORCH, *OTHERS):
        raise ValueError(
            f"{destination} looks like a file, but what is written is a {TENSORS} file or a folder "
            f"({', '.join(TORCH)} go with --to author; python -m launch.export writes other formats)."
        )
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ValueError(
            f"SRC and DST are one, {destination}, and nothing is written over: give another DST."
        )
    if os.path.lexists(destination):
        is_folder = target_format == RICHHF and suffix != TENSORS and destination.is_dir()
        there = min((one.name for one in destination.iterdir()), default="") if is_folder else "."
        if there:
            holds = f" and holds {there!r}" if is_folder else ""
            raise ValueError(
                f"{destination} is there already{holds}, and nothing is written over: remove it, or give "
                "another DST."
            )
    check_writable(destination)
    if suffix in TORCH:
        try:
            import torch  # noqa: F401, told before anything is read
        except ImportError as error:
            raise ImportError(
                f"{destination} is a file of PyTorch, which is not installed: pip install torch, "
                f"or let DST end in {TENSORS}."
            ) from error


def _find_vocabulary(source: Path, given: str | os.PathLike | None) -> Path:
    """The vocabulary of a model folder: the one given, or the one beside the source."""
    beside = (source if source.is_dir() else source.parent) / VOCABULARY
    if given is None and not beside.is_file():
        raise ValueError(
            f"a model folder holds a whole network and its vocabulary, but --vocabulary FILE is missing, and "
            f"there is no {beside}: give it, or a DST that ends in {TENSORS} for the parameters alone."
        )
    file = beside if given is None else Path(given)
    check_vocabulary(file)
    return file


def _read_given(file: Path) -> Described:
    """The model that a file given by --model describes: a `config.json`, or its sizes alone."""
    if not file.is_file():
        raise ValueError(f"--model: there is no file {file}; expected a config.json of this project.")
    content = read_json(file)
    if "format" in content:
        return read_description(content, file)
    try:
        config = config_from_json(RAHFConfig, content.get("model", content))
    except ValueError as error:
        raise ValueError(f"--model, {file}: {error} Expected a config.json of this project.") from error
    return RichFeedbackModel(config), Settings(prompt_length=PROMPT_LENGTH)


def _described(file: WeightFile, format_name: str) -> Described | None:
    """The model that the source says it is of; None: it is to be read off its arrays."""
    if format_name not in (RICHHF, AUTHOR):
        return None
    if file.config is not None and file.config.get("format") == FORMAT_NAME:
        return read_description(file.config, file.config_source)
    if format_name == RICHHF:
        raise ValueError(
            f"{file.path} holds parameters of this project without their config.json; give it by --model."
        )
    return None


def _settings(format_name: str, prompt_length: int) -> Settings:
    """Returns the settings of weights that say nothing of them: the author's were trained on words alone."""
    if format_name == AUTHOR:
        return Settings(prompt_length, prompt_form=WORDS, task_strings=AUTHOR_TASK_STRINGS)
    return Settings(prompt_length)


def _beside_arrays(model: RichFeedbackModel, settings: Settings) -> str:
    """What is to be known of a model beside its arrays and their sizes, in words."""
    prompts = "" if settings.see_prompt else ", prompts not seen (see_prompt)"
    thresholds = f", thresholds of {', '.join(settings.thresholds)}" if settings.thresholds else ""
    thresholds += f", {len(settings.rules)} rules of verdicts" if settings.rules else ""
    lengths = f"prompts of {settings.prompt_length} tokens, keywords of {model.keyword_length}"
    return f"{lengths}, prompt form {settings.prompt_form!r}{prompts}{thresholds}"


def _write_author(
    destination: Path, table: Table, params: Mapping[str, np.ndarray], origin: str, description: str
) -> None:
    state = export_params(table, params, origin)
    if destination.suffix.lower() == TENSORS:
        write_tensors(destination, state, {"format": "pt", DESCRIPTION: description})
        return
    import torch

    with atomic_path(destination) as temporary:
        torch.save({name: torch.from_numpy(value.copy()) for name, value in state.items()}, temporary)


def _card(source: Path, what: str, notes: tuple[str, ...], settings: Settings) -> str:
    """The card of a model of ours that is there already, or else one that says where the weights are from."""
    if holds_model(source) and (source / CARD).is_file():
        return (source / CARD).read_text(encoding="utf-8")
    kept = "; the thresholds are those that came with them" if settings.thresholds else ""
    lines = "".join(f"\n- {note}" for note in notes)
    return (
        f"# RAHF, converted\n\nThe weights come from {what}, by `richhf convert`; their licence is that of "
        f"their author.\nNothing was measured or calibrated on the way{kept}.\n{lines}\n"
    )
