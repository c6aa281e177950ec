"""The paper's four tables (scores, two heatmaps, keywords) as Markdown and for the terminal.

Rows: predict-the-mean, flag-every-word (keywords only), other runs, the model, the ends of its 95 %
intervals, the noise ceiling and the model's share of it; those that `metrics.json` lacks are left out.
Keywords are in per cent, as in the paper.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

UNDEFINED = "-"
ENDS = ("from", "to")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
      title: what it compares.
      header: column names, that of the row names first.
      rows: cells, the row's name first.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As a Markdown table, numbers to the right."""
        rule = ("---", *["---:"] * (len(self.header) - 1))
        lines = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in (self.header, *self.rows)]
        return "\n".join([f"### {self.title}", "", lines[0], f"| {' | '.join(rule)} |", *lines[1:]])

    def text(self) -> str:
        """As aligned plain text."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in (self.header, *self.rows)
        ]
        return "\n".join([self.title, "-" * len(lines[0]), *lines])


def markdown_tables(metrics: Mapping, *, name: str = "this model") -> str:
    """The four tables of a `metrics.json` as Markdown; `name` is the model's row."""
    return "\n\n".join(table.markdown() for table in paper_tables(metrics, name=name)) + "\n"


def text_tables(metrics: Mapping, *, name: str = "this model") -> str:
    """The four tables of a `metrics.json` for the terminal; `name` is the model's row."""
    return "\n\n".join(table.text() for table in paper_tables(metrics, name=name)) + "\n"


def paper_tables(metrics: Mapping, *, name: str = "this model") -> tuple[Table, ...]:
    """The four tables: scores, implausibility map, misalignment map, keywords."""
    scores = [
        _Column(score, tuple(("scores", score, metric) for metric in ("plcc", "srcc")), _three)
        for score in SCORES
    ]
    keywords = [
        _Column(
            label,
            tuple((KEYWORDS, convention, metric) for metric in ("precision", "recall", "f1")),
            _per_cent,
        )
        for convention, label in (("pooled", "pooled"), ("per_sample", "mean over samples"))
    ]
    n = metrics.get("examples")
    over = f" ({n} examples)" if n else ""
    return (
        _table(f"Scores, PLCC / SRCC{over}", scores, metrics, name),
        *(
            _table(f"{heatmap.capitalize()} heatmap{over}", _map_columns(heatmap), metrics, name)
            for heatmap in HEATMAPS
        ),
        _table(f"Misaligned keywords, precision / recall / F1 in per cent{over}", keywords, metrics, name),
    )


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column's title, where its values lie in a result (joined by slashes), how one is shown."""

    title: str
    paths: tuple[tuple[str, ...], ...]
    show: Callable[[float], str]

    def cell(self, result: Any, show: Callable[[float], str] | None = None) -> str:
        values = [_lookup(result, path) for path in self.paths]
        show = show or self.show
        return " / ".join(UNDEFINED if value is None else show(value) for value in values)


def _map_columns(heatmap: str) -> list[_Column]:
    titles = {"cc": "CC", "kld": "KLD", "sim": "SIM", "nss": "NSS", "auc_judd": "AUC-Judd"}
    return [
        _Column("MSE", (("heatmaps", heatmap, "mse"),), _five),
        _Column("MSE GT=0", (("heatmaps", heatmap, "mse_empty"),), _five),
        *(_Column(title, (("heatmaps", heatmap, metric),), _three) for metric, title in titles.items()),
    ]


def _table(title: str, columns: Sequence[_Column], metrics: Mapping, name: str) -> Table:
    results = [
        ("predict the mean", metrics.get("mean_baseline")),
        ("flag every word", metrics.get("flag_every_word")),
        *(metrics.get("compare") or {}).items(),
        (name, metrics["model"]),
        *((f"  95 % {end}", interval_ends(metrics.get("intervals"), i)) for i, end in enumerate(ENDS)),
        ("noise ceiling", metrics.get("noise_ceiling")),
    ]
    group = columns[0].paths[0][0]
    rows = [
        (row, *(column.cell(result) for column in columns))
        for row, result in results
        if group in (result or ())
    ]
    shares = metrics.get("ceiling_share")
    if shares:
        cells = (column.cell(shares, lambda share: str(round(100 * share))) for column in columns)
        rows.append(("% of ceiling", *cells))
    return Table(title=title, header=("", *(column.title for column in columns)), rows=tuple(rows))


def interval_ends(intervals: Any, end: int) -> Any:
    """The lower (0) or upper (1) ends of a tree of [low, high]."""
    if isinstance(intervals, Mapping):
        return {name: interval_ends(value, end) for name, value in intervals.items()}
    return None if intervals is None else intervals[end]


def _lookup(result: Any, path: tuple[str, ...]) -> float | None:
    for key in path:
        result = result.get(key) if isinstance(result, Mapping) else None
    return result


def _three(value: float) -> str:
    return f"{value:.3f}"


def _five(value: float) -> str:
    return f"{value:.5f}"


def _per_cent(value: float) -> str:
    return f"{100 * value:.1f}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
