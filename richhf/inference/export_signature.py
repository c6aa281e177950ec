"""What every exported model is: one function of arrays, with names for what goes in and what comes out.

    image                 uint8 [b s s 3]    the whole image as a square of the model's size
    encoder_input_tokens  int32 [b t l]      prompt rows as `Encoder` makes them, padded with 0
    ->
    scores                float32 [b 4]      in [0, 1], in the order that `signature.json` gives
    heatmaps              float32 [b 2 s s]  in [0, 1], likewise
    keyword_tokens        int32 [b k]        0 after the end

`richhf.data.read_flags` reads `keyword_tokens` with the model's vocabulary: decoding tokens does not give
back every prompt. Every format but the native one keeps two files beside it: `signature.json`, which says so
in numbers, with all that is to be known to make the tokens, and `vocabulary.model`, SentencePiece.
"""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array

from richhf.data.prompts import row_prefixes
from richhf.feedback import HEATMAPS, SCORES
from richhf.models.batch_spec import batch_spec
from richhf.models.model import RichFeedbackModel
from richhf.pretrained.native import VOCABULARY, NativeModel, describe_model

INPUTS = ("image", "encoder_input_tokens")
ARRAYS = ("scores", "heatmaps", "keyword_tokens")
SIGNATURE = "signature.json"
PLATFORMS = ("cpu", "cuda", "tpu")
"""What a compiled format is lowered for, all in one file."""

Predict = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]
"""`INPUTS` to `ARRAYS`, of any batch size."""


def predict_arrays(model: RichFeedbackModel, weights: Mapping[str, Any], image: Any, tokens: Any) -> tuple:
    """`predict_batch` as a function of arrays alone.

    Args:
      model: the model.
      weights: its parameters by path, as `flat_weights` gives them.
      image: see above.
      tokens: likewise.

    Returns:
      `ARRAYS`, in that order.
    """
    dtype = model.config.param_dtype
    params = traverse_util.unflatten_dict({k: jnp.asarray(v, dtype) for k, v in weights.items()}, sep="/")
    found = model.predict_batch(params, dict(zip(INPUTS, (image, tokens), strict=True)))
    return tuple(found[name] for name in ARRAYS)


def flat_weights(native: NativeModel) -> dict[str, np.ndarray]:
    """Parameters by path, in a width that every format has: bfloat16 becomes float32, exactly."""
    flat = traverse_util.flatten_dict(dict(native.params), sep="/")
    arrays = {name: np.asarray(value) for name, value in flat.items()}
    known = (np.float16, np.float32)
    return {name: x if x.dtype in known else x.astype(np.float32) for name, x in arrays.items()}


def input_specs(native: NativeModel, batch: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes and dtypes of `INPUTS`; `batch` is a number, or a symbolic dimension of `jax.export`."""
    config = native.model.config
    lengths = {"image": config.vit.image_size, "inputs": native.settings.prompt_length, "targets": 1}
    specs = batch_spec(config, lengths, 1, labels=())
    return tuple(jax.ShapeDtypeStruct((batch, *specs[name].shape[1:]), specs[name].dtype) for name in INPUTS)


def random_inputs(native: NativeModel, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`INPUTS` to try an export with: noise, and rows of tokens that end at different places."""
    rng = np.random.default_rng(seed)
    image, tokens = input_specs(native, batch)
    pixels = rng.integers(0, 256, image.shape).astype(np.uint8)
    ids = rng.integers(2, native.model.config.t5.vocab_size, tokens.shape)
    ends = rng.integers(1, tokens.shape[-1], (*tokens.shape[:-1], 1))
    places = np.arange(tokens.shape[-1])
    ids = np.where(places < ends, ids, np.where(places == ends, native.model.eos_id, 0))
    return pixels, ids.astype(np.int32)


def jax_predict(native: NativeModel) -> Predict:
    """`predict_batch` itself, compiled: what an export is compared with."""
    weights = jax.device_put(flat_weights(native))

    @jax.jit
    def compiled(weights: dict[str, Array], image: Array, tokens: Array) -> tuple:
        return predict_arrays(native.model, weights, image, tokens)

    return lambda image, tokens: jax.device_get(compiled(weights, image, tokens))


def write_signature(folder: Path, native: NativeModel, file_format: str, **more: Any) -> None:
    """Writes `signature.json` and `vocabulary.model` into a folder.

    Args:
      folder: it is there.
      native: the model.
      file_format: name of the format.
      more: JSON values that this format says besides.
    """
    model = native.model
    description = describe_model(model, native.settings)
    shapes = jax.eval_shape(
        lambda weights, *inputs: predict_arrays(model, weights, *inputs),
        flat_weights(native),
        *input_specs(native, 1),
    )
    signature = {
        "format": file_format,
        "inputs": _described(INPUTS, input_specs(native, 1)),
        "outputs": _described(ARRAYS, shapes),
        "scores": list(SCORES),
        "heatmaps": list(HEATMAPS),
        "prompt_prefixes": list(row_prefixes(model.config.variant, native.settings.task_strings)),
        **{
            name: description[name]
            for name in (
                *("variant", "image_size", "prompt_length", "see_prompt", "prompt_form"),
                *("keyword_length", "eos_id"),
                *("demonstration", "thresholds", "rules", "calibration", "provenance"),
            )
        },
        **more,
    }
    (folder / SIGNATURE).write_text(json.dumps(signature, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / VOCABULARY).write_bytes(native.vocabulary)


def need(module: str) -> Any:
    """A module that only exports need.

    Raises:
      ImportError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this format needs {module.partition('.')[0]} ({error}). In a checkout of richhf run "
            "pip install -e '.[train,export]'."
        ) from error


def _described(names: tuple[str, ...], specs: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": np.dtype(spec.dtype).name, "shape": ["b", *spec.shape[1:]]}
        for name, spec in zip(names, specs, strict=True)
    ]
