import json

from richhf.evaluation.steps import HEADLINES, headline, write_steps
from richhf.feedback import HEATMAPS, OUTPUTS, SCORES


def result(step, value, **changed):
    flat = dict.fromkeys(HEADLINES, value) | changed
    return {
        "step": step,
        "model": {
            "scores": {name: {"plcc": flat[name], "srcc": 0.0} for name in SCORES},
            "heatmaps": {name: {"mse": 0.01, "cc": flat[name]} for name in HEATMAPS},
            "keywords": {"pooled": {"f1": flat["keywords"]}, "per_sample": {"f1": 0.9}},
        },
    }


def test_every_output_has_a_headline():
    assert sorted(HEADLINES) == sorted(OUTPUTS)


def test_the_best_step_of_each_output_is_named(tmp_path):
    results = [
        result(200, 0.2, overall=0.7, keywords=None),
        result(100, 0.2, keywords=None),
        result(1000, 0.5, overall=0.3, misalignment=-0.1, keywords=None),
    ]
    table = write_steps(tmp_path, results)
    assert [row[0] for row in table.rows] == ["100", "200", "1000", "best step"]
    best = dict(zip(table.header, table.rows[-1], strict=True))
    assert best.pop("overall") == "200"
    # Of equal ones the earliest.
    assert best.pop("misalignment") == "100"
    assert best.pop("keywords") == "-"
    assert {*best.values()} == {"best step", "1000"}
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200, 1000]
    assert lines[1]["scores/overall/plcc"] == 0.7
    assert "keywords/pooled/f1" not in lines[1]
    assert (tmp_path / "steps.md").read_text() == table.markdown() + "\n"
    assert max(map(len, table.text().splitlines())) < 110


def test_nothing_evaluated_leaves_nothing(tmp_path):
    assert write_steps(tmp_path, []) is None
    assert not list(tmp_path.iterdir())


def test_a_line_of_headlines():
    line = headline(result(1, 0.25, keywords=None)["model"])
    assert "overall 0.250" in line
    assert line.endswith("keywords -")
