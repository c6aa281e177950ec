"""RAHF under T5X's own launcher: model, optimizer and partitioning rules in the form that T5X takes.

The only file that imports T5X; gin/t5x/*.gin name what is here. Network, losses, decoding, optimizers and
feature converter are this project's own: nothing is defined a second time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import clu.metrics
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import serialization, traverse_util
from flax.linen import partitioning as flax_partitioning
from jaxtyping import Array, Float
from t5x import metrics as t5x_metrics
from t5x import models as t5x_models
from t5x import optimizers as t5x_optimizers

from richhf.data.features import RichFeedbackFeatureConverter
from richhf.models import RichFeedbackModel
from richhf.training.optimizers import Optimizer
from richhf.training.partitioning import DEFAULT_RULES
from richhf.training.schedules import Schedule

Metrics = dict[str, clu.metrics.Metric]


class T5XModel(t5x_models.BaseModel):
    """A `RichFeedbackModel` behind T5X's interface: of keywords as tokens, with maps and scores beside.

    Attributes:
      model: what computes.
      optimizer_def: T5X's optimizer, such as a `T5XOptimizer`; None to evaluate and predict.
    """

    FEATURE_CONVERTER_CLS = RichFeedbackFeatureConverter

    def __init__(
        self,
        model: RichFeedbackModel,
        optimizer_def: t5x_optimizers.OptimizerDef | None = None,
        num_microbatches: int = 1,
    ):
        """An adapter.

        Args:
          model: what computes.
          optimizer_def: see the attribute.
          num_microbatches: of T5X's trainer. It adds up the gradients of a batch's parts; losses here are
            means: each part's is divided by this number.
        """
        super().__init__(optimizer_def=optimizer_def)
        self.model = model
        self._parts = max(1, num_microbatches)

    def get_initial_variables(
        self,
        rng: Array,
        input_shapes: Mapping[str, Sequence[int]],
        input_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Fresh `params`, and `params_axes`: their logical axis names, as T5X's partitioner reads them."""
        boxed = self.model.get_initial_variables(rng, input_shapes, input_types)["params"]
        names = traverse_util.flatten_dict(nn.get_partition_spec(boxed))
        axes = {
            (*path, f"{name}_axes"): flax_partitioning.AxisMetadata(tuple(spec))
            for (*path, name), spec in names.items()
        }
        return {"params": nn.meta.unbox(boxed), "params_axes": traverse_util.unflatten_dict(axes)}

    def loss_fn(
        self, params: Any, batch: Mapping[str, Array], dropout_rng: Array | None
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of a batch, or of a part of it, and metrics; dropout is on where dropout_rng is given."""
        loss, values = self.model.loss_fn(params, batch, dropout_rng)
        return loss / self._parts, _metrics(values, batch)

    def eval_fn(self, params: Any, batch: Mapping[str, Array]) -> tuple[Float[Array, ""], Metrics]:
        """The loss and metrics of a batch, without dropout."""
        values = self.model.eval_fn(params, batch)
        return values["loss"], _metrics(values, batch)

    def predict_batch_with_aux(
        self, params: Any, batch: Mapping[str, Array], rng: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Keyword tokens, int32 [b k]; and all that the model predicts, these tokens too.

        `predict_batch` gives the tokens alone. Decoding is greedy: `rng` is not used.
        """
        del rng
        predictions, aux = self.model.predict_batch_with_aux(params, batch)
        return predictions["keyword_tokens"], predictions | aux

    def score_batch(
        self, params: Any, batch: Mapping[str, Array], return_intermediates: bool = False
    ) -> Float[Array, "b"]:
        """Log likelihood of each example's keyword sequence.

        Raises:
          ValueError: intermediates are asked for; the network keeps none.
        """
        if return_intermediates:
            raise ValueError("return_intermediates is True, but RAHF keeps none: leave it False.")
        return self.model.score_batch(params, batch)


def _metrics(values: Mapping[str, Array], batch: Mapping[str, Array]) -> Metrics:
    """The same values, to be averaged over batches, and how fast they go by."""
    averages = {name: clu.metrics.Average.from_model_output(value[None]) for name, value in values.items()}
    images = jnp.asarray(batch["image"].shape[0])
    return averages | {
        "timing/images_per_second": t5x_metrics.TimeRate.from_model_output(numerator=images),
        "timing/steps_per_second": t5x_metrics.StepsPerTime.from_model_output(),
    }


class T5XOptimizer(t5x_optimizers.OptaxWrapper):
    """An optimizer of `richhf.training.optimizers` with its schedule, for T5X.

    T5X knows how to split the state of some optimizers by their types. Here whatever mirrors a parameter is
    split as that parameter is, and all else kept whole.
    """

    def __init__(self, optimizer: Optimizer):
        super().__init__(optimizer.transformation)

    def derive_logical_axes(self, optimizer: t5x_optimizers.Optimizer, param_logical_axes: Any) -> Any:
        """The optimizer with logical axis names, or None, in the place of arrays."""
        params = dict(jax.tree_util.tree_flatten_with_path(optimizer.target)[0])
        names = dict(jax.tree_util.tree_flatten_with_path(param_logical_axes)[0])

        def place(path, leaf):
            start = next((i for i in range(len(path)) if path[i:] in params), None)
            if start is None or leaf.shape != params[path[start:]].shape:
                return None
            return names[path[start:]]

        states = jax.tree_util.tree_map_with_path(place, optimizer.state.param_states)
        tree = jax.tree.map(lambda _: None, optimizer.state_dict())
        tree["target"] = serialization.to_state_dict(param_logical_axes)
        tree["state"]["param_states"] = serialization.to_state_dict(states)
        return optimizer.restore_state(tree)


def learning_rate(optimizer: Optimizer) -> Schedule:
    """An optimizer's schedule, for T5X's trainer, which logs it."""
    return optimizer.learning_rate


def logical_axis_rules(fsdp: str | None = None) -> tuple[tuple[str, str | None], ...]:
    """This project's rules in terms of T5X's mesh, which is `data` x `model`.

    Args:
      fsdp: the mesh axis for what the rules split over `fsdp`: None keeps it whole, "data" splits it.
    """
    axes: dict[Any, str | None] = {"model": "model", "fsdp": fsdp, None: None}
    rules = ((name, axes[axis]) for name, axis in DEFAULT_RULES if name != "batch")
    return ("batch", "data"), *rules


def task_name(name: str, register_tasks: Callable[[], Any] | None = None) -> str:
    """The name, after the tasks were registered over their data folder: for T5X's `DatasetConfig`."""
    if register_tasks:
        register_tasks()
    return name
