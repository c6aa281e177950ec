"""How good feedback is: the paper's metrics, baselines, tables and the evaluation of a model over a split."""

# Metrics of one output.
# Metrics of all outputs. isort: split
from richhf.evaluation.arrays import FeedbackArrays, record_batches, records_to_arrays
from richhf.evaluation.evaluate import FeedbackAccumulator, evaluate_feedback, flatten_metrics, summarise
from richhf.evaluation.heatmaps import auc_judd, cc, kld, mse, nss, resize_maps, sim
from richhf.evaluation.keywords import keyword_metrics
from richhf.evaluation.scores import plcc, srcc
from richhf.evaluation.values import ExampleValues, example_values

__all__ = [
    "ExampleValues",
    "FeedbackAccumulator",
    "FeedbackArrays",
    "auc_judd",
    "cc",
    "evaluate_feedback",
    "example_values",
    "flatten_metrics",
    "keyword_metrics",
    "kld",
    "mse",
    "nss",
    "plcc",
    "record_batches",
    "records_to_arrays",
    "resize_maps",
    "sim",
    "srcc",
    "summarise",
]
