"""How a run's checkpoints compare: `steps.jsonl`, a line of all metrics a step, and `steps.md`, a table."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from richhf.atomic import atomic_path
from richhf.evaluation.evaluate import flatten_metrics
from richhf.evaluation.tables import UNDEFINED, Table
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

STEPS_FILE, STEPS_TABLE = "steps.jsonl", "steps.md"


HEADLINES = {
    **{name: f"scores/{name}/plcc" for name in SCORES},
    **{name: f"heatmaps/{name}/cc" for name in HEATMAPS},
    KEYWORDS: f"{KEYWORDS}/pooled/f1",
}
"""The number that each output is judged by, as `flatten_metrics` names it; higher is better."""


def write_steps(folder: str | os.PathLike, results: Sequence[Mapping]) -> Table | None:
    """Writes both files and returns the table; None if there is no result.

    Args:
      folder: where they go.
      results: the content of `metrics.json` of each step, with its `step`.
    """
    lines = [
        {"step": result["step"], **flatten_metrics(result["model"])}
        for result in sorted(results, key=lambda result: result["step"])
    ]
    if not lines:
        return None
    table = steps_table(lines)
    folder = pathlib.Path(folder)
    for name, text in (
        (STEPS_FILE, "".join(json.dumps(line) + "\n" for line in lines)),
        (STEPS_TABLE, table.markdown() + "\n"),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return table


def headline(metrics: dict) -> str:
    """The headline numbers of a model's metrics in one line."""
    flat = flatten_metrics(metrics)
    return "  ".join(f"{output} {_shown(flat.get(name))}" for output, name in HEADLINES.items())


def steps_table(lines: Sequence[Mapping]) -> Table:
    """A row for each step with its headline numbers; the last row names the step where each is best."""
    rows = [(str(line["step"]), *(_shown(line.get(name)) for name in HEADLINES.values())) for line in lines]
    best = ("best step", *(_best(lines, name) for name in HEADLINES.values()))
    return Table(
        title="Checkpoints: PLCC of scores, CC of heatmaps, F1 of keywords",
        header=("step", *HEADLINES),
        rows=(*rows, best),
    )


def _shown(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"


def _best(lines: Sequence[Mapping], name: str) -> str:
    known = [line for line in lines if name in line]
    # Of equal ones the earliest.
    return str(max(known, key=lambda line: line[name])["step"]) if known else UNDEFINED
