"""The paper's four tables (scores, two heatmaps, keywords) as Markdown and for the terminal.

Rows: predict-the-mean, flag-every-word (keywords only), other runs, the model, the noise ceiling and the
  model's
share of it; those that `metrics.json` lacks are left out. Keywords are in per cent, as in the paper.
"""

import dataclasses
from collections.abc import Callable, Mapping

from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

UNDEFINED = "-"


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
        (f"{score} {metric.upper()}", ("scores", score, metric), _three)
        for score in SCORES
        for metric in ("plcc", "srcc")
    ]
    keywords = [
        (f"{metric.capitalize()} {label}", (KEYWORDS, convention, metric), _per_cent)
        for convention, label in (("pooled", "pooled"), ("per_sample", "per sample"))
        for metric in ("precision", "recall", "f1")
    ]
    n = metrics.get("examples")
    over = f" ({n} examples)" if n else ""
    return (
        _table(f"Scores{over}", scores, metrics, name),
        *(
            _table(f"{heatmap.capitalize()} heatmap{over}", _map_columns(heatmap), metrics, name)
            for heatmap in HEATMAPS
        ),
        _table(f"Misaligned keywords, per cent{over}", keywords, metrics, name),
    )


_Column = tuple[str, tuple[str, ...], Callable[[float], str]]


def _map_columns(heatmap: str) -> list[_Column]:
    titles = {"cc": "CC", "kld": "KLD", "sim": "SIM", "nss": "NSS", "auc_judd": "AUC-Judd"}
    return [
        ("MSE", ("heatmaps", heatmap, "mse"), _five),
        ("MSE GT=0", ("heatmaps", heatmap, "mse_empty"), _five),
        *((title, ("heatmaps", heatmap, metric), _three) for metric, title in titles.items()),
    ]


def _table(title: str, columns: list[_Column], metrics: Mapping, name: str) -> Table:
    results = [
        ("predict the mean", metrics.get("mean_baseline")),
        ("flag every word", metrics.get("flag_every_word")),
        *(metrics.get("compare") or {}).items(),
        (name, metrics["model"]),
        ("noise ceiling", metrics.get("noise_ceiling")),
    ]
    rows = []
    for row, result in results:
        values = [_lookup(result, path) for _, path, _ in columns]
        if result and columns[0][1][0] in result:
            shown = [
                UNDEFINED if v is None else show(v) for v, (_, _, show) in zip(values, columns, strict=True)
            ]
            rows.append((row, *shown))
    shares = [_lookup(metrics.get("ceiling_share"), path) for _, path, _ in columns]
    if any(share is not None for share in shares):
        shown = [UNDEFINED if share is None else f"{100 * share:.0f} %" for share in shares]
        rows.append(("share of ceiling", *shown))
    return Table(title=title, header=("", *(column for column, _, _ in columns)), rows=tuple(rows))


def _lookup(result: Mapping | None, path: tuple[str, ...]) -> float | None:
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
