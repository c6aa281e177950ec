"""The vocabulary of rich human feedback and the `Feedback` value: what is said about one image.

Every module of the project speaks these names. Source: Liang et al., *Rich Human Feedback for
Text-to-Image Generation*, CVPR 2024, sections 3 and 4.1.
"""

from richhf.feedback.difference import Difference
from richhf.feedback.drawing import HEATMAP_COLOURS, ImageLike, open_image, to_rgb
from richhf.feedback.encoded import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    UNDECODABLE,
    open_encoded,
    orientation_of,
    plain_content,
    upright,
)
from richhf.feedback.files import FEEDBACK_FILE
from richhf.feedback.findings import Finding, Rule
from richhf.feedback.names import (
    AUGMENTED_PROMPT,
    CAPTION_TASK_STRING,
    HEATMAPS,
    KEYWORDS,
    MISALIGNED_SUFFIX,
    MULTI_HEAD,
    OUTPUTS,
    SCORES,
    SPLITS,
    TASK_STRINGS,
    VARIANTS,
    VERDICTS,
)
from richhf.feedback.value import Feedback

__all__ = [
    "AUGMENTED_PROMPT",
    "CAPTION_TASK_STRING",
    "FEEDBACK_FILE",
    "HEATMAPS",
    "HEATMAP_COLOURS",
    "JPEG_SIGNATURE",
    "KEYWORDS",
    "MISALIGNED_SUFFIX",
    "MULTI_HEAD",
    "OUTPUTS",
    "PNG_SIGNATURE",
    "SCORES",
    "SPLITS",
    "TASK_STRINGS",
    "UNDECODABLE",
    "VARIANTS",
    "VERDICTS",
    "Difference",
    "Feedback",
    "Finding",
    "ImageLike",
    "Rule",
    "open_encoded",
    "open_image",
    "orientation_of",
    "plain_content",
    "to_rgb",
    "upright",
]
