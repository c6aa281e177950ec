import dataclasses
import json

import numpy as np

from richhf.evaluation import ExampleValues, example_lines
from richhf.evaluation.values import HEATMAP_METRICS
from richhf.feedback import HEATMAPS, SCORES


def make_values():
    maps = {name: {metric: np.array([0.25, np.nan]) for metric in HEATMAP_METRICS} for name in HEATMAPS}
    return ExampleValues(
        filenames=["test/a.png", "test/é.png"],
        prompts=["a red cat", "a dog"],
        predicted_scores=np.array([[0.1, 0.2, 0.3, 1 / 3]] * 2),
        true_scores=np.array([[0.5, 0.5, np.nan, 0.5]] * 2),
        heatmaps=maps,
        predicted_keywords=["a_0 red_0 cat", "a dog"],
        true_keywords=["a red_0 cat_0", "a dog"],
        keyword_valid=np.array([True, False]),
        predicted_flags=[(True, True, False), (False, False)],
        true_flags=[(False, True, True), (False, False)],
    )


def test_a_line_says_everything_of_an_example():
    lines = [json.loads(line) for line in example_lines(make_values())]
    assert [line["filename"] for line in lines] == ["test/a.png", "test/é.png"]
    first, second = lines
    assert first["prompt"] == "a red cat"
    assert list(first["scores"]) == list(SCORES)
    assert first["scores"]["overall"] == {"predicted": 0.3333333, "true": 0.5}
    assert first["scores"]["aesthetics"]["true"] is None
    assert first["heatmaps"]["misalignment"] == dict.fromkeys(HEATMAP_METRICS, 0.25)
    assert second["heatmaps"]["misalignment"] == dict.fromkeys(HEATMAP_METRICS)
    keywords = first["keywords"]
    assert keywords["pooled"] == {"hits": 1, "false_alarms": 1, "misses": 1}
    assert keywords["per_sample"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert (keywords["predicted"], keywords["true"]) == ("a_0 red_0 cat", "a red_0 cat_0")
    assert second["keywords"] == {"predicted": "a dog", "true": None, "pooled": None, "per_sample": None}
    assert first["quality"] > 0


def test_lines_are_strict_json_whatever_is_unknown():
    unknown = dataclasses.replace(make_values(), true_scores=np.full((2, 4), np.nan))
    for line in example_lines(unknown):
        assert line.endswith("}\n")
        assert "NaN" not in line
