"""What a predictor computes, compiled as it is quickest on the default device."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from richhf.feedback import HEATMAPS
from richhf.inference.confidence import suffix_probabilities
from richhf.models.choices import CPU
from richhf.models.model import RichFeedbackModel
from richhf.models.rahf import Memory

NO_BATCHED_LIBRARY = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}
"""XLA's library for products is the quickest for large ones, as the network's, but slow for those in batches
that Winograd's convolutions are made of; with this, XLA leaves products to its own."""


def quickest(model: RichFeedbackModel) -> RichFeedbackModel:
    """The same model as the default device computes it quickest.

    CPUs: in float32, which is as precise at least, as they have no units for 16 bits that are any faster; and
    with `RAHFConfig.optimize_for`, the same to rounding.
    """
    if jax.default_backend() != "cpu":
        return model
    config = dataclasses.replace(model.config, dtype="float32", optimize_for=CPU)
    return dataclasses.replace(model, config=config)


class Computation:
    """A model's predictions, each compiled once a shape (the buckets of batches).

    On CPUs the heatmap heads are a program of their own, which runs once a map: it is compiled otherwise than
    the network, and heads beside each other would take each other's cache.

    Attributes:
      model: the model as it is computed here.
      network: `RichFeedbackModel.predict_with_memory`, on CPUs without the heatmap heads.
      confidences: of parameters, what the decoder attends to, the tokens `Choices.inputs` and the choices
        themselves, `suffix_probabilities`.
    """

    def __init__(self, model: RichFeedbackModel):
        """Compiles none of them yet."""
        self.model = quickest(model)
        apart = self.model.config.optimize_for == CPU
        network = functools.partial(self.model.predict_with_memory, heatmap_heads=not apart)
        self.network = jax.jit(network, static_argnames=("outputs", "beams"))
        options = heatmap_options() if apart else None
        self._heatmap = jax.jit(self.model.predict_heatmap, static_argnames="size", compiler_options=options)
        self.confidences = jax.jit(self._suffix_probabilities)

    def predict(
        self, params: Mapping[str, Any], batch: Mapping[str, Any], *, outputs: tuple[str, ...], beams: int = 1
    ) -> tuple[dict[str, Array], Memory | None]:
        """As `RichFeedbackModel.predict_batch`, and what the decoder attends to if keywords are wanted."""
        prediction, aux, memory = self.network(params, batch, outputs=outputs, beams=beams)
        seen: Mapping[str, Array] = aux.get("heatmap_features", {})
        if seen:
            size = batch["image"].shape[1:3]
            maps = [
                self._heatmap(self.model.heatmap_head_params(params, name), seen[name], size=size)
                for name in HEATMAPS
                if name in seen
            ]
            prediction["heatmaps"] = jnp.stack(maps, axis=1)
        return prediction, memory

    def _suffix_probabilities(
        self, params: Mapping[str, Any], memory: Memory, inputs: Array, choices: tuple[Array, Array, Array]
    ) -> Float[Array, "b k"]:
        return suffix_probabilities(self.model.keyword_logits(params, memory, inputs), choices)


@functools.cache
def heatmap_options() -> dict[str, str] | None:
    """`NO_BATCHED_LIBRARY` if the installed XLA knows it: it is an experimental option."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=NO_BATCHED_LIBRARY)(1.0)
    except jax.errors.JaxRuntimeError:
        return None
    return NO_BATCHED_LIBRARY
