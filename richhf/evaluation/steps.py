"""How a run's checkpoints compare: `steps.jsonl`, a line of all metrics a step, and `steps.md`, a table."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from richhf.atomic import atomic_path
from richhf.evaluation.evaluate import flatten_metrics
from richhf.evaluation.tables import UNDEFINED, Table
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

STEPS_FILE, STEPS_TABLE = "steps.jsonl", "steps.md"


@dataclasses.dataclass(frozen=True)
class Headline:
    """A number to choose a checkpoint by.

    Attributes:
      title: of its column.
      name: in `flatten_metrics`.
      form: how it is printed.
      lower_is_better: whether the least is the best.
    """

    title: str
    name: str
    form: str = ".3f"
    lower_is_better: bool = False


HEADLINES = (
    *(Headline(f"{name} PLCC", f"scores/{name}/plcc") for name in SCORES),
    *(
        headline
        for name in HEATMAPS
        for headline in (
            Headline(f"{name} MSE", f"heatmaps/{name}/mse", ".5f", lower_is_better=True),
            Headline(f"{name} CC", f"heatmaps/{name}/cc"),
        )
    ),
    Headline("keywords F1", f"{KEYWORDS}/pooled/f1"),
)


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


def steps_table(lines: Sequence[Mapping]) -> Table:
    """A row for each step with its headline numbers; the last row names the step where each is best."""
    rows = [
        (str(line["step"]), *(_shown(line.get(headline.name), headline) for headline in HEADLINES))
        for line in lines
    ]
    best = ("best step", *(_best(lines, headline) for headline in HEADLINES))
    header = ("step", *(headline.title for headline in HEADLINES))
    return Table(title="Checkpoints", header=header, rows=(*rows, best))


def _shown(value: float | None, headline: Headline) -> str:
    return UNDEFINED if value is None else format(value, headline.form)


def _best(lines: Sequence[Mapping], headline: Headline) -> str:
    known = [line for line in lines if headline.name in line]
    if not known:
        return UNDEFINED
    # Of equal ones the earliest.
    choose = min if headline.lower_is_better else max
    return str(choose(known, key=lambda line: line[headline.name])["step"])
