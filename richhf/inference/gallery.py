"""Examples on a page: image, maps, prompt with marked words and scores, truth beside prediction."""

import dataclasses
import html
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from richhf.feedback import HEATMAPS, SCORES, Difference, Feedback, open_image
from richhf.feedback.notebook import found_text, reasons_text
from richhf.inference.drawing import backdrop_uri, layer_uri, number, percent, picture_uri

HEADINGS = {
    "random": ("A random sample", "Not chosen by anybody."),
    "best": ("Best cases", "Where prediction and annotators agree most."),
    "worst": ("Worst cases", "Where they disagree most."),
}
_VERDICTS = {"hit": "found", "miss": "missed", "false": "false alarm", "marked": "misaligned"}


@dataclasses.dataclass(frozen=True)
class GalleryExample:
    """One image with its feedback.

    Attributes:
      image: a PIL picture or a uint8 array.
      truth: the annotators' feedback; None where there is none (predictions on new images).
      predicted: the model's.
      label: the group it is shown in: 'random', 'best', 'worst' or any other name.
      note: a short remark, such as the file's name.
      verdicts: the model's by name, None where nothing decided.
      reasons: by verdict, why.
    """

    image: Image.Image | UInt8[np.ndarray, "h w 3"]
    truth: Feedback | None
    predicted: Feedback
    label: str = ""
    note: str = ""
    verdicts: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)
    reasons: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def groups(examples: Sequence[GalleryExample]) -> dict[str, list[GalleryExample]]:
    """The examples by label: random, best and worst first, then others as they come."""
    labels = dict.fromkeys([*HEADINGS, *(example.label for example in examples)])
    members = {label: [example for example in examples if example.label == label] for label in labels}
    return {label: some for label, some in members.items() if some}


def gallery(examples: Sequence[GalleryExample]) -> str:
    """All examples, a section for each label."""
    sections = []
    for label, members in groups(examples).items():
        title, note = HEADINGS.get(label, (label.capitalize() or "Examples", ""))
        cards = "".join(example_card(example) for example in members)
        sections.append(
            f'<section class="group" data-kind="{html.escape(label)}"><h3>{html.escape(title)} '
            f'<span class="count">{len(members)}</span></h3>'
            f'<p class="hint">{html.escape(note)}</p><div class="cards">{cards}</div></section>'
        )
    return "".join(sections)


def example_card(example: GalleryExample) -> str:
    """One example as an `<article>`; its `data-` attributes serve the page's sorting."""
    image = open_image(example.image)
    predicted, truth = example.predicted, example.truth
    difference = predicted.difference(truth) if truth is not None else None
    note = f'<p class="note">{html.escape(example.note)}</p>' if example.note else ""
    alt = f"Image generated for: {predicted.prompt}"
    panels = [
        f'<figure class="picture"><img src="{picture_uri(image)}" width="{image.width}" '
        f'height="{image.height}" alt="{html.escape(alt)}"><figcaption>Image</figcaption></figure>'
    ]
    for name in HEATMAPS:
        stages = "".join(
            _stage(feedback, name, who)
            for feedback, who in ((truth, "true"), (predicted, "predicted"))
            if feedback is not None and name in feedback.heatmaps
        )
        if stages:
            panels.append(f'<div class="pair {name}" role="group" aria-label="{name} map">{stages}</div>')
    bars = "".join(_score(name, truth, predicted) for name in SCORES if name in predicted.scores)
    found = html.escape(found_text(example.verdicts))
    why = "".join(f"<li>{html.escape(line)}</li>" for line in _reasons(example))
    return (
        f'<article class="example"{_order(predicted, difference)}{_found(example.verdicts)}>'
        f'<header><p class="prompt">{marked_prompt(predicted, truth)}</p>{note}</header>'
        f'<div class="panels" style="--backdrop:url({backdrop_uri(image)});'
        f'--shape:{image.width}/{image.height}">{"".join(panels)}</div>'
        f'<div class="scores">{bars}</div>{found and f"<p class=found>{found}</p>"}'
        f"{why and f'<ul class=why>{why}</ul>'}</article>"
    )


def marked_prompt(predicted: Feedback, truth: Feedback | None) -> str:
    """The prompt as HTML; each word that is misaligned in truth or prediction carries the verdict on it."""
    if truth is not None and truth.misaligned and predicted.misaligned:
        difference = predicted.difference(truth)
        verdicts = dict.fromkeys(difference.hits, "hit")
        verdicts |= dict.fromkeys(difference.misses, "miss")
        verdicts |= dict.fromkeys(difference.false_alarms, "false")
    else:
        verdicts = {i: "marked" for i, flag in enumerate(predicted.misaligned) if flag}
    pieces, position = [], 0
    for i, word in enumerate(predicted.words):
        start = predicted.prompt.find(word, position)
        if start < 0:
            raise ValueError(f"Word {i} {word!r} does not follow in the prompt {predicted.prompt!r}.")
        shown = html.escape(word)
        if predicted.covered and not predicted.covered[i]:
            shown = f'<span class="uncovered" title="not covered by the feedback">{shown}</span>'
        if i in verdicts:
            shown = f'<mark class="{verdicts[i]}">{shown}<span> {_VERDICTS[verdicts[i]]}</span></mark>'
        pieces += [html.escape(predicted.prompt[position:start]), shown]
        position = start + len(word)
    return "".join([*pieces, html.escape(predicted.prompt[position:])])


def _stage(feedback: Feedback, name: str, who: str) -> str:
    heatmap = feedback.heatmaps[name]
    peak, marked = float(heatmap.max()), float((heatmap > 0.1).mean())
    alt = f"{who} {name} map: peak {number(peak, 2)}, {percent(marked)} of the image above .1"
    return (
        f'<figure><div class="stage"><img class="layer" src="{layer_uri(feedback, name)}" '
        f'width="{heatmap.shape[1]}" height="{heatmap.shape[0]}" alt="{alt}"></div>'
        f"<figcaption><b>{name.capitalize()}</b> {who}</figcaption></figure>"
    )


def _score(name: str, truth: Feedback | None, predicted: Feedback) -> str:
    value, true = predicted.scores[name], truth.scores.get(name) if truth is not None else None
    tick = f'<i class="tick" style="--v:{100 * true:.1f}%"></i>' if true is not None else ""
    digits = 4 if true is None else 2
    label = f"{name}: predicted {number(value, digits)}"
    label += f", true {number(true, 2)}" if true is not None else ""
    shown = f"<small>true {number(true, 2)}</small>" if true is not None else ""
    return (
        f'<div class="score"><span class="name">{name}</span><span class="track" role="img" '
        f'aria-label="{label}"><i class="bar" style="--v:{100 * value:.1f}%"></i>{tick}</span>'
        f'<span class="value"><b>{number(value, digits)}</b> {shown}</span></div>'
    )


def _order(predicted: Feedback, difference: Difference | None) -> str:
    """What a card can be sorted by: errors where the truth is known, otherwise what was predicted."""
    keys: dict[str, float] = dict(predicted.scores)
    keys |= {name: float(heatmap.max()) for name, heatmap in predicted.heatmaps.items()}
    if predicted.misaligned:
        keys["words"] = sum(predicted.misaligned)
    if difference is not None:
        keys = {
            "scores": _mean(abs(value) for value in difference.scores.values()),
            "maps": _mean(float(np.abs(value).mean()) for value in difference.heatmaps.values()),
            "words": len(difference.misses) + len(difference.false_alarms),
        }
    return "".join(f' data-{key}="{value:.5f}"' for key, value in keys.items())


def _reasons(example: GalleryExample) -> list[str]:
    """A line for each verdict that has reasons."""
    return reasons_text(
        {
            name: {"verdict": example.verdicts.get(name), "reasons": reasons}
            for name, reasons in example.reasons.items()
            if reasons
        }
    )


def _found(verdicts: Mapping[str, bool | None]) -> str:
    """What a card can be kept by."""
    if all(verdict is None for verdict in verdicts.values()):
        return ""
    return f' data-found="{" ".join(name.removeprefix("has_") for name in verdicts if verdicts[name])}"'


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0
