"""One HTML file that shows what a model sees: metric tables, learning curves, examples and score plots.

The page needs nothing but itself: images are `data:` URIs, plots inline SVG, styles and the few lines of
script are embedded. It has light and dark colours and reads without the script.
"""

import html
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from richhf.atomic import atomic_path
from richhf.feedback import HEATMAPS, SCORES
from richhf.inference.curves import learning_curves
from richhf.inference.drawing import number
from richhf.inference.gallery import GalleryExample, example_card, gallery, groups
from richhf.inference.html_page import html_page
from richhf.inference.metric_tables import BASELINE, CEILING, MODEL, TABLES, glance, metric_table
from richhf.inference.plots import scatter_plot

_LEAD = (
    "Seven kinds of feedback on an image made from a text: where it looks implausible, where it departs from "
    "the prompt, how good it is in four respects, and which words of the prompt it does not show."
)
_LEGEND = (
    "Colour on a map is the share of annotators who marked the place: "
    + ", ".join(f'{name} <span class="ramp {name}">0<i></i>1</span>' for name in HEATMAPS)
    + ". Under a marked word stands how the model did on it. Score bars are predictions, ticks the truth, "
    "from 0 (worst) to 1 (best)."
)
_ORDERS = {
    "": "order given",
    "scores": "largest score error",
    "maps": "largest map error",
    "words": "most wrong words",
}


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    metrics: Mapping | None = None,
    curves: Sequence[Mapping] = (),
    examples: Sequence[GalleryExample] = (),
    points: Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]] | None = None,
    extra: Mapping[str, object] | None = None,
) -> pathlib.Path:
    """Writes the page; every part may be missing. The same arguments give the same bytes.

    Args:
      path: the HTML file to write; folders are made. It is written under a temporary name and renamed.
      title: the page's headline.
      metrics: `metrics.json`: `model`, and where there are any `mean_baseline`, `noise_ceiling`, `examples`
        (how many), `split` and `compare` (other runs by name). Null means not defined and is shown as a dash.
      curves: the lines of `train_log.jsonl`, each a mapping with `step` and numbers by name.
      examples: images with their feedback.
      points: for scores by name, the predicted and the true values.
      extra: how the numbers came about, by title: command, machine, data set and the like.

    Returns:
      The path written.
    """
    metrics = metrics or {}
    points = points or {}
    for name in points:
        if name not in SCORES:
            raise ValueError(f"points has {name!r}, expected names of scores: {', '.join(SCORES)}.")
    sections = [
        ("example", "One image, seven outputs", _featured(examples) if len(examples) > 2 else ""),
        ("glance", "At a glance", _glance(metrics) if metrics.get(MODEL) else ""),
        ("metrics", "Metrics", _tables(metrics) if metrics.get(MODEL) else ""),
        ("scores", "Predicted and true scores", _scatter_plots(points, metrics)),
        ("curves", "Learning curves", learning_curves(curves)),
        ("gallery", "Gallery", _gallery(examples) if examples else ""),
        ("provenance", "How this was made", _provenance(extra or {})),
    ]
    sections = [(name, heading, body) for name, heading, body in sections if body]
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in sections)
    body = "".join(
        f'<section id="{name}" class="part"><h2>{heading}</h2>{content}</section>'
        for name, heading, content in sections
    )
    count, split = metrics.get("examples"), metrics.get("split")
    of = f" of the {html.escape(split)} split" if split else ""
    facts = f'<p class="facts">Measured on {count:,} images{of}.</p>' if isinstance(count, int) else ""
    header = f'<p class="lead">{_LEAD}</p>{facts}'
    body = f'<nav aria-label="Sections">{links}</nav><main>{body}</main>'
    page = html_page(title, header, body, script="report.js")
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return pathlib.Path(path)


def _featured(examples: Sequence[GalleryExample]) -> str:
    best = [example for example in examples if example.label == "best"] or list(examples)
    example = max(best, key=_shows)
    chosen = "One of the best cases; the gallery has a random sample. " if example.label == "best" else ""
    return f'<p class="hint">{chosen}{_LEGEND}</p><div class="cards">{example_card(example)}</div>'


def _shows(example: GalleryExample) -> int:
    """How many of the maps and the words have something to show."""
    feedback = example.truth or example.predicted
    return sum(bool(heatmap.any()) for heatmap in feedback.heatmaps.values()) + any(feedback.misaligned)


def _glance(metrics: Mapping) -> str:
    keys = [("bar", "this model")]
    if metrics.get(BASELINE):
        keys.append(("floor", "predict the mean"))
    if metrics.get("compare"):
        keys.append(("rival", ", ".join(metrics["compare"])))
    if metrics.get(CEILING):
        keys.append(("top", "noise ceiling: the noiseless truth, measured against the annotators"))
    key = "".join(f'<span><i class="key {kind}"></i>{html.escape(text)}</span>' for kind, text in keys)
    return f'<p class="hint keys">{key}</p>{glance(metrics)}'


def _tables(metrics: Mapping) -> str:
    note = "An arrow says which direction is better; bold is the best measured."
    if metrics.get(CEILING):
        note += (
            " The noise ceiling is what the noiseless truth scores against the annotators' labels, and the "
            "share of it is how far the model has come, counted from 0 (AUC-Judd: from .5, a blind guess)."
        )
    tables = (metric_table(title, text, columns, metrics) for title, text, columns in TABLES)
    return f'<p class="hint">{note}</p>{"".join(tables)}'


def _scatter_plots(points: Mapping, metrics: Mapping) -> str:
    figures = []
    for name in SCORES:
        if name not in points:
            continue
        predicted, true = (np.asarray(values, np.float64) for values in points[name])
        measured = ((metrics.get(MODEL) or {}).get("scores") or {}).get(name) or {}
        drawing = scatter_plot(predicted, true, label=f"predicted over true {name}, {predicted.size} images")
        figures.append(
            f"<figure><figcaption><b>{name.capitalize()}</b> <span>PLCC {number(measured.get('plcc'))}</span>"
            f"</figcaption>{drawing}</figure>"
        )
    if not figures:
        return ""
    note = (
        "Each dot is one image; on the dashed line the prediction is exact. The solid line is the mean "
        "prediction for a true score. True scores take few values, so dots are spread a little sideways."
    )
    return f'<p class="hint">{note}</p><div class="plots">{"".join(figures)}</div>'


def _gallery(examples: Sequence[GalleryExample]) -> str:
    labels = groups(examples)
    buttons = [_button("*", "All", pressed=True), *(_button(label, label.capitalize()) for label in labels)]
    tools = []
    if len(labels) > 1:
        tools.append(f'<div class="choose" role="group" aria-label="Show">{"".join(buttons)}</div>')
    if any(example.truth is not None for example in examples):
        options = "".join(f'<option value="{key}">{text}</option>' for key, text in _ORDERS.items())
        tools.append(f'<label>Sort by <select id="order">{options}</select></label>')
    tools.append('<label>Map opacity <input id="opacity" type="range" min="0" max="100" value="85"></label>')
    return f'<p class="hint">{_LEGEND}</p><div class="tools" hidden>{"".join(tools)}</div>{gallery(examples)}'


def _button(kind: str, text: str, *, pressed: bool = False) -> str:
    state = "true" if pressed else "false"
    return (
        f'<button type="button" data-show="{html.escape(kind)}" aria-pressed="{state}">'
        f"{html.escape(text)}</button>"
    )


def _provenance(extra: Mapping[str, object]) -> str:
    entries = "".join(
        f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>" for key, value in extra.items()
    )
    return f"<dl>{entries}</dl>" if entries else ""
