import dataclasses

import numpy as np
import pytest

from richhf.data.words import mark_misaligned
from richhf.evaluation import ExampleValues, bootstrap_intervals, flatten_metrics
from richhf.evaluation.evaluate import summarise
from richhf.evaluation.tables import interval_ends
from richhf.evaluation.values import HEATMAP_METRICS
from richhf.feedback import HEATMAPS

PROMPT = "a big red cat"


def make_values(n=60, seed=0):
    """Values with ties, unknown scores, undefined maps and prompts without labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 13, (n, 4)) / 12
    flags = rng.random((2, n, 4)) < 0.3
    maps = {name: {metric: rng.random(n) for metric in HEATMAP_METRICS} for name in HEATMAPS}
    for metrics in maps.values():
        for metric, column in metrics.items():
            column[: n // 3] = column[: n // 3] if metric == "mse" else np.nan
    texts = [[mark_misaligned(PROMPT, flag.tolist()) for flag in side] for side in flags]
    return ExampleValues(
        filenames=[f"test/{i}.png" for i in range(n)],
        prompts=[PROMPT] * n,
        predicted_scores=np.round(true + rng.normal(0, 0.3, true.shape), 1),
        true_scores=np.where(rng.random(true.shape) < 0.9, true, np.nan),
        heatmaps=maps,
        predicted_keywords=texts[0],
        true_keywords=texts[1],
        keyword_valid=rng.random(n) < 0.9,
        predicted_flags=[tuple(row.tolist()) for row in flags[0]],
        true_flags=[tuple(row.tolist()) for row in flags[1]],
    )


def take(values, rows):
    def chosen(value):
        if isinstance(value, dict):
            return {name: chosen(part) for name, part in value.items()}
        return [value[i] for i in rows] if isinstance(value, list) else value[rows]

    fields = [field.name for field in dataclasses.fields(values)]
    return ExampleValues(**{name: chosen(getattr(values, name)) for name in fields})


def test_they_are_the_percentiles_of_the_metrics_of_resamples():
    """Against the metrics themselves, computed on copies of the examples one resample after the other."""
    values, resamples = make_values(), 40
    rng = np.random.default_rng(3)
    rows = rng.integers(0, len(values), (resamples, len(values)))
    drawn = [flatten_metrics(summarise(take(values, picks))) for picks in rows]
    intervals = bootstrap_intervals(values, resamples=resamples, seed=3)
    assert intervals.keys() == summarise(values).keys()
    for end, share in enumerate((2.5, 97.5)):
        found = flatten_metrics(interval_ends(intervals, end))
        expected = {name: np.percentile([metrics[name] for metrics in drawn], share) for name in drawn[0]}
        assert found == pytest.approx(expected, rel=1e-9)


def test_the_same_seed_gives_the_same_intervals():
    one, again, other = (bootstrap_intervals(make_values(), resamples=50, seed=seed) for seed in (0, 0, 1))
    assert one == again != other


def test_more_examples_give_narrower_intervals_around_the_value():
    widths = []
    for n in (50, 800):
        values = make_values(n)
        lows, highs = (flatten_metrics(interval_ends(bootstrap_intervals(values), end)) for end in (0, 1))
        metrics = flatten_metrics(summarise(values))
        assert lows.keys() == highs.keys() == metrics.keys()
        assert all(lows[name] < metrics[name] < highs[name] for name in metrics)
        widths.append(highs["scores/overall/plcc"] - lows["scores/overall/plcc"])
    assert widths[1] < 0.6 * widths[0]


def test_what_is_undefined_has_no_interval():
    values = make_values(12)
    blank = dataclasses.replace(
        values,
        true_scores=np.full((12, 4), np.nan),
        heatmaps={
            name: {metric: np.full(12, np.nan) for metric in HEATMAP_METRICS} for name in values.heatmaps
        },
        keyword_valid=np.zeros(12, bool),
    )
    intervals = bootstrap_intervals(blank, resamples=20)
    assert flatten_metrics(interval_ends(intervals, 0)) == {}
    assert intervals["scores"]["overall"] == {"plcc": None, "srcc": None}
    constant = dataclasses.replace(values, predicted_scores=np.full((12, 4), 0.1))
    assert bootstrap_intervals(constant, resamples=20)["scores"]["overall"] == {"plcc": None, "srcc": None}
