"""`richhf prepare` as a person meets it."""

import subprocess
import sys

import pytest

from richhf import cli
from richhf.data.prepare import arrow, is_complete, prepare


def test_the_report_says_what_was_found_and_a_rerun_that_nothing_was_left_to_do(
    world, labels, pickapic, tmp_path, capsys
):
    argv = ["prepare", "--richhf", str(labels), "--images", str(pickapic), "--out", str(tmp_path / "out")]
    assert cli.main([*argv, "--workers", "1"]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[:4] == [
        "split     expected     found   written  left out",
        "train       15,810         7         7         0",
        "dev            995         2         2         0",
        "test           955         2         2         0",
    ]
    assert "7 JPEG, 4 PNG; 0 converted to PNG" in first
    assert len(list((tmp_path / "out").glob("train-*-of-00007.tfrecord"))) == 7  # one a record, of 16
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'} was complete already; nothing was done\n\n{first}"


def test_problems_are_listed_by_kind_with_file_and_index_and_strict_stops(world, tmp_path, capsys):
    changes = {uid: {"prompt_misalignment_label": b"1 0"} for uid in world.splits["train"]}
    changes |= {uid: {"overall_score": 7.0} for uid in world.splits["dev"]}
    labels = world.write_labels(tmp_path / "labels", changes)
    folder = world.write_images(tmp_path / "images")
    lost = next(folder.rglob("train-uid-0003.*"))
    lost.write_bytes(b"nothing")
    argv = ["prepare", "--richhf", str(labels), "--images", str(folder), "--workers", "1", "--out"]
    assert cli.main([*argv, str(tmp_path / "out"), "--source", "folder", "--shards", "2"]) == 0
    shown = capsys.readouterr().out
    assert (
        "train       15,810         7         6         1\ndev            995         2         0         2"
        in shown
    )
    assert "another number of labels than words (kept, without a keyword target): 6" in shown
    assert "  train.tfrecord, index 0 (uid train-uid-0000): found 2 labels; expected 6, one for" in shown
    assert "  ... and 1 more in dataset_info.json" in shown
    assert (
        "score outside [0, 1]: 2\n  dev.tfrecord, index 0 (uid dev-uid-0000): overall_score: found 7.0"
        in shown
    )
    assert (
        f"undecodable image: 1\n  {lost.relative_to(folder)}, index 0 (uid train-uid-0003): 7 bytes" in shown
    )
    assert cli.main([*argv, str(tmp_path / "strict"), "--strict"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "richhf: dev.tfrecord, index 0 (uid dev-uid-0000): score outside [0, 1]: overall_sc"
    )
    assert error.endswith("Without --strict it is counted and listed.")


def test_columns_and_limits_are_options(world, labels, tmp_path, capsys):
    folder = world.write_images(tmp_path / "images", table="t.csv")
    (folder / "t.csv").write_text((folder / "t.csv").read_text().replace("uid,prompt", "who,what"))
    argv = ["prepare", "--richhf", str(labels), "--images", str(folder), "--out", str(tmp_path / "out")]
    assert cli.main(argv) == 2
    assert "looks like the uid (there are: who, what); name it with --uid-column" in capsys.readouterr().err
    columns = ["--uid-column", "who", "--prompt-column", "what", "--table", str(folder / "t.csv")]
    assert cli.main([*argv, *columns, "--max-pixels", str(24 * 25), "--reencode", "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "image of too many pixels: 5" in shown
    assert "; 4 converted to PNG" in shown


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_while_images_are_read_says_that_a_rerun_goes_on(
    world, labels, tmp_path, contents, monkeypatch, workers
):
    """The signal goes to all processes, as from a terminal, when the first of many pieces is done."""
    pickapic = world.write_pickapic(tmp_path / "pickapic", group=1)
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from richhf.cli import main
from richhf.data.prepare import arrow, spool
arrow.PIECE = 1
read_piece = spool.Spool.read_piece
def interrupt(*args):
    os.killpg(0, signal.SIGINT)
    return read_piece(*args)
spool.Spool.read_piece = interrupt
sys.exit(main())
"""
    out = tmp_path / "out"
    argv = [
        "prepare",
        "--richhf",
        str(labels),
        "--images",
        str(pickapic),
        "--out",
        str(out),
        "--workers",
        workers,
    ]
    result = subprocess.run(
        [sys.executable, "-c", code, *argv],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 130
    assert result.stderr.endswith("richhf: interrupted; run the same command again to resume\n")
    assert "Traceback" not in result.stderr
    assert list((out / ".spool").glob("*.json"))
    assert not is_complete(out)
    monkeypatch.setattr(arrow, "PIECE", 1)
    prepare(pickapic, out, richhf=labels, workers=1)
    prepare(pickapic, tmp_path / "whole", richhf=labels, workers=1)
    assert contents(out) == contents(tmp_path / "whole")


def test_without_pyarrow_or_for_images_alone(world, labels, pickapic, tmp_path):
    """A folder of images needs no pyarrow; tables say what to install."""
    folder = world.write_images(tmp_path / "images")
    code = """
import sys
sys.modules["pyarrow"] = sys.modules["tensorflow"] = None
from richhf.cli import main
main(sys.argv[1:] + ["--images", IMAGES, "--out", OUT + "/out"])
main(sys.argv[1:] + ["--images", TABLES, "--out", OUT + "/tables"])
"""
    names = {"IMAGES": folder, "TABLES": pickapic, "OUT": tmp_path}
    script = "".join(f"{name} = {str(path)!r}\n" for name, path in names.items()) + code
    argv = ["prepare", "--richhf", str(labels), "--workers", "1"]
    result = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, text=True, check=False
    )
    assert "train       15,810         7         7         0" in result.stdout
    assert result.stderr.endswith(
        "richhf: Parquet and Arrow files need pyarrow. Install it with: pip install 'pyarrow>=20'\n"
    )
    assert not (tmp_path / "tables").exists()
