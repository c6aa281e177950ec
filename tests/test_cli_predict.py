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
    (tmp_path / "pictures.txt").touch()
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
        (["--folder", "{pictures}", "--prompt", "x"], "--prompt goes with IMAGE;"),
        (["{pictures}", "--prompt", "x"], "is a folder, not an image; give it as --folder {pictures}"),
        (["{pictures}/prompts.csv"], "is a table, not an image; give it as --csv {pictures}/prompts.csv"),
        (
            ["{pictures}/a.png", "{pictures}/b.png", "--prompt", "x", "--prompt", "y", "--prompt", "z"],
            "there are 2 images and 3 prompts; give one --prompt for all images, or one for each",
        ),
        ([], "there is no input; give one of IMAGE..., --csv FILE and --folder DIR."),
        (["x.png", "--folder", "x"], "IMAGE and --folder do not go together; give one of"),
        (["{pictures}/a.png", "--prompt", "x", "--outputs", "score"], "--outputs: "),
        (
            ["--folder", "{pictures}", "--out", "/proc/x"],
            "--out, /proc/x, cannot be written to: No such file",
        ),
        (["--folder", "{pictures}", "--out", "{pictures}.txt/x"], ".txt is a file. Give a folder"),
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


def test_a_table_says_how_it_was_read_and_lists_its_faulty_rows(predict, pictures, tmp_path, capsys):
    table = pictures / "prompts.csv"
    table.write_text("image_id;file_name;caption\n1;a.png;a red circle, a star\n2;b.png;a ring; a star\n")
    assert predict("--csv", table, "--outputs", "scores") == cli.EXIT_PROBLEMS
    output = capsys.readouterr().out
    assert (
        f"{table}: CSV separated by semicolons, UTF-8; image in column 'file_name', prompt in column"
        in output
    )
    assert "1 of 2 images done; failed:\n  1 bad table line\n" in output
    first, second = read_feedback_rows(tmp_path / "out")
    assert (first["prompt"], first["error"]) == ("a red circle, a star", None)
    assert "prompts.csv, line 3: found 4 cells, '2;b.png;a ring; a star'; expected 3" in second["error"]
    assert predict("--csv", table, "--strict", out="strict") == cli.EXIT_ERROR
    assert "prompts.csv, line 3: found 4 cells" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--csv", "--folder"])
def test_a_table_that_cannot_be_read_is_one_line(predict, pictures, tmp_path, capsys, option):
    table = pictures / "prompts.csv"
    table.write_text('image,prompt\na.png,"a red circle\nb.png,a ring\n')
    assert predict(option, table if option == "--csv" else pictures) == cli.EXIT_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"richhf: {table}, line 2: the quote at '\"a red circle' is never closed.")
    assert not (tmp_path / "out").exists()


def test_several_images_with_one_prompt_or_one_each_wherever_they_stand(predict, pictures, tmp_path, capsys):
    a, b = pictures / "a.png", pictures / "b.png"
    assert predict(a, "--prompt", "a star", "--outputs", "plausibility", "--beams", "1", b) == 0
    shown = capsys.readouterr().out
    rows = list(read_feedback_rows(tmp_path / "out"))
    assert [row["prompt"] for row in rows] == ["a star", "a star"]
    assert [f"{row['image']}: plausibility {row['plausibility']:.4f}" for row in rows] == shown.splitlines()[
        1:3
    ]
    assert not {"alignment", "keywords", "implausibility_png"} & {*rows[0]}
    many = [
        "--prompt",
        "a star",
        "--prompt",
        "a red ring",
        "--outputs",
        "scores",
        "misalignment",
        "--strict",
    ]
    assert predict(*many, a, b, out="two") == 0
    rows = list(read_feedback_rows(tmp_path / "two"))
    assert [(row["image"], row["prompt"]) for row in rows] == [(str(a), "a star"), (str(b), "a red ring")]
    assert "implausibility_png" not in rows[0]
    assert (tmp_path / "two" / rows[1]["misalignment_png"]).name == "b-misalignment.png"


def test_a_line_added_to_a_table_is_all_that_is_computed(predict, pictures, tmp_path, capsys):
    table = pictures / "prompts.csv"
    table.write_text("image,prompt\na.png,a red circle\n")
    arguments = ["--csv", table, "--outputs", "scores"]
    assert predict(*arguments) == 0
    with table.open("a") as file:
        file.write("b.png,a blue ring\n")
    capsys.readouterr()
    assert predict(*arguments) == 0
    assert "1 of 2 images have their feedback already, 1 new\n2 of 2 images done" in capsys.readouterr().out
    assert predict("--csv", table) == cli.EXIT_ERROR
    assert "settings.outputs: there" in capsys.readouterr().err
