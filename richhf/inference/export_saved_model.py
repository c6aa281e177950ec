"""TensorFlow's SavedModel: a model for TensorFlow and TensorFlow Serving, without JAX.

FOLDER/
  saved_model.pb    variables/    fingerprint.pb    signature `serving_default`, any batch size
  signature.json    vocabulary.model

serve = tf.saved_model.load(folder).signatures["serving_default"]
found = serve(image=image, encoder_input_tokens=tokens)  # scores, heatmaps, keyword_tokens
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from richhf.inference.export_signature import (
    ARRAYS,
    INPUTS,
    PLATFORMS,
    Predict,
    flat_weights,
    input_specs,
    need,
    predict_arrays,
    write_signature,
)
from richhf.pretrained.native import NativeModel

SERVING = "serving_default"


def write_saved_model(folder: Path, native: NativeModel) -> None:
    """Writes the files into a folder, which is there.

    Raises:
      ImportError: TensorFlow is not installed.
    """
    tf, jax2tf = need("tensorflow"), need("jax.experimental.jax2tf")
    function = jax2tf.convert(
        functools.partial(predict_arrays, native.model),
        polymorphic_shapes=[None, "(b, ...)", "(b, ...)"],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    module = tf.Module()
    module.weights = {name: tf.Variable(x, trainable=False) for name, x in flat_weights(native).items()}

    def serve(image: Any, encoder_input_tokens: Any) -> dict[str, Any]:
        weights = {name: variable.value() for name, variable in module.weights.items()}
        return dict(zip(ARRAYS, function(weights, image, encoder_input_tokens), strict=True))

    specs = zip(INPUTS, input_specs(native, None), strict=True)
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs]
    module.serve = tf.function(serve, autograph=False, input_signature=signature)
    tf.saved_model.save(module, str(folder), signatures={SERVING: module.serve})
    write_signature(folder, native, "saved_model", platforms=PLATFORMS)


def read_saved_model(folder: Path) -> Predict:
    """What `write_saved_model` has written.

    Raises:
      ImportError: TensorFlow is not installed.
    """
    tf = need("tensorflow")
    loaded = tf.saved_model.load(str(folder))  # kept, or its variables are gone
    serve = loaded.signatures[SERVING]

    def predict(image: np.ndarray, tokens: np.ndarray, kept: Any = loaded) -> tuple[np.ndarray, ...]:
        found = serve(**dict(zip(INPUTS, (tf.constant(image), tf.constant(tokens)), strict=True)))
        return tuple(found[name].numpy() for name in ARRAYS)

    return predict
