import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from richhf import cli
from richhf.data.records import Record, read_records, write_records
from richhf.feedback import HEATMAPS, SCORES


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "dev.tfrecord"
    record = Record(
        filename="train/a.png",
        scores=dict.fromkeys(SCORES, 0.5),
        heatmaps=dict.fromkeys(HEATMAPS, np.zeros((16, 16), np.uint8)),
        labels=(1,),
        prompt="cat",
    )
    write_records(path, [record] * 3)
    return path


def test_inspect_prints_counts_and_draws_a_sheet(records, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert cli.main(["inspect", str(records), "--out", str(sheet), "--examples", "2"]) == 0
    assert "3 records in 1 file, 0 problems" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.height == 28 + 2 * 266


def test_problems_change_the_exit_status_and_strict_stops(records, capsys):
    records.write_bytes(records.read_bytes()[:-1])
    assert cli.main(["inspect", str(records)]) == 1
    assert "record 2, record: found a truncated record" in capsys.readouterr().out
    assert cli.main(["inspect", str(records), "--strict"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "record 2, record: found a truncated record" in captured.err


def test_an_error_is_one_line_on_stderr(tmp_path, capsys):
    assert cli.main(["inspect", str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"richhf: {tmp_path}/nowhere does not exist; expected a record file or a folder of them\n"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["inspcet", "x"], "unknown command 'inspcet'; did you mean 'inspect'?"),
        (["x"], "unknown command 'x'; expected one of synthesize, prepare, predict, inspect, convert"),
        (["inspect", "x", "--strct"], "unknown argument '--strct'; did you mean '--strict'?"),
        (["synthesize", "x", "--sed=3"], "unknown argument '--sed'; did you mean '--seed'?"),
        (["synthesize", "x", "--tra", "3"], "unknown argument '--tra'; did you mean '--train'?"),
        (["synthesize", "x", "--train", "-3"], "'-3' is not a count"),
        (["synthesize"], "the following arguments are required: OUT"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_command_line_names_the_right_one(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_synthesize_makes_the_splits_it_was_asked_for(tmp_path):
    sizes = ["--train", "24", "--dev", "2", "--test", "3", "--size", "64", "--seed", "1", "--workers", "1"]
    assert cli.main(["synthesize", str(tmp_path), *sizes]) == 0
    for split, count in (("train", 24), ("dev", 2), ("test", 3)):
        found = list(read_records(sorted(tmp_path.glob(f"{split}-*.tfrecord"))))
        assert len(found) == count
        assert all(record.decode_image().shape == (64, 64, 3) for record in found)


def test_an_interruption_says_that_a_rerun_goes_on(tmp_path):
    out = tmp_path / "set"
    # Started by a background job of a shell, the child would inherit that SIGINT is ignored.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from richhf.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "synthesize", str(out), "--train", "100000", "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not out.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.endswith("richhf: interrupted; run the same command again to resume\n")


def test_a_reader_that_goes_away_is_no_traceback(records):
    command = f"{sys.executable} -m richhf.cli inspect {records} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert "roken pipe" not in result.stderr
