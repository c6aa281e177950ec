"""Weights of other makes, in and out."""

from richhf.pretrained.t5x_checkpoint import find_t5x_checkpoint, read_t5x_checkpoint, write_t5x_checkpoint

__all__ = ["find_t5x_checkpoint", "read_t5x_checkpoint", "write_t5x_checkpoint"]
