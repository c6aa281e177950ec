"""From a trained model to something a person sees: feedback on images, report pages, pictures in them."""

from richhf.inference.bulk import Bulk
from richhf.inference.encoder import Encoder, Example, stack_examples
from richhf.inference.gallery import GalleryExample
from richhf.inference.inputs import Failure, Input
from richhf.inference.listing import find_inputs
from richhf.inference.load import SHIPPED, load
from richhf.inference.predictions import asked_outputs, output_names, read_prediction
from richhf.inference.predictor import Predictor
from richhf.inference.report import write_report
from richhf.inference.shards import ShardWriter, read_rows
from richhf.inference.vocabulary import Vocabulary

__all__ = [  # noqa: RUF022 (grouped by what they are)
    # A model, ready to predict.
    "SHIPPED",
    "Predictor",
    "load",
    # From images and prompts to feedback.
    "Encoder",
    "Example",
    "Vocabulary",
    "asked_outputs",
    "output_names",
    "read_prediction",
    "stack_examples",
    # On many images, in shards.
    "Bulk",
    "Failure",
    "Input",
    "ShardWriter",
    "find_inputs",
    "read_rows",
    # Report pages.
    "GalleryExample",
    "write_report",
]
