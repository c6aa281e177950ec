import contextlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAPS, SCORES
from richhf.inference import feedback_folder
from richhf.inference.feedback_folder import read_feedback_rows, write_feedback
from richhf.inference.listing import find_inputs
from richhf.inference.predictions import KINDS


class Stages:
    """Notes what was done in each stage, and how many batches were predicted on."""

    def __init__(self):
        self.done, self.total = {}, {}

    @contextlib.contextmanager
    def __call__(self, name, total):
        self.total[name], self.done[name] = total, 0

        def advance(count):
            self.done[name] += count

        yield advance


@pytest.fixture
def write(pictures, predictor, tmp_path):
    def run(name="out", predict=predictor.predict_examples, **settings):
        settings = {"outputs": tuple(KINDS), "identity": {"sha256": "toy"}, "batch_size": 3, **settings}
        inputs = find_inputs(str(pictures))
        return write_feedback(inputs, tmp_path / name, predictor.encoder, predict, **settings)

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_a_line_an_input_maps_overlays_and_a_page(write, pictures, tmp_path):
    stages = Stages()
    summary = write(map_formats=("png", "npy"), stage=stages)
    assert (summary["inputs"], summary["done"]) == (10, 7)
    assert stages.done == stages.total == {"predict": 10, "maps and page": 7}
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
            stem = row["image"].rpartition(".")[0].replace("/", "-")
            assert row[f"{name}_png"] == f"maps/{stem}-{name}.png"
            with Image.open(tmp_path / f"out/overlays/{stem}-{name}.png") as overlay:
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
    # Behind the shards: when maps were gathered, and while the page is made.
    for module_function in ("_summarise", "write_feedback_page"):
        with monkeypatch.context() as patch:
            patch.setattr(feedback_folder, module_function, stop)
            with pytest.raises(Stop):
                write()
    before = batches
    assert write(predict=failing)["done"] == 7
    assert (batches, contents(tmp_path / "out")) == (before, expected)


def test_what_was_not_asked_for_is_not_there_and_the_page_has_a_limit(write, predictor, tmp_path):
    def predict(examples):
        return predictor.predict_examples(examples, "scores")

    write(predict=predict, outputs=("scores",), page_images=2)
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


def rows_by_image(folder):
    return {row["image"]: row for row in read_feedback_rows(folder)}


def test_only_new_changed_and_failed_inputs_are_computed_and_rows_of_others_go(
    write, pictures, predictor, tmp_path
):
    write()
    before = rows_by_image(tmp_path / "out")
    shutil.copy(pictures / "1.jpg", pictures / "sub/new.jpg")
    (pictures / "sub/new.txt").write_text("a cat")
    os.utime(pictures / "1.jpg", ns=(0, 0))
    (pictures / "8.txt").write_text("another red cat")
    (pictures / "4.png").unlink()
    shutil.copy(pictures / "1.jpg", pictures / "7.jpg")  # which was empty
    seen, notes, stages = [], [], Stages()

    def predict(examples):
        seen.extend(example.prompt for example in examples)
        return predictor.predict_examples(examples)

    summary = write(predict=predict, note=notes.append, stage=stages)
    texts = [(pictures / name).read_text() for name in ("1.txt", "7.txt", "8.txt", "sub/new.txt")]
    assert sorted(seen) == sorted(texts)
    assert notes == [
        f"{tmp_path / 'out'}: 4 of 10 images have their feedback already, 1 new, 3 changed, "
        "1 gone (their rows are removed)"
    ]
    assert summary == {"inputs": 10, "done": 8, "failed": {"no prompt": 1, "undecodable image": 1}}
    after = rows_by_image(tmp_path / "out")
    assert set(after) == {*before, "sub/new.jpg"} - {"4.png"}
    assert [row["index"] for row in after.values()] == list(range(10))
    for kept in ("sub/0.png", "sub/3.jpg", "sub/6.png", "sub/9.jpg"):
        assert after[kept] | {"index": 0} == before[kept] | {"index": 0}
    write("anew")
    for name, row in rows_by_image(tmp_path / "anew").items():
        for column, value in row.items():
            if isinstance(value, float):
                assert after[name][column] == pytest.approx(value, abs=1e-5)
            elif column != "word_confidences":
                assert after[name][column] == value
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {
        path.name for path in (tmp_path / "anew").rglob("*")
    }


def test_inputs_may_change_between_a_stop_and_the_next_run(write, pictures, predictor, tmp_path):
    calls = []

    def failing(examples):
        calls.append(len(examples))
        if len(calls) == 3:
            raise Stop
        return predictor.predict_examples(examples)

    with pytest.raises(Stop):
        write(predict=failing)
    shutil.copy(pictures / "1.jpg", pictures / "0.jpg")
    (pictures / "0.txt").write_text("a cat")
    assert write(predict=failing)["done"] == 8
    assert sum(calls[:2]) + sum(calls[3:]) == 8
    assert not list((tmp_path / "out").glob("*shard*"))


def test_an_overlay_follows_its_map(write, pictures, tmp_path):
    write()
    path = tmp_path / "out/overlays/1-implausibility.png"
    before = path.read_bytes()
    Image.new("RGB", (9, 9), "red").save(pictures / "1.jpg")
    write()
    assert path.read_bytes() != before
    with Image.open(path) as overlay:
        assert overlay.size == (9, 9)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("feedback.jsonl", lambda old: old.split(b"\n")[0]),
        ("feedback.jsonl", lambda old: old[:-9]),
        ("feedback.jsonl", lambda old: old.replace(b'"words"', b'"word"')),
        ("summary.json", None),
        ("summary.json", lambda old: old[:9]),
        ("maps/1-misalignment.png", None),
        ("overlays/1-misalignment.png", None),
        ("index.html", None),
    ],
)
def test_a_finished_folder_that_lost_something_is_made_whole(write, tmp_path, name, content):
    write(batch_size=1)
    expected = contents(tmp_path / "out")
    path = tmp_path / "out" / name
    if content:
        path.write_bytes(content(path.read_bytes()))
    else:
        path.unlink()
    write(batch_size=1)
    assert contents(tmp_path / "out") == expected


def test_a_damaged_map_is_an_error_that_says_what_to_remove(write, tmp_path):
    write()
    path = tmp_path / "out/maps/1-misalignment.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"1-misalignment\.png is damaged .*: remove it and run"):
        write()
    path.unlink()
    assert write()["done"] == 7


def test_maps_have_names_of_their_own_on_every_file_system(predictor, tmp_path, monkeypatch):
    folder = tmp_path / "odd"
    names = [
        "a/x.png",
        "b/x.png",
        "a-x.png",
        "A/X.PNG",
        "x.jpg",
        "x.png",
        "é*?:| ü.png",
        "..png",
        "y" * 240 + ".png",
    ]
    names += ["y" * 240 + "2.png", "日本.png", "x.png"]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")
    lines = [json.dumps({"image": name, "prompt": f"cat {i}"}) for i, name in enumerate(names)]
    (folder / "table.jsonl").write_text("\n".join(lines), encoding="utf-8")
    inputs = find_inputs(str(folder / "table.jsonl"))
    settings = {"outputs": ("implausibility",), "identity": {}}

    def predict(examples):
        return predictor.predict_examples(examples, "implausibility")

    write_feedback(inputs, tmp_path / "out", predictor.encoder, predict, **settings)
    files = [row["implausibility_png"] for row in read_feedback_rows(tmp_path / "out")]
    assert files[0] == "maps/a-x-implausibility.png"
    assert files[4] == "maps/x-implausibility.png"
    assert files[10] == "maps/日本-implausibility.png"
    assert len({file.casefold() for file in files}) == len(names)
    for file in files:
        assert (tmp_path / "out" / file).is_file()
        assert len(file.encode()) < 200
        assert not set('*?:|"<>\\') & set(file)
    write_feedback(inputs[::-1], tmp_path / "out", predictor.encoder, stop, **settings)
    again = [row["implausibility_png"] for row in read_feedback_rows(tmp_path / "out")]
    assert again == files[::-1]


def test_strict(write, tmp_path):
    with pytest.raises(ValueError, match="undecodable image"):
        write(strict=True)
    with pytest.raises(ValueError, match="undecodable image"):
        write(strict=True)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["model"] == {"sha256": "toy"}
