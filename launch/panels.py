"""Pictures of what a model sees while it trains and when it is evaluated, for TensorBoard."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from richhf.evaluation import GalleryExample, resize_maps
from richhf.feedback import HEATMAPS

Batch = Mapping[str, np.ndarray]


class Panels:
    """Image, true map and predicted map side by side, for each kind of map.

    Args:
      model: a `RichFeedbackModel`.
      first_batch: gives a batch and its number of examples.
      count: how many images to draw.
    """

    def __init__(self, model: Any, first_batch: Callable[[], tuple[Batch, int]], count: int):
        self._first_batch, self._count = first_batch, count
        self._batch: Batch | None = None
        self._predict = jax.jit(
            lambda params, batch: model.predict_batch(params, batch, outputs=HEATMAPS)["heatmaps"]
        )

    def __call__(self, params: Any, step: int) -> dict[str, np.ndarray]:
        """The panels by kind of map, uint8 [n h 3w 3]."""
        del step
        if self._batch is None:
            batch, valid = self._first_batch()
            self._batch = {name: value[: min(valid, self._count)] for name, value in batch.items()}
        inputs = {name: self._batch[name] for name in ("image", "encoder_input_tokens")}
        predicted = np.asarray(self._predict(params, inputs))
        side = self._batch["image"].shape[1:3]
        true = [
            np.asarray(resize_maps(self._batch["heatmaps"][:, i] / 255.0, side)) for i in range(len(HEATMAPS))
        ]
        return {
            name: panel(self._batch["image"], true[i], predicted[:, i]) for i, name in enumerate(HEATMAPS)
        }


def gallery_panels(gallery: Mapping[str, Sequence[GalleryExample]]) -> dict[str, np.ndarray]:
    """Panels of an evaluation's examples, as `<kind>/<kind of map>`: uint8 [n h 3w 3]."""
    panels = {}
    for kind, examples in gallery.items():
        for name in HEATMAPS:
            known = [example for example in examples if name in example.truth.heatmaps]
            if known:
                true, predicted = (
                    np.stack([getattr(example, side).heatmaps[name] for example in known])
                    for side in ("truth", "predicted")
                )
                images = np.stack([example.image for example in known])
                panels[f"{kind}/{name}"] = panel(images, true, predicted)
    return panels


def panel(
    image: UInt8[np.ndarray, "n h w 3"],
    true: Float[np.ndarray, "n h w"],
    predicted: Float[np.ndarray, "n h w"],
) -> UInt8[np.ndarray, "n h w3 3"]:
    """Image, truth and prediction from left to right; maps in [0, 1] as red over the greyed image."""
    grey = image.mean(axis=-1, keepdims=True).repeat(3, axis=-1) * 0.5
    red = np.array([255.0, 40.0, 40.0])
    maps = [grey * (1 - m[..., None]) + red * m[..., None] for m in (true, predicted)]
    return np.concatenate([image, *maps], axis=2).round().astype(np.uint8)
