"""Weights in and out.

A whole model of ours is a native folder (`native`, its sizes as JSON by `model_config`), or a checkpoint of
T5X (`t5x_checkpoint`). Weights of other makes: `weight_files` reads arrays by name, `formats` tells whose
they are and imports them, by a table of `rules` with named `transforms` (`t5_tables`, `vit_tables`,
`author_table`) and a strict `loader`.
"""

from richhf.pretrained.author_table import author_table, check_author_layout
from richhf.pretrained.formats import FORMATS, find_format, import_weights
from richhf.pretrained.loader import Imported, WeightsError, export_params, flat_shapes, initial_shapes, nest
from richhf.pretrained.native import NativeModel, Settings, read_model, write_model
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.t5_tables import hugging_face_t5, t5x_t5
from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint, write_t5x_checkpoint
from richhf.pretrained.vit_tables import big_vision_vit, hugging_face_vit
from richhf.pretrained.weight_files import WeightFile, read_weights

__all__ = [
    "FORMATS",
    "Imported",
    "NativeModel",
    "Rule",
    "Settings",
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
    "initial_shapes",
    "nest",
    "read_model",
    "read_t5x_checkpoint",
    "read_weights",
    "t5x_t5",
    "write_model",
    "write_t5x_checkpoint",
]
