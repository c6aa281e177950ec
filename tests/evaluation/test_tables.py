import copy

import pytest

from richhf.evaluation import ceiling_share, markdown_tables, text_tables
from richhf.evaluation.tables import paper_tables
from richhf.feedback import HEATMAPS, SCORES


def make_result(start):
    """A result whose every metric has a value of its own."""
    values = iter(range(start, start + 100))

    def take(*names):
        return {name: next(values) / 1000 for name in names}

    return {
        "scores": {name: take("plcc", "srcc") for name in SCORES},
        "heatmaps": {
            name: take("mse", "mse_empty", "cc", "kld", "sim", "nss", "auc_judd") for name in HEATMAPS
        },
        "keywords": {name: take("precision", "recall", "f1") for name in ("pooled", "per_sample")},
    }


@pytest.fixture
def metrics():
    model, ceiling = make_result(501), make_result(701)
    baseline = make_result(101)
    baseline["scores"]["overall"] = {"plcc": None, "srcc": None}
    return {
        "model": model,
        "mean_baseline": baseline,
        "noise_ceiling": ceiling,
        "ceiling_share": ceiling_share(model, ceiling),
        "compare": {"image | only": make_result(301)},
        "flag_every_word": {"keywords": make_result(901)["keywords"]},
        "examples": 1000,
    }


def test_every_metric_stands_in_its_cell(metrics):
    tables = paper_tables(metrics, name="tiny")
    rows = [{row[0]: row[1:] for row in table.rows} for table in tables]
    assert rows[0]["tiny"] == ("0.501 / 0.502", "0.503 / 0.504", "0.505 / 0.506", "0.507 / 0.508")
    assert rows[1]["tiny"] == ("0.50900", "0.51000", *(f"0.{i}" for i in range(511, 516)))
    assert rows[2]["noise ceiling"] == ("0.71600", "0.71700", *(f"0.{i}" for i in range(718, 723)))
    assert rows[3]["tiny"] == ("52.3 / 52.4 / 52.5", "52.6 / 52.7 / 52.8")
    assert tables[0].header[1:] == SCORES
    assert tables[1].header[1:] == ("MSE", "MSE GT=0", "CC", "KLD", "SIM", "NSS", "AUC-Judd")
    assert tables[3].header[1:] == ("pooled", "mean over samples")


def test_rows_go_from_the_floor_to_the_ceiling(metrics):
    scores, implausibility, _, keywords = paper_tables(metrics, name="tiny")
    expected = ["predict the mean", "image | only", "tiny", "noise ceiling", "% of ceiling"]
    assert [row[0] for row in scores.rows] == [row[0] for row in implausibility.rows] == expected
    assert [row[0] for row in keywords.rows] == [expected[0], "flag every word", *expected[1:]]
    assert scores.rows[-1][1] == f"{100 * 501 / 701:.0f} / {100 * 502 / 702:.0f}"
    assert implausibility.rows[-1][1] == "-"


def test_the_ends_of_the_intervals_stand_under_the_model(metrics):
    def interval(value):
        return (
            {k: interval(v) for k, v in value.items()}
            if isinstance(value, dict)
            else [value - 0.1, value + 0.1]
        )

    metrics["intervals"] = interval(metrics["model"])
    metrics["intervals"]["scores"]["overall"]["srcc"] = None
    for table in paper_tables(metrics, name="tiny"):
        names = [row[0] for row in table.rows]
        at = names.index("tiny")
        assert names[at + 1 : at + 3] == ["  95 % from", "  95 % to"]
    rows = {row[0]: row[1:] for row in paper_tables(metrics, name="tiny")[0].rows}
    assert rows["  95 % from"] == ("0.401 / 0.402", "0.403 / 0.404", "0.405 / 0.406", "0.407 / -")
    assert rows["  95 % to"][0] == "0.601 / 0.602"


def test_undefined_is_a_dash(metrics):
    scores = paper_tables(metrics)[0]
    assert scores.rows[0][-1] == "- / -"


def test_a_bare_model_has_one_row():
    for table in paper_tables({"model": make_result(0)}):
        assert [row[0] for row in table.rows] == ["this model"]


def test_markdown_has_as_many_cells_in_every_line(metrics):
    text = markdown_tables(metrics)
    assert text.count("### ") == 4
    for block in text.split("### ")[1:]:
        lines = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
    assert "image \\| only" in text
    assert "(1000 examples)" in text


def test_terminal_columns_are_aligned(metrics):
    for block in text_tables(metrics).strip().split("\n\n"):
        lines = block.splitlines()[2:]
        assert len({len(line) for line in lines}) == 1
        assert len(lines[0]) < 100


def test_printing_changes_nothing(metrics):
    before = copy.deepcopy(metrics)
    text_tables(metrics)
    assert metrics == before
