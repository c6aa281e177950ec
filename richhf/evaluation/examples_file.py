r"""`examples.jsonl`: what a model did on each image, one JSON object a line, in the order of the split.

    {"filename": "test/1.png", "prompt": "a cat", "quality": 0.8,
     "scores": {name: {"predicted", "true"}}, "heatmaps": {name: {metric: value}},
     "keywords": {"predicted": "a cat_0", "true": "a cat", "pooled": {"hits", "false_alarms", "misses"},
                  "per_sample": {"precision", "recall", "f1"}}}

Null stands for what is unknown or undefined. `quality` orders examples and is no metric. The worst ten:
`sort_values("quality")` of pandas' `read_json(path, lines=True)`, or jq's `-s 'sort_by(.quality)[:10]'`.
"""

import json
import math
from collections.abc import Iterator

from richhf.evaluation.keywords import KEYWORD_METRICS, count_marks, sample_rates
from richhf.evaluation.values import ExampleValues
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

EXAMPLES_FILE = "examples.jsonl"


def example_lines(values: ExampleValues) -> Iterator[str]:
    """The line of each example, with its line break."""
    for i, quality in enumerate(values.quality()):
        pairs = zip(SCORES, values.predicted_scores[i], values.true_scores[i], strict=True)
        line = {
            "filename": values.filenames[i],
            "prompt": values.prompts[i],
            "quality": _number(quality),
            "scores": {name: {"predicted": _number(p), "true": _number(t)} for name, p, t in pairs},
            "heatmaps": {
                name: {metric: _number(column[i]) for metric, column in values.heatmaps[name].items()}
                for name in HEATMAPS
            },
            KEYWORDS: _keywords(values, i),
        }
        yield json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _keywords(values: ExampleValues, index: int) -> dict:
    predicted, true = values.predicted_keywords[index], values.true_keywords[index]
    if not values.keyword_valid[index]:
        return {"predicted": predicted, "true": None, "pooled": None, "per_sample": None}
    marks = values.keyword_marks(index)
    counts, rates = count_marks(*marks), sample_rates(*marks)
    return {
        "predicted": predicted,
        "true": true,
        "pooled": dict(zip(("hits", "false_alarms", "misses"), counts, strict=True)),
        "per_sample": {name: _number(rate) for name, rate in zip(KEYWORD_METRICS, rates, strict=True)},
    }


def _number(value: float) -> float | None:
    # Seven digits are what float32 holds.
    return float(f"{value:.7g}") if math.isfinite(value) else None
