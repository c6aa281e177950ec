import json

import pytest

from richhf.evaluation import ceiling_share, read_comparisons, read_metrics, write_metrics
from richhf.feedback import HEATMAPS, SCORES


def make_result(value=0.6, *, error=0.01):
    maps = dict(mse=error, mse_empty=error / 10, cc=value, kld=1.5, sim=value, nss=3 * value, auc_judd=0.9)
    rates = dict(precision=value, recall=value, f1=value)
    return {
        "scores": {name: {"plcc": value, "srcc": value} for name in SCORES},
        "heatmaps": {name: dict(maps) for name in HEATMAPS},
        "keywords": {"pooled": dict(rates), "per_sample": dict(rates)},
    }


def test_metrics_come_back_as_written(tmp_path):
    metrics = {"model": make_result(), "mean_baseline": make_result(0.1), "examples": 100}
    metrics["model"]["scores"]["overall"]["plcc"] = None
    path = tmp_path / "new" / "metrics.json"
    write_metrics(path, metrics)
    assert read_metrics(path) == metrics
    assert read_metrics(path.parent) == metrics
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"model": make_result()})
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_metrics(path, {"model": make_result(float("nan"))})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"There is no .*metrics\.json.*launch\.eval"),
        ("{", "is not JSON"),
        ("[]", "no .*'plausibility'.*model/scores"),
        (
            json.dumps({"model": make_result() | {"heatmaps": {"misalignment": {}}}}),
            "'implausibility'.*heatmaps",
        ),
    ],
)
def test_files_that_are_no_metrics_are_explained(tmp_path, text, said):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_metrics(tmp_path)


def test_comparisons_take_the_other_runs_model(tmp_path):
    write_metrics(tmp_path / "a.json", {"model": make_result(0.3), "examples": 100, "split": "dev"})
    write_metrics(tmp_path / "b.json", {"model": make_result(0.4), "examples": 100})  # names no split
    runs = {"image only": tmp_path / "a.json", "older": tmp_path / "b.json"}
    compare = read_comparisons(runs, split="dev", examples=100)
    assert compare == {"image only": make_result(0.3), "older": make_result(0.4)}


@pytest.mark.parametrize("other", [{"examples": 99, "split": "dev"}, {"examples": 100, "split": "test"}])
def test_runs_on_other_examples_are_not_compared(tmp_path, other):
    write_metrics(tmp_path / "a.json", {"model": make_result(0.3), **other})
    said = f"'other'.* {other['examples']} examples of {other['split']}, this run on 100 of dev"
    with pytest.raises(ValueError, match=said):
        read_comparisons({"other": tmp_path / "a.json"}, split="dev", examples=100)


def test_share_of_the_ceiling_counts_from_chance():
    shares = ceiling_share(make_result(0.6), make_result(0.8))
    assert shares["scores"]["overall"]["plcc"] == pytest.approx(0.75)
    assert shares["keywords"]["pooled"]["f1"] == pytest.approx(0.75)
    maps, model, ceiling = shares["heatmaps"]["misalignment"], make_result(), make_result()
    assert maps["cc"] == pytest.approx(0.75)
    assert maps["mse"] is maps["mse_empty"] is maps["kld"] is None
    model["heatmaps"]["misalignment"]["auc_judd"] = 0.7
    assert ceiling_share(model, ceiling)["heatmaps"]["misalignment"]["auc_judd"] == pytest.approx(0.5)


def test_share_is_undefined_where_either_is_or_the_ceiling_is_chance():
    model, ceiling = make_result(), make_result()
    model["scores"]["overall"]["plcc"] = None
    ceiling["scores"]["alignment"]["plcc"] = None
    ceiling["scores"]["aesthetics"]["plcc"] = 0.0
    shares = ceiling_share(model, ceiling)["scores"]
    assert [shares[name]["plcc"] for name in ("overall", "alignment", "aesthetics")] == [None] * 3
    assert shares["plausibility"]["plcc"] == 1
