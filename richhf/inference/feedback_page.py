"""One HTML file with feedback on new images: maps to fade in, words marked, scores to sort and filter by.

What is chosen on the page stands in its address (`#sort=plausibility&keep=overall&min=0.5`), so that a view
can be sent to somebody. An image or a map is enlarged by a click or by Enter. All rows can be saved as CSV;
the page makes it itself and needs neither a server nor a network. Without its script it shows everything, in
the order given.
"""

import html
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from richhf.atomic import atomic_path
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES, VERDICTS
from richhf.inference.feedback_summary import csv_data, summary_section
from richhf.inference.gallery import GalleryExample, example_card
from richhf.inference.html_page import html_page

_LEGEND = (
    "Scores run from 0 (worst) to 1 (best); on the annotators' scale of five points that is 1 + 4 times the "
    "score. Colour on a map is the predicted share of annotators who would mark the place: "
    + ", ".join(f'{name} <span class="ramp {name}">0<i></i>1</span>' for name in HEATMAPS)
    + ". Words that the image does not show are marked; of "
    '<span class="uncovered">words underlined with dots</span> nothing is said: the model did not read them, '
    "or left them out when it wrote the prompt again."
)


def write_feedback_page(
    path: str | os.PathLike,
    examples: Iterable[GalleryExample],
    *,
    outputs: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    title: str = "Feedback",
    facts: str = "",
    demonstration: str = "",
    extra: Mapping[str, object] | None = None,
) -> pathlib.Path:
    """Writes the page.

    Args:
        path: the HTML file to write, under a temporary name that is then renamed.
        examples: images with what was predicted, in the order wanted; taken one by one.
        outputs: names of the outputs that they have.
        rows: of all inputs, columns as in `richhf.inference.shards`: for the summary, the CSV file and the
            list of inputs without feedback.
        title: the page's headline.
        facts: a line under it.
        demonstration: why the model is a demonstration only; empty: it is not one.
        extra: how this was made, by title.

    Returns:
        The path written.
    """
    cards, verdicts = [], False
    for example in examples:
        cards.append(example_card(example))
        verdicts |= any(verdict is not None for verdict in example.verdicts.values())
    shown = f'<p class="count" id="count" role="status">{len(cards):,} shown</p>'
    save = '<button type="button" id="csv" hidden>Save all as CSV</button>'
    main = (
        f'<section class="part">{summary_section(rows, outputs)}</section>'
        f'<section class="part"><h2>Images</h2><p class="hint">{_LEGEND}</p>{_tools(outputs, verdicts)}'
        f'<div class="bar-line">{shown}{save}</div>'
        f'<div class="cards grid" id="cards">{"".join(cards)}</div></section>'
    )
    failures = [(row["image"] or row["id"], row["error"]) for row in rows if row["error"]]
    if failures:
        names = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(why)}</dd>" for name, why in failures)
        main += '<section class="part" id="failures"><h2>Without feedback</h2>'
        main += f'<dl class="files">{names}</dl></section>'
    if extra:
        facts_made = "".join(
            f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
            for name, value in extra.items()
        )
        main += f'<section class="part"><h2>How this was made</h2><dl>{facts_made}</dl></section>'
    header = f'<p class="facts">{html.escape(facts)}</p>' if facts else ""
    if demonstration:
        header += f'<p class="demonstration">This model is a demonstration: {html.escape(demonstration)}</p>'
    body = f"<main>{main}</main>{csv_data(rows, outputs)}"
    with atomic_path(path) as temporary:
        page = html_page(title, header, body, script="feedback_page.js")
        temporary.write_text(page, encoding="utf-8")
    return pathlib.Path(path)


_ENDS = (("", "lowest"), ("-", "highest"))


def _tools(outputs: Sequence[str], verdicts: bool) -> str:
    scores = [name for name in SCORES if name in outputs]
    maps = [name for name in HEATMAPS if name in outputs]
    orders, tools = {"": "order given"}, []
    orders |= {f"{sign}{name}": f"{name}, {end} first" for name in scores for sign, end in _ENDS}
    orders |= {f"-{name}": f"strongest {name}" for name in maps}
    if KEYWORDS in outputs:
        orders["-words"] = "most misaligned words"
    tools.append(f'<label>Sort by <select id="sort">{_options(orders)}</select></label>')
    if scores:
        names = _options({"": "all", **{name: name for name in scores}})
        limits = {"min": ("from", 0), "max": ("to", 1)}
        ends = "".join(
            f'<label>{word} <input id="{end}" type="number" min="0" max="1" step="0.05" value="{value}">'
            "</label>"
            for end, (word, value) in limits.items()
        )
        tools.append(f'<label>Keep <select id="keep">{names}</select></label>{ends}')
    if verdicts:
        found = {
            "": "anything",
            **{name.removeprefix("has_"): name.removeprefix("has_") for name in VERDICTS},
        }
        options = _options(found | {"nothing": "nothing"})
        tools.append(f'<label>Found <select id="found">{options}</select></label>')
    tools.append('<label>Prompt has <input id="text" type="search"></label>')
    if maps:
        slider = '<input id="opacity" type="range" min="0" max="100" value="85">'
        tools.append(f"<label>Map opacity {slider}</label>")
    return f'<div class="tools" hidden>{"".join(tools)}</div>'


def _options(texts: Mapping[str, str]) -> str:
    return "".join(f'<option value="{key}">{text}</option>' for key, text in texts.items())
