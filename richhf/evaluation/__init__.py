"""How good feedback is: the paper's metrics, baselines, tables and the evaluation of a model over a split."""

from richhf.evaluation.arrays import FeedbackArrays, readable_flags, record_batches, records_to_arrays
from richhf.evaluation.baselines import MeanFeedback, mean_baseline, noise_ceiling
from richhf.evaluation.bootstrap import bootstrap_intervals
from richhf.evaluation.evaluate import FeedbackAccumulator, evaluate_feedback, flatten_metrics, summarise
from richhf.evaluation.evaluator import Evaluation, Evaluator
from richhf.evaluation.examples_file import EXAMPLES_FILE, example_lines
from richhf.evaluation.gallery import Gallery, GalleryExample
from richhf.evaluation.heatmaps import auc_judd, cc, kld, mse, nss, resize_maps, sim
from richhf.evaluation.keywords import flag_metrics, keyword_metrics
from richhf.evaluation.metrics_file import ceiling_share, read_comparisons, read_metrics, write_metrics
from richhf.evaluation.scores import plcc, srcc
from richhf.evaluation.tables import markdown_tables, text_tables
from richhf.evaluation.values import ExampleValues, Measure, example_values, measure_maps

__all__ = [  # noqa: RUF022 (grouped by what they are)
    # Metrics of one output.
    "auc_judd",
    "cc",
    "flag_metrics",
    "keyword_metrics",
    "kld",
    "mse",
    "nss",
    "plcc",
    "resize_maps",
    "sim",
    "srcc",
    # Metrics of all outputs.
    "ExampleValues",
    "FeedbackAccumulator",
    "FeedbackArrays",
    "Measure",
    "bootstrap_intervals",
    "evaluate_feedback",
    "example_values",
    "flatten_metrics",
    "measure_maps",
    "readable_flags",
    "record_batches",
    "records_to_arrays",
    "summarise",
    # Baselines and the ceiling.
    "MeanFeedback",
    "ceiling_share",
    "mean_baseline",
    "noise_ceiling",
    # A model over a split, and what is written about it.
    "EXAMPLES_FILE",
    "Evaluation",
    "Evaluator",
    "Gallery",
    "GalleryExample",
    "example_lines",
    "markdown_tables",
    "read_comparisons",
    "read_metrics",
    "text_tables",
    "write_metrics",
]
