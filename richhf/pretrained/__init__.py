"""Weights of other makes, in and out, and the folder of a whole model of ours."""

from richhf.pretrained.native import NativeModel, Settings, read_model, write_model
from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint, write_t5x_checkpoint

__all__ = [
    "NativeModel",
    "Settings",
    "find_t5x_checkpoint",
    "read_model",
    "read_t5x_checkpoint",
    "write_model",
    "write_t5x_checkpoint",
]
