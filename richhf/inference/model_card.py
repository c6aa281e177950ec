"""The model card of a native folder: what the model is, what it was made from, how to use it."""

import json

from richhf.models.parameters import parameter_counts
from richhf.pretrained.native import NativeModel

METRICS = "metrics"
"""Where provenance keeps the tables of an evaluation, Markdown."""

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

## Limits

It repeats what its annotators saw and how they judged; on images unlike those of its training data it may be
wrong without a sign. Scores are not comparable between models.
"""


def model_card(native: NativeModel) -> str:
    """The card as Markdown."""
    config, settings = native.model.config, native.settings
    counts = parameter_counts({"params": dict(native.params)})
    provenance = dict(settings.provenance)
    metrics = provenance.pop(METRICS, None)
    thresholds = ", ".join(f"{name} {value:.3g}" for name, value in settings.thresholds.items())
    rows = {
        "variant": config.variant,
        "image": f"{config.vit.image_size} px square; others are fitted to it",
        "prompt": f"up to {settings.prompt_length} tokens" if settings.see_prompt else "not seen in training",
        "keywords": f"up to {native.model.keyword_length} tokens",
        "parameters": ", ".join(f"{part} {count:,}" for part, count in counts.items()),
        "thresholds": thresholds or "not calibrated",
    }
    listed = [f"- {name}: {_shown(value)}" for name, value in provenance.items()]
    return _TEXT.format(
        parameters=sum(counts.values()),
        dtype=config.dtype,
        table="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        provenance="\n".join(listed) or "Not recorded.",
        metrics=metrics or "Not recorded: evaluate it with launch.eval.",
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
