"""The paper's four tables (scores, two heatmaps, keywords) and their summary, as HTML.

Rows: predict-the-mean, flag-every-word (keywords only), other runs, the model, the ends of its 95 %
intervals, the noise ceiling (what the noiseless truth scores against the annotators' labels), and the model's
share of that ceiling.
"""

import dataclasses
import html
import math
import numbers
from collections.abc import Callable, Mapping

from richhf.evaluation.tables import ENDS, interval_ends
from richhf.feedback import HEATMAPS, SCORES
from richhf.inference.drawing import NOTHING, number, percent

MODEL, BASELINE, EVERY_WORD = "model", "mean_baseline", "flag_every_word"
CEILING, SHARE, INTERVALS = "noise_ceiling", "ceiling_share", "intervals"
NOT_RANKED = ("ceiling", "interval")


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: where its value lies in a result, how it is printed and which direction is better."""

    title: str
    path: tuple[str, ...]
    show: Callable[[float | None], str] = number
    higher_is_better: bool = True
    group: str = ""

    def value(self, result: Mapping | None) -> float | None:
        """The value in `result`, None where it is missing, null or not finite."""
        for key in self.path:
            result = result.get(key) if isinstance(result, Mapping) else None
        return float(result) if isinstance(result, numbers.Real) and math.isfinite(result) else None


def _five(value: float | None) -> str:
    return number(value, 5)


def _percentage(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _heatmap_columns(name: str) -> tuple[Column, ...]:
    at = ("heatmaps", name)
    over_all, empty, marked = "all images", "nothing marked", "something marked"
    return (
        Column("MSE", (*at, "mse"), _five, False, over_all),
        Column("MSE", (*at, "mse_empty"), _five, False, empty),
        Column("CC", (*at, "cc"), group=marked),
        Column("KLD", (*at, "kld"), higher_is_better=False, group=marked),
        Column("SIM", (*at, "sim"), group=marked),
        Column("NSS", (*at, "nss"), group=marked),
        Column("AUC-Judd", (*at, "auc_judd"), group=marked),
    )


TABLES: tuple[tuple[str, str, tuple[Column, ...]], ...] = (
    (
        "Scores",
        "Correlation of predicted and true scores over the images: Pearson (PLCC) and rank (SRCC). "
        "1 is perfect, 0 says nothing; a constant prediction has none.",
        tuple(
            Column(metric.upper(), ("scores", name, metric), group=name)
            for name in SCORES
            for metric in ("plcc", "srcc")
        ),
    ),
    (
        "Implausibility heatmap",
        "Where the image looks wrong. CC, SIM, NSS and AUC-Judd say how well the predicted spots lie on the "
        "marked ones, MSE and KLD how far the two maps are apart.",
        _heatmap_columns("implausibility"),
    ),
    (
        "Misalignment heatmap",
        "Where the image departs from its prompt. Where something missing should have been, nobody "
        "can know for sure.",
        _heatmap_columns("misalignment"),
    ),
    (
        "Misaligned keywords",
        "Words flagged as not shown by the image, in per cent. Pooled counts the words of all images "
        "together; per image averages over images.",
        tuple(
            Column(metric.capitalize(), ("keywords", mean, metric), _percentage, group=group)
            for mean, group in (("pooled", "pooled"), ("per_sample", "per image"))
            for metric in ("precision", "recall", "f1")
        ),
    ),
)

GLANCE: tuple[tuple[str, str, Column], ...] = (
    *((f"{name} map", "CC", Column("CC", ("heatmaps", name, "cc"))) for name in HEATMAPS),
    *((f"{name} score", "PLCC", Column("PLCC", ("scores", name, "plcc"))) for name in SCORES),
    ("misaligned keywords", "F1", Column("F1", ("keywords", "pooled", "f1"))),
)


def rows(metrics: Mapping, group: str) -> list[tuple[str, str, Mapping | None]]:
    """A table's rows as (kind, title, result), without those that `metrics` lacks.

    Args:
      metrics: `metrics.json`.
      group: what the table is about: `scores`, `heatmaps` or `keywords`.
    """
    found = []
    if metrics.get(BASELINE):
        found.append(("baseline", "Predict the mean", metrics[BASELINE]))
    if group in (metrics.get(EVERY_WORD) or ()):
        found.append(("baseline", "Flag every word", metrics[EVERY_WORD]))
    found.extend(("other", name, result) for name, result in (metrics.get("compare") or {}).items())
    found.append(("model", "This model", metrics.get(MODEL)))
    if group in (metrics.get(INTERVALS) or ()):
        ends = (interval_ends(metrics[INTERVALS], end) for end in range(len(ENDS)))
        found.extend(("interval", f"95 % {end}", result) for end, result in zip(ENDS, ends, strict=True))
    if metrics.get(CEILING):
        found.append(("ceiling", "Noise ceiling", metrics[CEILING]))
    return found


def metric_table(title: str, note: str, columns: tuple[Column, ...], metrics: Mapping) -> str:
    """One table with its caption; the best value of a column, ceiling and intervals aside, is in bold."""
    groups: list[list] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1][1] += 1
        else:
            groups.append([column.group, 1])
    starts = {sum(count for _, count in groups[:i]) for i in range(len(groups))}
    head = "".join(
        f'<th colspan="{count}" scope="colgroup" class="start">{name}</th>' for name, count in groups
    )
    names = "".join(
        f'<th scope="col"{_start(i, starts)}>{column.title} {_arrow(column)}</th>'
        for i, column in enumerate(columns)
    )
    body = []
    best = [_best(column, metrics) for column in columns]
    for kind, name, result in rows(metrics, columns[0].path[0]):
        cells = []
        for i, column in enumerate(columns):
            value = column.value(result)
            text = column.show(value)
            strong = kind not in NOT_RANKED and value is not None and value == best[i]
            cells.append(f"<td{_start(i, starts)}>{f'<strong>{text}</strong>' if strong else text}</td>")
        body.append(f'<tr class="{kind}"><th scope="row">{html.escape(name)}</th>{"".join(cells)}</tr>')
    shares = [column.value(metrics.get(SHARE)) for column in columns]
    if any(share is not None for share in shares):
        row = "".join(f"<td{_start(i, starts)}>{percent(share)}</td>" for i, share in enumerate(shares))
        body.append(f'<tr class="share"><th scope="row">Share of ceiling</th>{row}</tr>')
    return (
        f'<section class="table"><h3>{html.escape(title)}</h3><p class="hint">{html.escape(note)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(title)}"><table><thead>'
        f"<tr><td></td>{head}</tr><tr><td></td>{names}</tr></thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


def glance(metrics: Mapping) -> str:
    """One line for each of the seven outputs: the model between nothing and the ceiling."""
    lines = []
    for name, measure, column in GLANCE:
        value, floor, top = (column.value(metrics.get(key)) for key in (MODEL, BASELINE, CEILING))
        share = column.value(metrics.get(SHARE))
        marks = [f'<i class="band" style="--v:{_position(top if top is not None else 1.0)}"></i>']
        if top is not None:
            marks.append(f'<i class="top" style="--v:{_position(top)}"></i>')
        if floor is not None:
            marks.append(f'<i class="floor" style="--v:{_position(floor)}"></i>')
        for other in (metrics.get("compare") or {}).values():
            if (rival := column.value(other)) is not None:
                marks.append(f'<i class="rival" style="--v:{_position(rival)}"></i>')
        if value is not None:
            marks.append(f'<i class="bar" style="--v:{_position(value)}"></i>')
        described = f"{name}: {measure} {number(value)}, mean {number(floor)}, noise ceiling {number(top)}"
        part = f"{percent(share)} of ceiling" if share is not None else ""
        lines.append(
            f'<li><span class="name">{name} <abbr>{measure}</abbr></span>'
            f'<span class="track" role="img" aria-label="{described}">{"".join(marks)}</span>'
            f'<span class="value"><b>{number(value)}</b> <small>{part}</small></span></li>'
        )
    return f'<ol class="glance">{"".join(lines)}</ol>'


def _best(column: Column, metrics: Mapping) -> float | None:
    found = [
        column.value(result) for kind, _, result in rows(metrics, column.path[0]) if kind not in NOT_RANKED
    ]
    values = [value for value in found if value is not None]
    if len(values) < 2:
        return None
    return max(values) if column.higher_is_better else min(values)


def _arrow(column: Column) -> str:
    arrow, meaning = ("↑", "higher is better") if column.higher_is_better else ("↓", "lower is better")
    return f'<span class="arrow" title="{meaning}" aria-label="{meaning}">{arrow}</span>'


def _start(index: int, starts: set[int]) -> str:
    return ' class="start"' if index in starts else ""


def _position(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.1f}%"
