"""Learning curves: the lines of a training log as small plots, one for each quantity."""

import html
import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np

from richhf.feedback import OUTPUTS
from richhf.inference.plots import Series, line_plot

_NOT_CURVES = ("step", "seconds")
_ORDER = ("loss", *(f"loss/{name}" for name in OUTPUTS))


def learning_curves(log: Sequence[Mapping]) -> str:
    """Losses as plots, everything else that was logged folded away below them.

    Args:
      log: mappings with `step` and numbers by name: `loss`, `loss/<output>`, ...; a quantity measured on
        held-out images as `eval/<set>/<quantity>`, which is drawn into the plot of that quantity.

    Returns:
      HTML; empty if there is nothing to draw.
    """
    table = _table(log)
    names = [name for name in table if not name.startswith("eval/")]
    names.sort(key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    losses: list[str] = []
    others: list[str] = []
    drawn: set[str] = set()
    for name in names:
        checks = {
            key: key.split("/")[1] for key in table if key.startswith("eval/") and _quantity(key) == name
        }
        drawn.update(checks)
        lines = [_series("training", table[name], 0, smooth=True)]
        lines += [_series(title, table[key], i) for i, (key, title) in enumerate(checks.items(), 1)]
        (losses if name.split("/")[0] == "loss" else others).append(_figure(_title(name), lines))
    for key in table:
        if key.startswith("eval/") and key not in drawn:
            others.append(_figure(_title(_quantity(key)), [_series(key.split("/")[1], table[key], 1)]))
    parts = []
    if losses:
        parts.append(f'<div class="plots">{"".join(losses)}</div>')
    if others:
        parts.append(
            f"<details{'' if losses else ' open'}><summary>{len(others)} more curves</summary>"
            f'<div class="plots">{"".join(others)}</div></details>'
        )
    if not parts:
        return ""
    note = (
        "Losses over training steps. Pale: as logged; strong: their moving average; dotted with its last "
        "value: held-out images. Where a curve spans more than a factor of eight its axis is logarithmic."
    )
    return f'<p class="hint">{note}</p>{"".join(parts)}'


def _table(log: Sequence[Mapping]) -> dict[str, list[tuple[float, float]]]:
    table: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        for name, value in line.items():
            if name not in _NOT_CURVES and _is_number(value) and _is_number(line.get("step")):
                table.setdefault(name, []).append((float(line["step"]), float(value)))
    return table


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _quantity(key: str) -> str:
    return key.split("/", 2)[-1]


def _title(name: str) -> str:
    name = "total loss" if name == "loss" else name.removeprefix("loss/")
    return name[:1].upper() + name[1:].replace("_", " ")


def _series(name: str, values: list[tuple[float, float]], colour: int, smooth: bool = False) -> Series:
    x, y = np.array(values, np.float64).T
    return Series(name, x, y, min(colour, 3), smooth)


def _figure(title: str, lines: list[Series]) -> str:
    shown = lines[1:] or lines
    key = "".join(
        f'<span class="series-{line.colour}">{html.escape(line.name)} {line.y[-1]:.3g}</span>'
        for line in shown
    )
    drawing = line_plot(lines, label=f"{title} over training steps, last {lines[-1].y[-1]:.3g}")
    return f"<figure><figcaption><b>{html.escape(title)}</b>{key}</figcaption>{drawing}</figure>"
