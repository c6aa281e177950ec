"""The formats of weights, recognized by the names of the arrays, and the import of any of them."""

import dataclasses
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from richhf.models.parameters import parameter_parts
from richhf.models.rahf import RAHFConfig
from richhf.models.stack import STACKED, unstack_layers
from richhf.pretrained.author_table import author_table
from richhf.pretrained.loader import Imported, WeightsError, import_params
from richhf.pretrained.prefixes import choose_prefix, prefixes_of, take_below, without_tools
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.t5_tables import (
    SCALED_LOGITS,
    add_tied_logits,
    hugging_face_t5,
    scales_logits,
    t5x_t5,
)
from richhf.pretrained.transforms import positions
from richhf.pretrained.vit_tables import big_vision_vit, hugging_face_vit
from richhf.pretrained.weight_files import WeightFile

RICHHF, AUTHOR = "richhf", "author"
HF_T5, T5X_T5, HF_VIT, BIG_VISION_VIT = "hf-t5", "t5x-t5", "hf-vit", "big-vision-vit"
EMBEDDING = "t5/embedding/embedding"
"""The path of the parameter with a row for each token."""
APPROXIMATE_GELU = "gelu_pytorch_tanh"
"""What Hugging Face calls it."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of weights.

    Attributes:
        name: as commands take it.
        what: in words.
        mark: regular expression of a name that every such file has, below whatever prefix.
        parts: of the network (`parameter_parts`) that it covers; None: those that it has arrays of.
        table: (sizes, paths of the model) to the rules for a whole network.
        settings: (sizes) to our values of what a `config.json` beside the weights says, by its names.
    """

    name: str
    what: str
    mark: str
    parts: tuple[str, ...] | None
    table: Callable[[RAHFConfig, Iterable[str]], Table]
    settings: Callable[[RAHFConfig], Mapping[str, Any]] = lambda config: {}


def _richhf_table(config: RAHFConfig, paths: Iterable[str]) -> Table:
    where = "vit/position_embedding"
    resampled = Rule(where, where, positions(config.vit.class_token))
    rules = tuple(resampled if path == where else Rule(path, path) for path in paths)
    return Table("this project's parameters", rules)


def _t5_settings(config: RAHFConfig) -> dict[str, Any]:
    t5 = config.t5
    return {
        "vocab_size": t5.vocab_size,
        "d_model": t5.d_model,
        "d_ff": t5.d_ff,
        "num_layers": t5.encoder_layers,
        "num_decoder_layers": t5.decoder_layers,
        "num_heads": t5.num_heads,
        "d_kv": t5.d_kv,
        "feed_forward_proj": t5.mlp.replace("_", "-"),
        "relative_attention_num_buckets": t5.relative_buckets,
        "relative_attention_max_distance": t5.relative_max_distance,
        "layer_norm_epsilon": t5.eps,
        SCALED_LOGITS: t5.tied_logits,
    }


def _vit_settings(config: RAHFConfig) -> dict[str, Any]:
    vit = config.vit
    return {
        "hidden_size": vit.width,
        "num_hidden_layers": vit.depth,
        "intermediate_size": vit.mlp_width,
        "patch_size": vit.patch_size,
        "num_attention_heads": vit.num_heads,
        "hidden_act": APPROXIMATE_GELU if vit.approximate_gelu else "gelu",
        "qkv_bias": True,
        "layer_norm_eps": vit.eps,
    }


FORMATS = {
    one.name: one
    for one in (
        Format(
            AUTHOR,
            "the author's RAHF (PyTorch)",
            r"visual_token_projection\.weight",
            ("vit", "visual_token_projection", "t5", "heatmap_heads", "score_heads"),
            lambda config, paths: author_table(config),
            lambda config: _t5_settings(config) | _vit_settings(config),
        ),
        Format(
            HF_T5,
            "T5 of Hugging Face",
            r"encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight",
            ("t5",),
            lambda config, paths: hugging_face_t5(config.t5).under("", "t5/"),
            _t5_settings,
        ),
        Format(
            T5X_T5,
            "T5 of T5X",
            r"token_embedder/embedding",
            ("t5",),
            lambda config, paths: t5x_t5(config.t5).under("", "t5/"),
        ),
        Format(
            HF_VIT,
            "ViT of Hugging Face",
            r"(vit\.)?embeddings\.patch_embeddings\.projection\.weight",
            ("vit",),
            lambda config, paths: hugging_face_vit(config.vit).under("", "vit/"),
            _vit_settings,
        ),
        Format(
            BIG_VISION_VIT,
            "ViT of big_vision or augreg",
            r"Transformer/encoderblock(_0)?/LayerNorm_0/scale",
            ("vit",),
            lambda config, paths: big_vision_vit(config.vit).under("", "vit/"),
        ),
        Format(
            RICHHF,
            "parameters of this project",
            r"(vit/patch_embedding|visual_token_projection|t5/embedding|(heatmap|score)_head\w*/logits?)/\w+",
            None,
            _richhf_table,
        ),
    )
}


def check_format(name: str | None) -> None:
    """Raises ValueError unless a name is of a format, or None."""
    if name is not None and name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no format of weights; expected one of {', '.join(FORMATS)}.{hint}")


def find_format(file: WeightFile, name: str | None = None) -> Format:
    """Returns the format of a file's arrays, whatever prefix their names have.

    Args:
        file: what was read.
        name: of the format that is expected; None: any.

    Raises:
        ValueError: the format is unknown, is not the expected one, or there are several networks. The message
            lists what was found.
    """
    check_format(name)
    names = without_tools(file.arrays, str(file.path))
    matching = [one for one in FORMATS.values() if prefixes_of(names, one.mark)]
    if AUTHOR in [one.name for one in matching]:
        matching = [FORMATS[AUTHOR]]  # Its ViT and its T5 are Hugging Face's.
    if len(matching) > 1 and name is None:
        raise ValueError(
            f"{file.path} holds several networks, {' and '.join(one.what for one in matching)}, without the "
            "projection and the heads of RAHF: save each network in a file of its own."
        )
    found = next((one for one in matching if name in (None, one.name)), None)
    if found is None:
        listed = ", ".join(list(file.arrays)[:4]) or "nothing"
        is_it = " and ".join(f"{one.what} ({one.name})" for one in matching) or "of no known format"
        expected = FORMATS[name].what if name else "; ".join(one.what for one in FORMATS.values())
        raise ValueError(
            f"{file.path} is {is_it}: {len(file.arrays)} arrays, named {listed}, ...; expected {expected}."
        )
    return found


def part_of(path: str) -> str:
    """The part of the network (`parameter_parts`) that a parameter is of."""
    return next(iter(parameter_parts({path.split("/")[0]: None})))


def normalize(file: WeightFile, found: Format) -> WeightFile:
    """Returns a file with the names of its format: no prefix, and one array for each layer of a stack.

    Arrays that do not lie below the prefix of the network are left out, with a note.

    Raises:
        ValueError: the file has several copies of the network and does not say which is meant.
    """
    arrays = without_tools(file.arrays, str(file.path))
    prefixes = prefixes_of(arrays, found.mark)
    prefix = choose_prefix(prefixes, str(file.path), found.what)
    arrays, notes = take_below(arrays, prefix, prefixes)
    if found.name == RICHHF and any(part in STACKED for name in arrays for part in name.split("/")):
        nested = unstack_layers(traverse_util.unflatten_dict(arrays, sep="/"))
        arrays = traverse_util.flatten_dict(nested, sep="/")
    elif found.name == BIG_VISION_VIT:
        arrays = _unstack_big_vision(arrays)
    elif found.name == HF_T5:
        arrays, more = add_tied_logits(arrays, file.config or {})
        notes += more
    return dataclasses.replace(file, arrays=arrays, notes=file.notes + notes)


def _unstack_big_vision(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    result: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        before, block, after = name.partition("Transformer/encoderblock/")
        layers = enumerate(value) if block and value.ndim else ()
        stem = f"{before}{block[:-1]}"
        result |= {f"{stem}_{i}/{after}": layer for i, layer in layers} or {name: value}
    return result


def import_weights(
    file: WeightFile,
    config: RAHFConfig,
    target: Mapping[str, jax.ShapeDtypeStruct],
    *,
    parts: Collection[str] | None = None,
    format_name: str | None = None,
) -> Imported:
    """The parameters of the parts of a network that a file covers.

    Args:
        file: what was read.
        config: the network's sizes.
        target: its shapes and dtypes by path (`flat_shapes`).
        parts: only these; None: all that the file covers and the network has.
        format_name: what the file is said to be; None: found out.

    Raises:
        ValueError: of no known format, without one of the parts, or not fitting.
    """
    found = find_format(file, format_name)
    file = normalize(file, found)
    covered = found.parts or tuple(dict.fromkeys(part_of(name) for name in file.arrays))
    lacking = [part for part in parts or () if part not in covered]
    if lacking:
        raise WeightsError(
            f"{file.path} ({found.what}) has no {' and no '.join(lacking)}; it has {', '.join(covered)}."
        )
    wanted = {
        path: leaf
        for path, leaf in target.items()
        if part_of(path) in covered and (parts is None or part_of(path) in parts)
    }
    arrays = file.arrays
    if found.name == RICHHF and parts is not None:
        arrays = {name: value for name, value in arrays.items() if part_of(name) in parts}
    table = found.table(config, target)
    if parts is None or "t5" in parts:
        _check_rows(file, table, config)
    notes = check_config(file, found, config)
    imported = import_params(table, arrays, wanted, str(file.path), not_wanted=target.keys() - wanted.keys())
    return dataclasses.replace(imported, notes=file.notes + notes + imported.notes)


def _check_rows(file: WeightFile, table: Table, config: RAHFConfig) -> None:
    """Raises WeightsError where a T5 embeds another number of tokens than the model does."""
    names = [rule.source for rule in table.rules if rule.target == EMBEDDING]
    embeddings = [file.arrays[name] for name in names if name in file.arrays]
    rows = next((len(array) for array in embeddings if array.ndim), None)
    if rows is not None and rows != config.t5.vocab_size:
        raise WeightsError(
            f"the T5 in {file.path} embeds {rows} tokens, but the model embeds {config.t5.vocab_size}: set "
            f"T5Config.vocab_size to {rows}, and use the vocabulary that this T5 was trained with."
        )


def check_config(file: WeightFile, found: Format, config: RAHFConfig) -> tuple[str, ...]:
    """Compares the model's settings with the `config.json` beside the weights.

    Returns:
        differences too small to matter (an epsilon), in words.

    Raises:
        WeightsError: others; the weights would fit and compute something else.
    """
    problems, notes = [], []
    facts = dict(file.config or {})
    facts[SCALED_LOGITS] = scales_logits(facts)
    for name, ours in found.settings(config).items():
        theirs = facts.get(name)
        if theirs is None or theirs == ours:
            continue
        if "eps" in name:
            notes.append(f"{name}: {theirs} in {file.path}, the model computes with {ours}")
        else:
            problems.append(f"{name} is {theirs!r} there and {ours!r} in this model")
    if problems:
        raise WeightsError(
            f"the config.json of {file.path} is of another model: {'; '.join(problems)}. If it is not "
            "of these weights, move it away; else give the model those sizes."
        )
    return tuple(notes)


def count(params: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Number of parameters by part."""
    counts: dict[str, int] = {}
    for path, value in params.items():
        counts[part_of(path)] = counts.get(part_of(path), 0) + value.size
    return counts
