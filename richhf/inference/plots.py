"""Two small plots as inline SVG: lines over steps, and predicted against true values.

Colours come from the page's style sheet by class (`series-0`, `series-1`, ...), so that one drawing serves
light and dark pages.
"""

import dataclasses
import html
import math

import numpy as np
from jaxtyping import Float

_WIDTH, _HEIGHT = 260, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 10, 8, 22
_MAX_LINE_POINTS = 300
_MAX_DOTS = 2000
_SMOOTHING = 0.03  # of the number of points: the reach of the moving average
_LOG_RATIO = 8.0  # a line that falls by more than this reads better on a logarithmic axis


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: `y` over `x`, in the style-sheet's colour number `colour`.

    With `smooth` the values are drawn pale behind their moving average.
    """

    name: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    colour: int = 0
    smooth: bool = False


def line_plot(series: list[Series], *, label: str, log: bool | None = None) -> str:
    """Lines over training steps.

    Args:
      series: lines with at least one finite point among them.
      label: what is shown, for readers who do not see it.
      log: logarithmic y axis; by default where all values are positive and span more than a factor of eight.

    Returns:
      An `<svg>` element.

    Raises:
      ValueError: if no point is finite.
    """
    series = [_finite(line) for line in series]
    series = [line for line in series if line.x.size]
    if not series:
        raise ValueError(f"Nothing to draw for {label!r}: no series has a finite point.")
    values = np.concatenate([line.y for line in series])
    if log is None:
        log = bool(values.min() > 0 and values.max() / values.min() > _LOG_RATIO)
    log = log and bool(values.min() > 0)
    low, high = _range(values, log)
    steps = np.concatenate([line.x for line in series])
    first, last = float(min(steps.min(), 0.0)), float(steps.max())
    last = last if last > first else first + 1.0
    frame = _Frame((first, last), (low, high), log)
    parts = [frame.axes(_ticks(first, last, 4), _log_ticks(low, high) if log else _ticks(low, high, 5))]
    for line in series:
        if line.smooth and line.x.size > 8:
            parts.append(frame.path(*_thin(line.x, line.y), f"raw series-{line.colour}"))
            parts.append(frame.path(*_thin(line.x, _moving_average(line.y)), f"line series-{line.colour}"))
        else:
            parts.append(frame.path(*_thin(line.x, line.y), f"line series-{line.colour}"))
        if not line.smooth and line.x.size <= 40:
            dots = zip(line.x, line.y, strict=True)
            parts.extend(frame.dot(x, y, 2.4, f"dot series-{line.colour}") for x, y in dots)
    return _svg(parts, label)


def scatter_plot(predicted: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], *, label: str) -> str:
    """Predicted over true values in [0, 1], with the line of equality and the mean prediction per true value.

    True values are few (multiples of 1/12): dots are spread sideways by at most 1/60, always the same way.

    Returns:
      An `<svg>` element with at most 2,000 dots, evenly chosen.

    Raises:
      ValueError: if the two do not have the same, non-zero, length.
    """
    if predicted.shape != true.shape or not predicted.size:
        raise ValueError(
            f"{label}: got {predicted.size} predicted and {true.size} true values, expected as many."
        )
    finite = np.isfinite(predicted) & np.isfinite(true)
    predicted, true = predicted[finite].astype(np.float64), true[finite].astype(np.float64)
    frame = _Frame((-0.03, 1.03), (-0.03, 1.03), False, height=_WIDTH - _LEFT - _RIGHT + _TOP + 36, bottom=36)
    parts = [frame.axes((0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0))]
    ends = np.array([0.0, 1.0])
    parts.append(frame.path(ends, ends, "identity"))
    chosen = np.unique(np.linspace(0, predicted.size - 1, min(predicted.size, _MAX_DOTS)).astype(int))
    spread = (np.arange(chosen.size) * 0.6180339887 % 1.0 - 0.5) / 30.0
    shown = zip(true[chosen] + spread, predicted[chosen], strict=True)
    parts.extend(frame.dot(x, y, 2.2, "point") for x, y in shown)
    centres, means = _conditional_mean(predicted, true)
    if centres.size > 1:
        parts.append(frame.path(centres, means, "line mean-line"))
    parts.append(frame.axis_names("true", "predicted"))
    return _svg(parts, label, height=frame.height)


@dataclasses.dataclass(frozen=True)
class _Frame:
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log: bool
    height: int = _HEIGHT
    bottom: int = _BOTTOM

    def x(self, value: float) -> str:
        low, high = self.x_range
        return _short(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT))

    def y(self, value: float) -> str:
        low, high = self.y_range
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return _short(
            self.height - self.bottom - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)
        )

    def axes(self, x_ticks, y_ticks) -> str:
        left, right, bottom = _LEFT, _WIDTH - _RIGHT, self.height - self.bottom
        parts = []
        for value in y_ticks:
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{left} {y}H{right}"/>')
            parts.append(f'<text class="tick end" x="{left - 6}" y="{y}" dy=".35em">{_tick(value)}</text>')
        for value in x_ticks:
            x = self.x(value)
            parts.append(f'<text class="tick" x="{x}" y="{bottom + 14}">{_tick(value)}</text>')
        parts.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
        return "".join(parts)

    def axis_names(self, x_name: str, y_name: str) -> str:
        middle = (self.height - self.bottom + _TOP) / 2
        return (
            f'<text class="tick" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{self.height - 4}">'
            f"{x_name}</text>"
            f'<text class="tick" transform="translate(8 {middle}) rotate(-90)">{y_name}</text>'
        )

    def path(self, x, y, style: str) -> str:
        points = "L".join(f"{self.x(a)} {self.y(b)}" for a, b in zip(x, y, strict=True))
        return f'<path class="{style}" d="M{points}"/>'

    def dot(self, x: float, y: float, radius: float, style: str) -> str:
        return f'<circle class="{style}" cx="{self.x(x)}" cy="{self.y(y)}" r="{radius}"/>'


def _svg(parts: list[str], label: str, height: int = _HEIGHT) -> str:
    attributes = f'class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(label)}"'
    return f"<svg {attributes}>{''.join(parts)}</svg>"


def _finite(line: Series) -> Series:
    finite = np.isfinite(line.x) & np.isfinite(line.y)
    x, y = line.x[finite].astype(np.float64), line.y[finite].astype(np.float64)
    order = np.argsort(x, kind="stable")
    return dataclasses.replace(line, x=x[order], y=y[order])


def _range(values: np.ndarray, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        return low / 1.1, high * 1.1
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.5 * high else low - margin), high + margin


def _moving_average(values: np.ndarray) -> np.ndarray:
    decay = 1.0 - 1.0 / max(2.0, _SMOOTHING * values.size)
    average, weight, smooth = 0.0, 0.0, []
    for value in values:
        average, weight = decay * average + (1 - decay) * value, decay * weight + (1 - decay)
        smooth.append(average / weight)
    return np.array(smooth)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.size <= _MAX_LINE_POINTS:
        return x, y
    chosen = np.unique(np.linspace(0, x.size - 1, _MAX_LINE_POINTS).astype(int))
    return x[chosen], y[chosen]


def _conditional_mean(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bins = np.round(true * 12).astype(int)
    kept = [value for value in np.unique(bins) if (bins == value).sum() >= 3]
    centres = np.array([true[bins == value].mean() for value in kept])
    return centres, np.array([predicted[bins == value].mean() for value in kept])


def _ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / count
    base = 10.0 ** math.floor(math.log10(raw))
    step = min((m * base for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), (1, 3), (1, 2, 5)):
        ticks = [m * 10.0**d for d in decades for m in mantissas if low <= m * 10.0**d <= high]
        if len(ticks) >= 3:
            break
    return ticks


def _tick(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.6g}"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
