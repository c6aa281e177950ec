import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from richhf.evaluation import resize_maps
from richhf.feedback import HEATMAPS, SCORES
from richhf.inference.bulk import Bulk, FirstFailure
from richhf.inference.encoder import Encoder
from richhf.inference.listing import find_inputs
from richhf.inference.predictions import KINDS
from richhf.inference.shards import FORMATS, ShardWriter, read_rows

KINDS_OF_FAILURE = {"no prompt": 1, "undecodable image": 2}


@pytest.fixture
def job(pictures, encoder, predict, tmp_path):
    """Runs a job over the missing shards of a folder; returns its writer."""

    def run(name, *, predict=predict, batch_size=2, kinds=tuple(KINDS), file_format="parquet", **settings):
        inputs = find_inputs(str(pictures))
        writer = ShardWriter(tmp_path / name, len(inputs), 4, kinds, file_format, ("png", "npy"))
        Bulk(inputs, writer, encoder, predict, batch_size=batch_size, **settings).run(writer.missing())
        return writer

    return run


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_input_has_its_row(job, pictures, encoder, predict, file_format):
    seen = []
    writer = job("out", file_format=file_format, on_progress=seen.append)
    rows = list(read_rows(writer.folder))
    inputs = find_inputs(str(pictures))
    assert [row["index"] for row in rows] == list(range(10))
    assert [(row["image"], row["prompt"]) for row in rows] == [(one.image, one.prompt) for one in inputs]
    assert all(list(row) == list(writer.columns()) for row in rows)
    for row, one in zip(rows, inputs, strict=True):
        if one.image in ("2.png", "5.jpg", "7.jpg"):
            assert row["error"].startswith(row["error_kind"])
            assert [row[name] for name in (*SCORES, "keywords", "words", "implausibility_png")] == [None] * 7
            continue
        assert (row["error_kind"], row["error"]) == (None, None)
        with Image.open(pictures / one.image) as image:
            size = image.size
        assert (row["width"], row["height"]) == size
        example = encoder(one.read(), one.prompt)
        batch = {"image": example.image[None], "encoder_input_tokens": example.tokens[None]}
        expected = predict(batch)
        np.testing.assert_allclose([row[name] for name in SCORES], expected["scores"][0], rtol=1e-6)
        assert row["keywords"] == one.prompt
        assert row["words"] == one.prompt.split()
        assert row["misaligned"] == [False] * 6
        maps = resize_maps(expected["heatmaps"][0], size[::-1])
        for name, values in zip(HEATMAPS, maps, strict=True):
            exact = np.load(writer.folder / row[f"{name}_npy"])
            np.testing.assert_allclose(exact, values.clip(0, 1), atol=1e-6)
            with Image.open(writer.folder / row[f"{name}_png"]) as drawn:
                np.testing.assert_array_equal(np.asarray(drawn), np.round(exact * 255))
    assert sum(seen) == 10
    summary = {"inputs": 10, "done": 7, "failed": KINDS_OF_FAILURE, "shards": 3}
    assert writer.summarise() == summary
    assert json.loads((writer.folder / "summary.json").read_text()) == summary
    assert sorted({path.name.split("-")[0] for path in writer.folder.iterdir()}) == [
        "maps", "shard", "summary.json",
    ]  # fmt: skip


def test_rows_do_not_depend_on_the_batch_size(job):
    assert contents(job("one", batch_size=1).folder) == contents(job("four", batch_size=4).folder)


def test_batches_have_one_shape_and_the_last_is_filled_up_with_what_is_in_it(job, predict):
    batches = []

    def watched(features):
        batches.append(features)
        return predict(features)

    job("out", batch_size=3, predict=watched)
    # Of the four, four and two inputs of the shards two, three and two can be used.
    assert [batch["image"].shape for batch in batches] == [(3, 8, 8, 3)] * 3
    assert [len(np.unique(batch["image"], axis=0)) for batch in batches] == [2, 3, 2]


def test_outputs_choose_the_columns(job, predict):
    def scores_alone(features):
        return {"scores": predict(features)["scores"]}

    writer = job("out", kinds=("scores",), predict=scores_alone)
    row = next(read_rows(writer.folder))
    about, errors = ["index", "id", "image", "prompt", "width", "height"], ["error_kind", "error"]
    assert list(row) == [*about, "words", "covered", *SCORES, *errors]
    assert not list(writer.folder.glob("maps*"))


def test_a_job_that_is_stopped_goes_on_to_the_same_bytes(job, predict, tmp_path):
    """Also where it was stopped between the maps and the table of a shard."""
    whole = job("whole")
    whole.summarise()
    calls = []

    def full_disk(features):
        calls.append(features)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        return predict(features)

    with pytest.raises(OSError, match="No space left"):
        job("parts", predict=full_disk)
    there = {path.name for path in (tmp_path / "parts").glob("shard-*")}
    assert there == {"shard-00000-of-00003.parquet"}
    (tmp_path / "parts/maps-00001-of-00003").mkdir()
    (tmp_path / "parts/maps-00001-of-00003/old.png").write_bytes(b"")
    before = (tmp_path / "parts/shard-00000-of-00003.parquet").stat().st_mtime_ns
    again = job("parts")
    assert list(again.folder.glob(".shard-*.tmp"))
    again.summarise()
    assert contents(again.folder) == contents(whole.folder)
    assert (tmp_path / "parts/shard-00000-of-00003.parquet").stat().st_mtime_ns == before


SLOW = """
import sys, time
from pathlib import Path
from richhf.inference.bulk import Bulk
from richhf.inference.encoder import Encoder
from richhf.inference.encoder import Encoder
from richhf.inference.listing import find_inputs
from richhf.inference.predictions import KINDS
from richhf.inference.shards import ShardWriter
from richhf.inference.vocabulary import Vocabulary
from tests.inference.conftest import predict_rows

def slow(features):
    time.sleep(0.3)
    return predict_rows(features)

pictures, out, vocabulary = sys.argv[1:]
inputs = find_inputs(pictures)
writer = ShardWriter(Path(out), len(inputs), 4, tuple(KINDS), "parquet", ("png", "npy"))
encoder = Encoder(Vocabulary.read(vocabulary), variant="multi_head", image_size=8, prompt_length=24)
Bulk(inputs, writer, encoder, slow, batch_size=1).run(writer.missing())
"""


def test_a_job_that_is_killed_goes_on_to_the_same_bytes(job, pictures, tmp_path, tmp_path_factory):
    whole = job("whole", batch_size=1)
    whole.summarise()
    model = next(tmp_path_factory.getbasetemp().glob("vocabulary*/vocabulary.model"))
    parts, root = tmp_path / "parts", pathlib.Path(__file__).resolve().parents[2]
    arguments = [sys.executable, "-c", SLOW, str(pictures), str(parts), str(model)]
    process = subprocess.Popen(arguments, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    while not list(parts.glob("shard-*")):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(list(parts.glob("shard-*"))) < 3
    assert list(parts.glob(".shard-*"))
    again = job("parts", batch_size=1)
    again.summarise()
    assert contents(again.folder) == contents(whole.folder)


def test_a_disk_that_fails_ends_the_job_with_the_next_move(job, predict, tmp_path):
    def unplug(features):
        for left in tmp_path.glob("out/.shard-00000-of-00003.*"):
            shutil.rmtree(left)
        return predict(features)

    with pytest.raises(OSError, match=r"out could not be written to: .*\n.*run the same command again"):
        job("out", predict=unplug)
    assert not list((tmp_path / "out").glob("shard-*"))


def test_strict_stops_at_the_first(job):
    with pytest.raises(FirstFailure, match=r"input 1, 2\.png: undecodable image.*Without STRICT it is a row"):
        job("out", strict=True)


def test_a_prediction_that_is_no_number_is_no_row(job, predict):
    def broken(features):
        return predict(features) | {"scores": np.full((2, 4), np.nan, np.float32)}

    with pytest.raises(ValueError, match="Score 'plausibility' is nan"):
        job("out", predict=broken)


def test_two_jobs_at_once_leave_what_one_leaves(job, predict):
    """The second makes all shards while the first one has its first batch on the device."""
    calls, whole = [], job("whole")

    def overtaken(features):
        calls.append(features)
        if len(calls) == 1:
            tables = {path: path.stat().st_ino for path in job("both").folder.glob("[ms]*-of-*")}
            assert len(tables) == 6
            calls.append(tables)
        return predict(features)

    seen = []
    both = job("both", predict=overtaken, batch_size=1, on_progress=seen.append)
    assert contents(both.folder) == contents(whole.folder)
    assert calls[1] == {path: path.stat().st_ino for path in calls[1]}
    # The third shard was not begun.
    assert sum(seen) == 10
    assert len(calls) < 2 + 7


def test_a_shard_that_lacks_rows_is_not_summed_up(job):
    writer = job("out", file_format="jsonl")
    table = writer.table(2)
    table.write_text(table.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=r"shard-00002-of-00003\.jsonl has 1 rows, expected 2: remove it"):
        writer.summarise()
    assert not (writer.folder / "summary.json").exists()


def test_images_alone(vocabulary, predict, pictures, tmp_path):
    for text in pictures.rglob("*.txt"):
        text.unlink()
    blind = Encoder(vocabulary, variant="multi_head", image_size=8, prompt_length=24, see_prompt=False)
    inputs = find_inputs(str(pictures), need_prompts=False)
    writer = ShardWriter(tmp_path / "out", len(inputs), 4, tuple(KINDS))
    Bulk(inputs, writer, blind, predict, batch_size=2).run(writer.missing())
    assert writer.summarise()["failed"] == {"undecodable image": 2}
    assert {(row["prompt"], len(row["words"] or ())) for row in read_rows(writer.folder)} == {("", 0)}
