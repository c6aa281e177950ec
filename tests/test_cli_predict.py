"""`richhf predict` with the model that is shipped."""

import json

import numpy as np
import pytest
from PIL import Image

import richhf
from richhf import cli
from richhf.cli.models import _flags_for_settings
from richhf.feedback import SCORES
from richhf.inference.feedback_folder import read_feedback_rows

PROMPTS = {"a.png": "a red circle", "b.png": "a blue ring on the left of a star", "c.png": "a green star"}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for size, name in zip([(64, 64), (90, 40), (20, 31)], PROMPTS, strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG")
    lines = [f'"{name}","{prompt}"' for name, prompt in {**PROMPTS, "broken.png": "a cat"}.items()]
    (folder / "prompts.csv").write_text("\n".join(["image,prompt", *lines]))
    return folder


@pytest.fixture
def predict(tmp_path):
    def run(*arguments, out="out"):
        return cli.main(["predict", "--out", str(tmp_path / out), *map(str, arguments)])

    return run


def test_a_folder_a_table_and_one_image_get_the_same_feedback(predict, pictures, tmp_path, capsys):
    assert predict("--folder", pictures) == cli.EXIT_PROBLEMS
    told = capsys.readouterr().out
    assert "3 of 4 images done; failed:\n  1 undecodable image\nwhy, of each: error in " in told
    assert told.count("feedback.jsonl") == 1
    warning = "demonstration: it was trained only on synthetic shapes; do not use it on photographs."
    assert told.count(f"synthetic-tiny is a {warning}\n") == 1
    assert f"This model is a {warning}" in (tmp_path / "out/index.html").read_text()
    rows = {row["image"]: row for row in read_feedback_rows(tmp_path / "out")}
    assert predict("--csv", pictures / "prompts.csv", out="table") == cli.EXIT_PROBLEMS
    table = {row["image"]: row for row in read_feedback_rows(tmp_path / "table")}
    assert predict(pictures / "b.png", "--prompt", PROMPTS["b.png"], "--outputs", "scores", out="one") == 0
    (one,) = read_feedback_rows(tmp_path / "one")
    assert "keywords" not in one
    expected = richhf.load("synthetic-tiny")([pictures / name for name in PROMPTS], list(PROMPTS.values()))
    for name, feedback in zip(PROMPTS, expected, strict=True):
        for found in (rows[name], table[name], *[one] * (name == "b.png")):
            assert [found[s] for s in SCORES] == pytest.approx([feedback.scores[s] for s in SCORES], abs=1e-5)
        assert rows[name]["misaligned"] == list(feedback.misaligned)
        for verdict, finding in feedback.findings.items():
            kind = verdict.removeprefix("has_")
            assert rows[name][verdict] == finding.verdict
            assert rows[name][f"{kind}_probability"] == pytest.approx(finding.probability, abs=1e-4)
            assert len(rows[name][f"{kind}_reasons"]) == len(finding.reasons)
        assert rows[name]["word_confidences"] == pytest.approx(feedback.word_confidences, abs=1e-4)

    assert predict("--folder", pictures) == cli.EXIT_PROBLEMS
    assert predict("--folder", pictures, "--outputs", "scores") == cli.EXIT_ERROR
    assert "or take a new --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{pictures}/a.png"], "give it: --prompt TEXT"),
        (["{pictures}/z.png", "--prompt", "x"], "there is no file"),
        (["z" * 9999, "--prompt", "x"], f"there is no file {'z' * 100}...{'z' * 100};"),
        (["{pictures}/a.png", "--prompt", " "], "no prompt: found ' '; expected the text that the image"),
        (["--folder", "{pictures}", "--prompt", "x"], "--prompt goes with one IMAGE"),
        (["--folder", "{pictures}", "--model", "synthetic_tny"], "Did you mean 'synthetic-tiny'"),
        (["--csv", "{pictures}/prompts.csv", "--prompt-column", "promt"], "did you mean 'prompt'"),
        (["--csv", "{pictures}/prompt.csv"], "Did you mean 'prompts.csv'"),
        (["--folder", "{pictures}", "--image-column", "prompt"], "Name the column with --image-column"),
        (["--folder", "{pictures}", "--strict"], "undecodable image"),
        (
            ["--folder", "{pictures}", "--out", "{pictures}/out"],
            "--out, {pictures}/out, lies in --csv or --folder",
        ),
        (["--folder", "{pictures}", "--out", "{pictures}"], "Give a folder elsewhere"),
    ],
)
def test_what_cannot_work_is_one_line(predict, pictures, capsys, arguments, message):
    assert predict(*(one.format(pictures=pictures) for one in arguments)) == cli.EXIT_ERROR
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("richhf: ")
    assert message.format(pictures=pictures) in error


@pytest.mark.parametrize(
    "error", [json.JSONDecodeError("TABLE", "", 0), UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "TABLE")]
)
def test_errors_of_any_type_are_told_with_flags(error):
    with pytest.raises(ValueError, match="--table"), _flags_for_settings():
        raise error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments IMAGE --csv --folder is required"),
        (["x.png", "--folder", "x"], "not allowed with argument"),
        (["x.png", "--outputs", "score"], "invalid choice: 'score'"),
        (["x.png", "--batch-size", "0"], "expected 1 or more"),
        (["x.png", "--batch-size", "1.5"], "'1.5' is not a whole number; expected 1 or more"),
        (["x.png", "--page-image", "3"], "did you mean '--page-images'"),
    ],
)
def test_a_wrong_command_line(predict, capsys, arguments, message):
    with pytest.raises(SystemExit):
        predict(*arguments)
    assert message in capsys.readouterr().err


def test_no_image_can_be_used(predict, pictures, tmp_path, capsys):
    assert predict(pictures / "broken.png", "--prompt", "a cat") == cli.EXIT_PROBLEMS
    warning, why, page = capsys.readouterr().out.splitlines()
    assert warning.startswith("synthetic-tiny is a demonstration: ")
    assert why.startswith(
        f"no feedback on {pictures / 'broken.png'}: undecodable image: 4 bytes starting with"
    )
    assert page.endswith("index.html")
    assert json.loads((tmp_path / "out/summary.json").read_text())["done"] == 0
