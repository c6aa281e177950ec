"""The programs that an evaluation compiles: prediction with the comparison of maps, and what brings a map."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from richhf.evaluation import measure_maps
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_predict

Features = Mapping[str, np.ndarray]


class EvalProgram:
    """Predictions and comparisons of maps where the devices are; numbers and single maps come back.

    Devices divide the batch; every process is given all rows of a batch and gets the numbers of all. Each
    program is compiled once, with the first batch, whatever checkpoints follow.

    Args:
      model: a `RichFeedbackModel`.
      partitioner: where arrays live.
      target: the parameters as jax.ShapeDtypeStruct with shardings.
      inputs: the features that the model predicts from.
      batch_size: rows of a batch, of all processes together.
    """

    def __init__(
        self, model: Any, partitioner: Partitioner, target: Any, inputs: tuple[str, ...], batch_size: int
    ):
        self._partitioner, self._batch_size = partitioner, batch_size
        self._features = (*inputs, "heatmaps")
        predict = compile_predict(model, partitioner, target)

        def step(params, features):
            prediction = predict(params, {name: features[name] for name in inputs})
            numbers = {name: prediction[name] for name in ("scores", "keyword_tokens")}
            numbers["measured"] = measure_maps(prediction["heatmaps"], features["heatmaps"])
            return {"heatmaps": prediction["heatmaps"]}, numbers

        replicated, split = partitioner.replicated, partitioner.batch_sharding
        self._step = jax.jit(step, out_shardings=(split, replicated))
        self._row = jax.jit(lambda maps, row: maps[row], out_shardings=replicated)
        self._measure = jax.jit(measure_maps, out_shardings=replicated)

    def predict(self, params: Any) -> Callable[[Features], dict[str, Any]]:
        """What `Evaluator.evaluate` calls for each batch, with these parameters."""

        def predict(features):
            placed = self._partitioner.place_whole({name: features[name] for name in self._features})
            maps, numbers = self._step(params, placed)
            return maps | numbers

        return predict

    def fetch(self, maps: Any, row: int) -> np.ndarray:
        """The predicted maps [2 h w] of one row, on every process."""
        return np.asarray(self._row(maps, row))

    def measure(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """`measure_maps` of arrays on the host, [n 2 h w] with any n."""
        parts = []
        for start in range(0, len(true), self._batch_size):
            chunk = {"predicted": predicted, "true": true}
            chunk = {
                name: self._filled(maps[start : start + self._batch_size]) for name, maps in chunk.items()
            }
            parts.append(np.asarray(self._measure(**self._partitioner.place_whole(chunk))))
        return np.concatenate(parts)[: len(true)]

    def _filled(self, maps: np.ndarray) -> np.ndarray:
        padding = np.zeros((self._batch_size - len(maps), *maps.shape[1:]), maps.dtype)
        return np.concatenate([maps, padding])
