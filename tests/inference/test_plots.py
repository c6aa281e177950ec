import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from richhf.inference.plots import Series, line_plot, scatter_plot


def ticks(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("text")]


def points(svg, style):
    path = next(e for e in ElementTree.fromstring(svg).iter("path") if e.get("class") == style)
    return np.array([[float(v) for v in p.split()] for p in path.get("d")[1:].split("L")])


def test_a_line_runs_through_its_values():
    svg = line_plot([Series("dev", np.array([0.0, 50.0, 100.0]), np.array([1.0, 3.0, 2.0]))], label="x")
    (x0, y0), (x1, y1), (x2, y2) = points(svg, "line series-0")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0  # SVG counts downwards
    assert {"0", "20", "100"} <= set(ticks(svg))


def test_values_over_decades_get_a_logarithmic_axis():
    steps, values = np.arange(5.0), 10.0 ** -np.arange(5)
    logarithmic = points(line_plot([Series("a", steps, values)], label="x"), "line series-0")[:, 1]
    np.testing.assert_allclose(np.diff(logarithmic), np.diff(logarithmic)[0], atol=0.2)
    linear = points(line_plot([Series("a", steps, values - 1)], label="x"), "line series-0")[:, 1]
    assert np.ptp(np.diff(linear)) > 10


def test_smoothing_keeps_the_level_and_loses_the_noise():
    rng = np.random.default_rng(0)
    noisy = Series("loss", np.arange(1000.0), 1.0 + 0.2 * rng.standard_normal(1000), smooth=True)
    svg = line_plot([noisy], label="x", log=False)
    raw, smooth = points(svg, "raw series-0")[:, 1], points(svg, "line series-0")[:, 1]
    assert len(raw) <= 300
    assert smooth.std() < raw.std() / 3
    assert abs(smooth.mean() - raw.mean()) < raw.std() / 5


def test_gaps_are_skipped_and_nothing_is_an_error():
    svg = line_plot([Series("a", np.arange(3.0), np.array([1.0, np.nan, 2.0]))], label="x")
    assert len(points(svg, "line series-0")) == 2
    with pytest.raises(ValueError, match="Nothing to draw for 'x'"):
        line_plot([Series("a", np.arange(2.0), np.full(2, np.nan))], label="x")


@pytest.mark.parametrize("values", [np.zeros(3), np.ones(1), np.full(4, -2.0), np.array([1e-9, 1e9])])
def test_flat_single_and_extreme_lines_are_drawn_inside_the_frame(values):
    svg = line_plot([Series("a", np.arange(float(len(values))), values)], label="x")
    _, _, width, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    drawn = points(svg, "line series-0")
    assert (drawn >= 0).all()
    assert (drawn <= [width, height]).all()


def test_scatter_has_a_dot_an_image_on_the_identity_where_exact():
    true = np.arange(13) / 12
    svg = ElementTree.fromstring(scatter_plot(true, true, label="a & b"))
    assert svg.get("aria-label") == "a & b"
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")]
    assert len(dots) == 13
    spread = 0.5 / 30 * (dots[-1][0] - dots[0][0]) + 4
    slope = np.polyfit(*np.array(dots).T, 1)
    assert np.abs(np.polyval(slope, [x for x, _ in dots]) - [y for _, y in dots]).max() < spread
    assert slope[0] < 0


def test_many_points_are_thinned():
    values = np.linspace(0, 1, 10_000)
    assert scatter_plot(values, values, label="x").count("<circle") == 2000


def test_scatter_wants_points():
    with pytest.raises(ValueError, match="0 predicted and 0 true"):
        scatter_plot(np.zeros(0), np.zeros(0), label="x")
