"""What a page of feedback says of all images together: counts, distributions of scores, a table to save."""

import html
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from richhf.feedback import KEYWORDS, SCORES, VERDICTS
from richhf.inference.drawing import number

_BINS = 20
Rows = Sequence[Mapping[str, Any]]


def summary_section(rows: Rows, outputs: Sequence[str]) -> str:
    """Returns HTML with counts and a histogram of each score.

    Args:
        rows: of all inputs, with or without feedback.
        outputs: names of the outputs that were asked for.
    """
    done = [row for row in rows if not row["error"]]
    facts = {"with feedback": f"{len(done):,}"}
    if len(done) < len(rows):
        facts["without feedback"] = f"{len(rows) - len(done):,}"
    for name in VERDICTS:
        decided = [row[name] for row in done if row.get(name) is not None]
        if decided:
            facts[f"with {name.removeprefix('has_')} found"] = f"{sum(decided):,} of {len(decided):,}"
    if KEYWORDS in outputs:
        facts["with misaligned words"] = f"{sum(any(row['misaligned'] or ()) for row in done):,}"
    counts = "".join(
        f"<li><b>{value}</b> <span>{html.escape(name)}</span></li>" for name, value in facts.items()
    )
    charts = "".join(_histogram(name, [row[name] for row in done]) for name in SCORES if name in outputs)
    charts = f'<div class="histograms">{charts}</div>' if charts and done else ""
    return f'<h2>Summary</h2><ul class="counts">{counts}</ul>{charts}'


def csv_data(rows: Rows, outputs: Sequence[str]) -> str:
    """Returns a script element with the table that the page saves as CSV: its header, then a row an input."""
    columns = ["id", "image", "prompt", "width", "height", *(name for name in SCORES if name in outputs)]
    columns += [name for name in VERDICTS if any(name in row for row in rows)]
    table: list[list[Any]] = [[*columns, *(["misaligned_words"] if KEYWORDS in outputs else []), "error"]]
    for row in rows:
        cells = [row.get(name) for name in columns]
        if KEYWORDS in outputs:
            flags = row["misaligned"] or ()
            cells.append(
                " ".join(word for word, flag in zip(row["words"] or (), flags, strict=False) if flag)
            )
        table.append([*cells, row["error"]])
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    # In a script element no text may look like its end.
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="rows">{text}</script>'


def _histogram(name: str, values: Sequence[float]) -> str:
    counts = [0] * _BINS
    for value in values:
        counts[min(int(value * _BINS), _BINS - 1)] += 1
    most = max(*counts, 1)
    bars = "".join(
        f'<i style="--v:{100 * count / most:.1f}%" title="{number(i / _BINS, 2)} to '
        f'{number((i + 1) / _BINS, 2)}: {count:,}"></i>'
        for i, count in enumerate(counts)
    )
    text = "no values"
    if values:
        middle = number(statistics.median(values), 4)
        text = f"median {middle}, from {number(min(values), 4)} to {number(max(values), 4)}"
    return (
        f'<figure><figcaption><b class="name">{name}</b> {text}</figcaption>'
        f'<div class="histogram" role="img" aria-label="Distribution of {name}: {text}">{bars}</div>'
        '<div class="ends" aria-hidden="true"><span>0</span><span>1</span></div></figure>'
    )
