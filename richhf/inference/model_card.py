"""The model card of a native folder: what the model is, what it was made from, how to use it."""

import json
from collections.abc import Mapping
from typing import Any

from richhf.models.parameters import parameter_counts
from richhf.pretrained.native import NativeModel, Settings

METRICS = "metrics"
"""Where provenance keeps the tables of an evaluation, Markdown."""

_RATES = ("precision", "recall", "false_positive_rate", "false_negative_rate")
_UNFLAGGED = "found_without_flagged_word"
_RECORDED = ("balance", "truth", "examples", "held_out", "intervals")
_VERDICTS = """\
`has_artifact` and `has_misalignment` combine all outputs that were asked for, by logistic regressions with
weights of 0 or more. A flagged word is a misalignment by itself. `Feedback.findings` has the reasons.

- balance: {balance}
- truth: {truth}
- calibrated on {examples} examples; error rates on: {held_out}
- intervals: {intervals}; false positives and negatives are shares of the faultless and of the faulty
- thresholds of single outputs, which explain a verdict: {thresholds}

| verdict | from | faulty | precision | recall | false positives | false negatives | without a flagged word |
|---|---|---:|---:|---:|---:|---:|---:|
{rows}"""

_TEXT = """\
# A Rich Human Feedback model

Given an image and the prompt that it was generated from: four scores (plausibility, alignment, aesthetics,
overall), two heatmaps (where the image is implausible, where it does not show what the prompt says) and the
prompt's words that it does not show. The network is RAHF (Liang et al. 2024, "Rich Human Feedback for
Text-to-Image Generation"), {parameters:,} parameters, computed in {dtype}.

```python
import richhf

feedback = richhf.load("THIS FOLDER")("image.png", "the prompt")[0]
```

| | |
|---|---|
{table}

## Where it is from

{provenance}

## Metrics

{metrics}

## Verdicts

{verdicts}

## Limits

{demonstration}It repeats what its annotators saw and how they judged; on images unlike those of its training
data it may be wrong without a sign. Scores are not comparable between models.
"""


def model_card(native: NativeModel) -> str:
    """The card as Markdown."""
    config, settings = native.model.config, native.settings
    counts = parameter_counts({"params": dict(native.params)})
    provenance = dict(settings.provenance)
    metrics, demonstration = provenance.pop(METRICS, None), settings.demonstration
    rows = {
        "variant": config.variant,
        "image": f"{config.vit.image_size} px square; others are fitted to it",
        "prompt": f"up to {settings.prompt_length} tokens" if settings.see_prompt else "not seen in training",
        "keywords": f"up to {native.model.keyword_length} tokens",
        "parameters": ", ".join(f"{part} {count:,}" for part, count in counts.items()),
        "verdicts": "calibrated" if settings.rules or settings.thresholds else "not calibrated",
    }
    listed = [f"- {name}: {_shown(value)}" for name, value in provenance.items()]
    return _TEXT.format(
        parameters=sum(counts.values()),
        dtype=config.dtype,
        table="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        provenance="\n".join(listed) or "Not recorded.",
        metrics=metrics or "Not recorded: evaluate it with launch.eval.",
        verdicts=verdict_tables(settings),
        demonstration=f"This model is a demonstration: {demonstration}\n" if demonstration else "",
    )


def verdict_tables(settings: Settings) -> str:
    """Returns how verdicts are calibrated and their error rates on held-out examples, Markdown."""
    calibration, single = settings.calibration, settings.thresholds
    thresholds = ", ".join(f"{name} {value:.3g}" for name, value in single.items())
    if not calibration:
        return f"One output decides, by its threshold: {thresholds}." if single else "Not calibrated."
    rows = [_verdict_row(rates) for rates in calibration.get("error_rates", [])]
    return _VERDICTS.format(
        thresholds=thresholds,
        rows="\n".join(rows),
        **{name: calibration.get(name, "not recorded") for name in _RECORDED},
    )


def _verdict_row(rates: Mapping[str, Any]) -> str:
    cells = [
        f"`{rates['verdict']}`",
        " + ".join(rates["outputs"]),
        f"{rates['faulty']} of {rates['examples']}",
    ]
    for name in _RATES:
        value = rates.get(name)
        cells.append("-" if value is None else "{:.3f} ({:.3f} to {:.3f})".format(*value))
    cells.append(f"{rates['found_without_flagged_word']} of {rates['found']}" if _UNFLAGGED in rates else "-")
    return f"| {' | '.join(cells)} |"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
