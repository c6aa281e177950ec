"""Weights from one form into another: what the command `richhf convert` does."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from richhf.atomic import atomic_path
from richhf.models.model import RichFeedbackModel
from richhf.models.parameters import parameter_parts
from richhf.models.rahf import RAHFConfig
from richhf.pretrained.author_table import author_table
from richhf.pretrained.formats import (
    AUTHOR,
    FORMATS,
    RICHHF,
    find_format,
    import_weights,
    one_by_one,
    part_of,
)
from richhf.pretrained.loader import export_params, flat_shapes, initial_shapes, nest
from richhf.pretrained.model_config import config_from_json
from richhf.pretrained.native import (
    CONFIG,
    VOCABULARY,
    NativeModel,
    Settings,
    holds_model,
    read_description,
    write_model,
)
from richhf.pretrained.sizes import infer_config
from richhf.pretrained.weight_files import WeightFile, read_weights

TARGETS = (RICHHF, AUTHOR)
TENSORS, TORCH = ".safetensors", (".pt", ".pth", ".bin")
OTHERS = (".npz", ".npy", ".onnx", ".ckpt", ".h5", ".msgpack", ".zip")
PROMPT_LENGTH = 128


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
    """Reads weights of any form and writes them in another.

    Args:
        source: see `read_weights`.
        destination: a `.safetensors` file, of our parameters by path or of the author's names (the latter
            also `.pt`); or, for our own, a native model folder, which is of a whole network: a new or empty
            one, or a model folder, whose model is replaced.
        source_format: what the source is said to be (`FORMATS`); None: found out.
        target_format: `richhf` or `author`.
        model: a `config.json` of ours with the sizes; None: beside the source, or read off its arrays.
        vocabulary: for a native folder, the SentencePiece model that the weights were trained with; None: the
            one beside the source.
        prompt_length: for a native folder, tokens of a prompt row; None: what the source says, or else 128.
        note: is told what was done, line by line.

    Raises:
        ValueError: the weights do not fit, or cannot be written so.
    """
    destination = Path(destination)
    if target_format not in TARGETS:
        raise ValueError(f"--to is {target_format!r}; expected one of {', '.join(TARGETS)}.")
    if target_format == RICHHF and destination.suffix != TENSORS:
        _check_folder(destination)
    file = read_weights(source)
    found = find_format(file, source_format)
    if found.name == RICHHF:
        file = one_by_one(file)
    config = _config(file, found.name, model)
    target = flat_shapes(initial_shapes(config))
    imported = import_weights(file, config, target, format_name=found.name)
    note(f"{file.path}: {found.what}, {len(file.arrays)} arrays")
    for line in imported.notes:
        note(f"  {line}")
    parts = list(dict.fromkeys(part_of(path) for path in imported.params))
    if target_format == AUTHOR:
        _write_author(destination, config, imported.params, str(file.path))
    elif destination.suffix == TENSORS:
        _write_tensors(destination, imported.params)
    else:
        kept = file.path / VOCABULARY
        if vocabulary is None and kept.is_file():
            vocabulary = kept
        lacking = [part for part in parameter_parts(initial_shapes(config)) if part not in parts]
        if lacking or vocabulary is None:
            why = f"{file.path} has no {', '.join(lacking)}" if lacking else "--vocabulary FILE is missing"
            raise ValueError(
                f"a model folder holds a whole network and its vocabulary, but {why}: give a DST that ends "
                f"in {TENSORS} for the parameters alone{'' if lacking else ', or the vocabulary'}."
            )
        made, settings = RichFeedbackModel(config), Settings(prompt_length=PROMPT_LENGTH)
        if file.config is not None and "format" in file.config:
            described, settings = read_description(file.config, file.path / CONFIG)
            made = dataclasses.replace(described, config=config)
        changes: dict[str, Any] = {} if prompt_length is None else {"prompt_length": prompt_length}
        told = {"converted_from": found.what, "notes": list(imported.notes)}
        settings = dataclasses.replace(settings, provenance={**settings.provenance, **told}, **changes)
        params = nest(imported.params, initial_shapes(config))
        native = NativeModel(made, params, Path(vocabulary).read_bytes(), settings)
        write_model(destination, native, card=_card(found.what, imported.notes))
    size = sum(value.size for value in imported.params.values())
    note(f"{destination}: {', '.join(parts)}; {size / 1e6:.2f} M parameters")


def _check_folder(folder: Path) -> None:
    """Raises ValueError unless a model folder may be written there."""
    if folder.suffix in (*TORCH, *OTHERS):
        raise ValueError(
            f"{folder} looks like a file, but what is written is a {TENSORS} file or a folder "
            f"({', '.join(TORCH)} go with --to author; python -m launch.export writes other formats)."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder, or a file that ends in {TENSORS}.")
    there = {one.name for one in folder.iterdir()} if folder.exists() else set()
    if there and not holds_model(folder):
        raise ValueError(
            f"{folder} holds {min(there)!r} and is no model folder: expected a new or empty folder, or one "
            "whose model is to be replaced."
        )


def _config(file: WeightFile, format_name: str, model: str | os.PathLike | None) -> RAHFConfig:
    """The sizes: given, beside our own parameters, or read off."""
    if model is not None:
        content = json.loads(Path(model).read_text(encoding="utf-8"))
        return config_from_json(RAHFConfig, content.get("model", content))
    if format_name != RICHHF:
        return infer_config(file, FORMATS[format_name])
    if file.config is None or "model" not in file.config:
        raise ValueError(
            f"{file.path} holds parameters of this project without their config.json; give it by --model."
        )
    return config_from_json(RAHFConfig, file.config["model"])


def _write_author(
    destination: Path, config: RAHFConfig, params: Mapping[str, np.ndarray], origin: str
) -> None:
    if destination.suffix not in (TENSORS, *TORCH):
        raise ValueError(
            f"{destination} should end in {TENSORS} or {', '.join(TORCH)}, for the author's layout."
        )
    state = export_params(author_table(config), params, origin)
    if destination.suffix == TENSORS:
        _write_tensors(destination, state)
        return
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{destination} is a file of PyTorch, which is not installed: pip install 'richhf[parity]' (or "
            f"torch), or let DST end in {TENSORS}."
        ) from error
    with atomic_path(destination) as temporary:
        torch.save({name: torch.from_numpy(value.copy()) for name, value in state.items()}, temporary)


def _write_tensors(destination: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_path(destination) as temporary:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary
        )


def _card(what: str, notes: tuple[str, ...]) -> str:
    lines = "".join(f"\n- {note}" for note in notes)
    return (
        f"# RAHF, converted\n\nThe weights come from {what}, by `richhf convert`; their licence is that of "
        f"their author.\nNothing was measured or calibrated on the way.\n{lines}\n"
    )
