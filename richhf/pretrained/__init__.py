"""Weights of other makes, in and out."""

from richhf.pretrained.t5x_checkpoint import is_t5x_checkpoint, read_t5x_checkpoint, write_t5x_checkpoint

__all__ = ["is_t5x_checkpoint", "read_t5x_checkpoint", "write_t5x_checkpoint"]
