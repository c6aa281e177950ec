"""Weights of other makes, in and out."""

# Any file of weights, into the parameters of a network.
# The layouts, one table each.
from richhf.pretrained.author_table import author_table, check_author_layout
from richhf.pretrained.formats import FORMATS, find_format, import_weights
from richhf.pretrained.loader import Imported, WeightsError, export_params, flat_shapes, nest
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.t5_tables import hugging_face_t5, t5x_t5

# T5X's checkpoints of our own models.
from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint, write_t5x_checkpoint
from richhf.pretrained.vit_tables import big_vision_vit, hugging_face_vit
from richhf.pretrained.weight_files import WeightFile, read_weights

__all__ = [
    "FORMATS",
    "Imported",
    "Rule",
    "Table",
    "WeightFile",
    "WeightsError",
    "author_table",
    "big_vision_vit",
    "check_author_layout",
    "export_params",
    "find_format",
    "find_t5x_checkpoint",
    "flat_shapes",
    "hugging_face_t5",
    "hugging_face_vit",
    "import_weights",
    "nest",
    "read_t5x_checkpoint",
    "read_weights",
    "t5x_t5",
    "write_t5x_checkpoint",
]
