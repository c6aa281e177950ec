"""The paper's metrics for `seqio.Evaluator`.

The evaluator calls `predict_with_aux_fn`, which gives keyword tokens and, as auxiliary values, `heatmaps` f32
[n 2 h w] in [0, 1] and `scores` f32 [n 4]: what `predict_batch` of the model returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from richhf.evaluation import FeedbackArrays, evaluate_feedback, flatten_metrics


def postprocess(text: str, *, example: Mapping, is_target: bool):
    """A prediction stays the decoded text; a target takes along the other labels of its example."""
    if not is_target:
        return text
    return {
        "keywords": text,
        "prompt": example["prompt"].decode(),
        "filename": example["filename"].decode(),
        **{name: example[name] for name in ("heatmaps", "heatmap_weights", "scores", "score_weights")},
        "keyword_valid": bool(example["keyword_valid"]),
    }


def paper_metrics(
    targets: Sequence[Mapping], predictions: Sequence[str], aux_values: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """All metrics of section 4.2, by names like `heatmaps/implausibility/cc`.

    Args:
      targets: what `postprocess` makes of each example.
      predictions: decoded keyword sequences.
      aux_values: predicted `heatmaps` and `scores`.

    Returns:
      The nested metrics of `richhf.evaluation.evaluate_feedback`, flattened; undefined ones are left out.
    """
    common: dict[str, Any] = {
        "prompts": [target["prompt"] for target in targets],
        "filenames": [target["filename"] for target in targets],
        "keyword_valid": np.array([target["keyword_valid"] for target in targets]),
    }
    truth = FeedbackArrays(
        scores=np.stack([target["scores"] for target in targets]),
        heatmaps=np.stack([target["heatmaps"] for target in targets]),
        keywords=[target["keywords"] for target in targets],
        score_valid=np.stack([target["score_weights"] > 0 for target in targets]),
        heatmap_valid=np.stack([target["heatmap_weights"] > 0 for target in targets]),
        **common,
    )
    predicted = FeedbackArrays(
        scores=np.asarray(aux_values["scores"], np.float32),
        heatmaps=np.asarray(aux_values["heatmaps"], np.float32),
        keywords=list(predictions),
        **common,
    )
    return flatten_metrics(evaluate_feedback(predicted, truth))
