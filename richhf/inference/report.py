"""One HTML file that shows what a model sees: metric tables, learning curves, examples and score plots.

The page needs nothing but itself: images are `data:` URIs, plots inline SVG, styles and the few lines of script are
embedded. It has light and dark colours and reads without the script.
"""

import html
import importlib.resources
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from richhf.feedback import HEATMAPS, SCORES
from richhf.inference.drawing import number
from richhf.inference.gallery import HEADINGS, GalleryExample, example_card, gallery
from richhf.inference.metric_tables import MODEL, TABLES, glance, metric_table
from richhf.inference.plots import Series, line_plot, scatter_plot

_LEAD = (
    "Seven kinds of feedback on an image made from a text: where it looks implausible, where it departs from the "
    "prompt, how good it is in four respects, and which words of the prompt it does not show."
)


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
      metrics: `metrics.json`: `model`, and where there are any `mean_baseline`, `noise_ceiling`, `examples` (how
        many) and `compare` (other runs by name). Null means not defined and is shown as a dash.
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
        ("curves", "Learning curves", _curves(curves)),
        ("gallery", "Gallery", _gallery(examples) if examples else ""),
        ("provenance", "How this was made", _provenance(extra or {})),
    ]
    sections = [(name, heading, body) for name, heading, body in sections if body]
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in sections)
    body = "".join(
        f'<section id="{name}" class="part"><h2>{heading}</h2>{content}</section>'
        for name, heading, content in sections
    )
    count = metrics.get("examples")
    facts = f'<p class="facts">Measured on {count:,} test images.</p>' if isinstance(count, int) else ""
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{_asset('report.css')}</style></head><body>"
        f'<header class="top"><p class="eyebrow">Rich human feedback</p><h1>{html.escape(title)}</h1>'
        f'<p class="lead">{_LEAD}</p>{facts}</header>'
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main>'
        f"<script>{_asset('report.js')}</script></body></html>\n"
    )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _asset(name: str) -> str:
    return importlib.resources.files("richhf.inference").joinpath(name).read_text(encoding="utf-8")


def _featured(examples: Sequence[GalleryExample]) -> str:
    example = next((example for example in examples if example.label == "best"), examples[0])
    chosen = (
        "One of the best cases; the gallery below has a random sample. " if example.label == "best" else ""
    )
    return f'<p class="hint">{chosen}{_LEGEND}</p><div class="cards">{example_card(example)}</div>'


_LEGEND = (
    "Colour on the maps is the share of annotators who marked the place: "
    + ", ".join(f'{name} <span class="ramp {name}">0<i></i>1</span>' for name in HEATMAPS)
    + ". Below the prompt's words stands how the model did on them. Score bars are predictions, the tick is the truth; "
    "0 is worst, 1 best."
)


def _glance(metrics: Mapping) -> str:
    key = '<span class="key bar"></span> this model'
    if metrics.get("mean_baseline"):
        key += ' <span class="key floor"></span> predict the mean'
    if metrics.get("compare"):
        key += f' <span class="key rival"></span> {html.escape(", ".join(metrics["compare"]))}'
    if metrics.get("noise_ceiling"):
        key += ' <span class="key top"></span> noise ceiling: what a perfect model would score against noisy annotators'
    return f'<p class="hint keys">{key}</p>{glance(metrics)}'


def _tables(metrics: Mapping) -> str:
    return "".join(metric_table(title, note, columns, metrics) for title, note, columns in TABLES)


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
        "Each dot is one image; on the dashed line the prediction is exact. The solid line is the mean prediction for "
        "images with that true score. True scores are few, so dots are spread a little sideways."
    )
    return f'<p class="hint">{note}</p><div class="plots">{"".join(figures)}</div>'


def _curves(curves: Sequence[Mapping]) -> str:
    table: dict[str, list[tuple[float, float]]] = {}
    for line in curves:
        for key, value in line.items():
            if key not in ("step", "seconds") and _is_number(value) and _is_number(line.get("step")):
                table.setdefault(key, []).append((float(line["step"]), float(value)))
    evaluated = [key for key in table if key.startswith("eval/")]
    main, rest, used = [], [], set()
    for key in sorted((key for key in table if key not in evaluated), key=lambda k: (k.count("/"), k)):
        checks = [other for other in evaluated if other.split("/", 2)[-1] == key]
        used.update(checks)
        is_loss = key.split("/")[0] == "loss"
        lines = [_series("training", table[key], 0, smooth=True)]
        lines += [_series(check.split("/")[1], table[check], i + 1) for i, check in enumerate(checks)]
        (main if is_loss else rest).append(_curve(_curve_title(key), lines))
    for key in evaluated:
        if key not in used:
            rest.append(_curve(key.removeprefix("eval/"), [_series("evaluation", table[key], 1)]))
    if not main and not rest:
        return ""
    note = "Over training steps. Pale: every logged value; strong: its moving average; dotted line: held-out images. "
    note += "Where a curve falls by more than a factor of eight its axis is logarithmic."
    more = f'<details><summary>{len(rest)} more curves</summary><div class="plots">{"".join(rest)}</div></details>'
    return f'<p class="hint">{note}</p><div class="plots">{"".join(main)}</div>{more if rest else ""}'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _series(name: str, values: list[tuple[float, float]], colour: int, smooth: bool = False) -> Series:
    steps, numbers = np.array(values, np.float64).T
    return Series(name, steps, numbers, min(colour, 3), smooth)


def _curve(title: str, lines: list[Series]) -> str:
    last = lines[-1].y[-1]
    key = "".join(f'<span class="series-{line.colour}">{html.escape(line.name)}</span>' for line in lines[1:])
    drawing = line_plot(lines, label=f"{title} over training steps, last {last:.4g}")
    return f"<figure><figcaption><b>{html.escape(title)}</b> {key}<span>{last:.4g}</span></figcaption>{drawing}</figure>"


def _curve_title(key: str) -> str:
    if key == "loss":
        return "Total loss"
    return key.removeprefix("loss/").replace("_", " ").capitalize()


def _gallery(examples: Sequence[GalleryExample]) -> str:
    labels = [
        label
        for label in dict.fromkeys([*HEADINGS, *(e.label for e in examples)])
        if any(e.label == label for e in examples)
    ]
    buttons = "".join(
        f'<button type="button" data-show="{html.escape(label)}" aria-pressed="false">{html.escape(label.capitalize())}</button>'
        for label in labels
    )
    chooser = f'<div class="choose" role="group" aria-label="Show"><button type="button" data-show="*" aria-pressed="true">All</button>{buttons}</div>'
    sorting = (
        '<label>Sort by <select id="order"><option value="">order given</option>'
        '<option value="scores">largest score error</option><option value="maps">largest map error</option>'
        '<option value="words">most wrong words</option></select></label>'
        if any(example.truth is not None for example in examples)
        else ""
    )
    slider = '<label>Map opacity <input id="opacity" type="range" min="0" max="100" value="85"></label>'
    tools = f'<div class="tools" hidden>{chooser if len(labels) > 1 else ""}{sorting}{slider}</div>'
    return f'<p class="hint">{_LEGEND}</p>{tools}{gallery(list(examples))}'


def _provenance(extra: Mapping[str, object]) -> str:
    entries = "".join(
        f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>" for key, value in extra.items()
    )
    return f"<dl>{entries}</dl>" if entries else ""
