"""The paper's metrics for `seqio.Evaluator`.

The evaluator calls `predict_with_aux_fn`, which gives keyword tokens and, as auxiliary values, `heatmaps` f32
[n 2 h w] in [0, 1], `scores` f32 [n 4] and the same `keyword_tokens` int32 [n k]: what `predict_batch` of the
model returns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from richhf.data.prompts import PLAIN, in_form
from richhf.data.targets import find_marks, read_flags
from richhf.evaluation import FeedbackArrays, evaluate_feedback, flatten_metrics, readable_flags
from tasks.tokens import target_vocabulary

AUX_VALUES = ("heatmaps", "scores", "keyword_tokens")


def postprocess(text: str, *, example: Mapping, is_target: bool):
    """Returns a prediction's text as it is, and for a target also the other labels of its example."""
    if not is_target:
        return text
    return {
        "keywords": text,
        "prompt": example["prompt"].decode(),
        "filename": example["filename"].decode(),
        **{name: example[name] for name in ("heatmaps", "heatmap_weights", "scores", "score_weights")},
        "keyword_valid": bool(example["keyword_valid"]),
    }


def paper_metrics(vocabulary: seqio.Vocabulary, prompt_form: str = PLAIN) -> Callable[..., dict[str, float]]:
    """Makes the metric function of a task.

    Args:
        vocabulary: of the keyword targets.
        prompt_form: how the task writes prompts (`richhf.data.prompts.PROMPT_FORMS`).

    Returns:
        A function of `targets` (what `postprocess` makes of each example), `predictions` (decoded keyword
        sequences) and `aux_values` (predicted `heatmaps`, `scores` and `keyword_tokens`). It returns all
        metrics of section 4.2 by names like `heatmaps/implausibility/cc`: those of
        `richhf.evaluation.evaluate_feedback`, flattened; undefined ones are left out. Words that the
        vocabulary cannot read are left out of the keyword metrics.
    """

    def metrics(
        targets: Sequence[Mapping], predictions: Sequence[str], aux_values: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        if missing := [name for name in AUX_VALUES if name not in aux_values]:
            raise ValueError(
                f"The predictions lack the auxiliary values {', '.join(missing)}. predict_with_aux_fn gives "
                f"{', '.join(AUX_VALUES)} of each example, as predict_batch_with_aux of the T5X model does."
            )
        reader = target_vocabulary(vocabulary)
        prompts = [target["prompt"] for target in targets]
        marked = [target["keywords"] for target in targets]
        common: dict[str, Any] = {
            "prompts": prompts,
            "filenames": [target["filename"] for target in targets],
            "keyword_valid": np.array([target["keyword_valid"] for target in targets]),
        }
        truth = FeedbackArrays(
            scores=np.stack([target["scores"] for target in targets]),
            heatmaps=np.stack([target["heatmaps"] for target in targets]),
            keywords=marked,
            flags=readable_flags(prompts, list(map(find_marks, prompts, marked)), reader),
            score_valid=np.stack([target["score_weights"] > 0 for target in targets]),
            heatmap_valid=np.stack([target["heatmap_weights"] > 0 for target in targets]),
            **common,
        )
        tokens = [np.asarray(row).tolist() for row in aux_values["keyword_tokens"]]
        predicted = FeedbackArrays(
            scores=np.asarray(aux_values["scores"], np.float32),
            heatmaps=np.asarray(aux_values["heatmaps"], np.float32),
            keywords=list(predictions),
            flags=[
                read_flags(in_form(prompt, prompt_form), row, reader)
                for prompt, row in zip(prompts, tokens, strict=True)
            ],
            **common,
        )
        return flatten_metrics(evaluate_feedback(predicted, truth))

    return metrics
