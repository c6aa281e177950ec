"""One HTML file with feedback on new images: maps to fade in, words marked, scores to sort and filter by.

What is chosen on the page stands in its address (`#sort=plausibility&keep=overall&min=0.5`), so that a view
can be sent to somebody. Without its script it shows everything, in the order given.
"""

import html
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from richhf.atomic import atomic_path
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES, VERDICTS
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
    kinds: Sequence[str],
    title: str = "Feedback",
    facts: str = "",
    failures: Sequence[tuple[str, str]] = (),
    demonstration: str = "",
    extra: Mapping[str, object] | None = None,
) -> pathlib.Path:
    """Writes the page.

    Args:
      path: the HTML file to write, under a temporary name that is then renamed.
      examples: images with what was predicted, in the order wanted; taken one by one.
      kinds: kinds of outputs that they have: `scores`, `heatmaps`, `keywords`.
      title: the page's headline.
      facts: a line under it.
      failures: inputs without feedback: their name, and why.
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
    main = (
        f'<section class="part"><p class="hint">{_LEGEND}</p>{_tools(kinds, verdicts)}{shown}'
        f'<div class="cards" id="cards">{"".join(cards)}</div></section>'
    )
    if failures:
        rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(why)}</dd>" for name, why in failures)
        main += f'<section class="part" id="failures"><h2>Without feedback</h2><dl>{rows}</dl></section>'
    if extra:
        rows = "".join(
            f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
            for name, value in extra.items()
        )
        main += f'<section class="part"><h2>How this was made</h2><dl>{rows}</dl></section>'
    header = f'<p class="facts">{html.escape(facts)}</p>' if facts else ""
    if demonstration:
        header += f'<p class="demonstration">This model is a demonstration: {html.escape(demonstration)}</p>'
    with atomic_path(path) as temporary:
        page = html_page(title, header, f"<main>{main}</main>", script="feedback_page.js")
        temporary.write_text(page, encoding="utf-8")
    return pathlib.Path(path)


_ENDS = (("", "lowest"), ("-", "highest"))


def _tools(kinds: Sequence[str], verdicts: bool) -> str:
    orders, tools = {"": "order given"}, []
    if "scores" in kinds:
        orders |= {f"{sign}{name}": f"{name}, {end} first" for name in SCORES for sign, end in _ENDS}
    if "heatmaps" in kinds:
        orders |= {f"-{name}": f"strongest {name}" for name in HEATMAPS}
    if KEYWORDS in kinds:
        orders["-words"] = "most misaligned words"
    tools.append(f'<label>Sort by <select id="sort">{_options(orders)}</select></label>')
    if "scores" in kinds:
        names = _options({"": "all", **{name: name for name in SCORES}})
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
    if "heatmaps" in kinds:
        slider = '<input id="opacity" type="range" min="0" max="100" value="85">'
        tools.append(f"<label>Map opacity {slider}</label>")
    return f'<div class="tools" hidden>{"".join(tools)}</div>'


def _options(texts: Mapping[str, str]) -> str:
    return "".join(f'<option value="{key}">{text}</option>' for key, text in texts.items())
