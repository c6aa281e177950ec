"""Network and model: layers -> vit, t5, heads -> rahf (arrays) -> model (batches, losses, decoding)."""

# What it costs.
from richhf.models.flops import analytic_flops

# Parts.
from richhf.models.heads import HeatmapHead, HeatmapHeadConfig, ScoreHead, ScoreHeadConfig

# Losses.
from richhf.models.losses import HeatmapLoss, ImageWordLoss, KeywordLoss, ScoreLoss, WordLoss

# The model.
from richhf.models.model import RichFeedbackModel
from richhf.models.parameters import parameter_counts, parameter_parts
from richhf.models.rahf import RAHF, RAHFConfig, RAHFOutput
from richhf.models.stack import stack_layers, unstack_layers
from richhf.models.t5 import T5
from richhf.models.t5_layers import T5Config
from richhf.models.vit import ViT, ViTConfig, resample_position_embedding

__all__ = [
    "RAHF",
    "T5",
    "HeatmapHead",
    "HeatmapHeadConfig",
    "HeatmapLoss",
    "ImageWordLoss",
    "KeywordLoss",
    "RAHFConfig",
    "RAHFOutput",
    "RichFeedbackModel",
    "ScoreHead",
    "ScoreHeadConfig",
    "ScoreLoss",
    "T5Config",
    "ViT",
    "ViTConfig",
    "WordLoss",
    "analytic_flops",
    "parameter_counts",
    "parameter_parts",
    "resample_position_embedding",
    "stack_layers",
    "unstack_layers",
]
