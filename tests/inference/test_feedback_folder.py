import json
import os

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAPS, SCORES
from richhf.inference import feedback_folder
from richhf.inference.feedback_folder import read_feedback_rows, write_feedback
from richhf.inference.listing import find_inputs
from richhf.inference.predictions import KINDS


@pytest.fixture
def write(pictures, predictor, tmp_path):
    def run(name="out", predict=predictor.predict_examples, **settings):
        settings = {"kinds": tuple(KINDS), "identity": {"sha256": "toy"}, "batch_size": 3, **settings}
        inputs = find_inputs(str(pictures))
        return write_feedback(inputs, tmp_path / name, predictor.encoder, predict, **settings)

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_a_line_an_input_maps_overlays_and_a_page(write, pictures, tmp_path):
    seen = []
    summary = write(map_formats=("png", "npy"), on_progress=seen.append)
    assert (summary["inputs"], summary["done"], sum(seen)) == (10, 7, 10)
    rows = list(read_feedback_rows(tmp_path / "out"))
    assert [row["index"] for row in rows] == list(range(10))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("index.html", "feedback.jsonl", "manifest.json", "summary.json"),
        *("maps", "overlays"),
    }
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<article") == 7
    for row in rows:
        if row["error"]:
            assert f"<dt>{row['image']}</dt>" in page
            continue
        for name in HEATMAPS:
            exact = np.load(tmp_path / "out" / row[f"{name}_npy"])
            with Image.open(tmp_path / f"out/overlays/{row['index']:08d}-{name}.png") as overlay:
                assert overlay.size == (row["width"], row["height"]) == exact.shape[::-1]
        assert f'data-plausibility="{row["plausibility"]:.5f}"' in page
        assert len(row["word_confidences"]) == len(row["covered"]) == len(row["words"]) > 0
        assert row["has_artifact"] == (exact_peak(tmp_path / "out", row) >= 0.5)
        assert row["has_misalignment"] is None
    assert page.count("Found: ") == 7


def exact_peak(folder, row):
    return np.load(folder / row["implausibility_npy"]).max()


class Stop(Exception):
    pass


def stop(*_, **__):
    raise Stop


def test_a_job_that_is_stopped_anywhere_goes_on_to_the_same_bytes(write, predictor, tmp_path, monkeypatch):
    write("whole")
    expected = contents(tmp_path / "whole")
    batches = 0

    def failing(examples):
        nonlocal batches
        batches += 1
        if batches == 3:
            raise Stop
        return predictor.predict_examples(examples)

    with pytest.raises(Stop):
        write(predict=failing)
    assert list((tmp_path / "out").glob("shard-*.jsonl"))
    # Behind the shards: while maps are gathered, and while the page is made.
    for module_function in ("read_rows", "write_feedback_page"):
        with monkeypatch.context() as patch:
            patch.setattr(feedback_folder, module_function, stop)
            with pytest.raises(Stop):
                write()
    before = batches
    seen = []
    assert write(predict=failing, on_progress=seen.append)["done"] == 7
    assert (batches, contents(tmp_path / "out")) == (before, expected)


def test_what_was_not_asked_for_is_not_there_and_the_page_has_a_limit(write, predictor, tmp_path):
    def predict(examples):
        return predictor.predict_examples(examples, "scores")

    write(predict=predict, kinds=("scores",), page_images=2)
    assert not (tmp_path / "out/maps").exists()
    rows = [row for row in read_feedback_rows(tmp_path / "out") if not row["error"]]
    assert set(SCORES) < set(rows[0])
    assert "misaligned" not in rows[0]
    assert [row["has_artifact"] for row in rows] == [row["plausibility"] < 0.5 for row in rows]
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<article") == 2
    assert "The page shows the first 2." in page
    assert 'id="opacity"' not in page


def test_a_folder_of_another_model(write):
    write()
    with pytest.raises(ValueError, match=r'model\.sha256: there "toy", now "other"'):
        write(identity={"sha256": "other"})


def test_a_folder_of_images_that_were_changed_in_place(write, pictures):
    write()
    os.utime(pictures / "1.jpg", ns=(0, 0))
    with pytest.raises(ValueError, match="images or prompts were added, removed or changed since"):
        write()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("feedback.jsonl", lambda old: old.split(b"\n")[0], r"damaged \(1 lines, expected 10\)"),
        ("feedback.jsonl", lambda old: old[:-9], "damaged .*Unterminated|damaged .*Expecting"),
        ("feedback.jsonl", lambda old: old.replace(b'"words"', b'"word"'), "line 1 is not the feedback"),
        ("summary.json", None, "missing"),
        ("summary.json", lambda old: old[:9], "damaged"),
        ("summary.json", lambda old: b"[]", "says not how many"),
        ("maps/00000000-misalignment.png", None, "missing"),
        ("maps/00000000-misalignment.png", lambda old: old[:60], "damaged"),
    ],
)
def test_a_finished_folder_that_lost_something_is_told_and_made_again(
    write, tmp_path, name, content, message
):
    write()
    expected = contents(tmp_path / "out")
    path = tmp_path / "out" / name
    if content:
        path.write_bytes(content(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(ValueError, match=rf"{name} is .*{message}.*: remove .*feedback\.jsonl and run"):
        write()
    (tmp_path / "out/feedback.jsonl").unlink()
    write()
    assert contents(tmp_path / "out") == expected


def test_strict(write, tmp_path):
    with pytest.raises(ValueError, match="undecodable image"):
        write(strict=True)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["inputs"]["count"] == 10
