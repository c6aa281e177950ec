import contextlib
import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

from launch import infer as launch_infer
from launch import infer_job
from richhf.data.records import read_records
from richhf.feedback import HEATMAPS, SCORES
from richhf.inference.shards import read_rows
from richhf.models import RichFeedbackModel

WRONG = {
    "--gin.OUTPUTS=('score',)": "Did you mean 'scores'",
    "--gin.FORMAT=parket": "FORMAT is 'parket'.*Did you mean 'parquet'",
    "--gin.MAP_FORMATS=('jpg',)": "expected one of 'png', 'npy'",
    "--gin.INPUT=gs://bucket/pictures": "mount the bucket bucket and give --gin.INPUT=MOUNT/pictures",
    "--gin.CHECKPOINT_STEP=7": "7",
    "--gin.INPUT=picture": "picture does not exist",
    "--gin.PROMPT_COLUMN=promt": "has no column 'promt'; did you mean 'prompt'",
    "--gin.OUTPUT_DIR={pictures}/out": "lies in INPUT",
    "--gin.BATCH_SIZE=0": "BATCH_SIZE is 0; expected at least 1",
    "--gin.SHARD_SIZE=0": "SHARD_SIZE is 0",
    "--gin.STRICT=True": r"input 5, broken\.png: undecodable image",
    "--gin.CHECKPOINT={run}/nowhere": "no checkpoint in",
    "--gin.ViTConfig.width=24": "does not fit this model",
    "--gin.ViTConfig.image_size=64": r"TASK_FEATURE_LENGTHS\['image'\] is 32",
    "--gin.SEE_PROMPT=False": "trained with True",
    "--gin.T5Config.vocab_size=100": "pieces, but the model embeds 100",
    "--gin.VOCABULARY_FILE=/nowhere": "there is no vocabulary /nowhere",
}
ABOUT, ERRORS = (
    ["index", "id", "image", "prompt", "width", "height", "words", "covered"],
    ["error_kind", "error"],
)


@pytest.fixture
def infer_flags(gin_files, tmp_path):
    def flags(model, source, name="out"):
        places = {"MODEL_DIR": tmp_path / "run", "INPUT": source, "OUTPUT_DIR": tmp_path / name}
        given = [f"--gin.{name}={value}" for name, value in places.items() if value]
        return [*gin_files(model, "infer"), *given, "--gin.SHARD_SIZE=4", "--gin.BATCH_SIZE=4"]

    return flags


@pytest.fixture
def infer(infer_flags):
    """Runs launch.infer in this process; returns its exit status."""

    def run(source, *arguments, model="tiny_multi_head", name="out"):
        return launch_infer.main([*infer_flags(model, source, name), *arguments])

    return run


@pytest.fixture
def pictures(data_dir, tmp_path):
    """Five records as image files of several sizes with a table of prompts, and an image that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = [{"image": "broken.png", "prompt": "a red square"}]
    for index, record in zip(range(5), read_records(sorted(data_dir.glob("test-*"))), strict=False):
        size = [(32, 32), (50, 20), (90, 64), (10, 10), (32, 33)][index]
        Image.fromarray(record.decode_image()).resize(size).save(folder / f"{index}.png")
        lines.append({"image": f"{index}.png", "prompt": record.prompt})
    (folder / "broken.png").write_bytes(b"\x89PNG")
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in sorted(folder.rglob("*"))}


def test_feedback_for_a_folder(made_run, infer, pictures, tmp_path, capsys, monkeypatch):
    made_run()
    flags = ["--gin.MAP_FORMATS=('npy', 'png')", "--gin.Partitioner.num_devices=4"]
    assert infer(pictures, *flags) == 0
    assert "5 of 6 inputs done; failed:\n  1 undecodable image" in capsys.readouterr().out
    summary = {"inputs": 6, "done": 5, "failed": {"undecodable image": 1}, "shards": 2}
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary
    rows = list(read_rows(tmp_path / "out"))
    maps = [f"{name}_{end}" for end in ("npy", "png") for name in HEATMAPS]
    words = ["keywords", "misaligned", "word_confidences"]
    assert list(rows[0]) == [*ABOUT, *SCORES, *maps, *words, *ERRORS]
    for row in rows[:5]:
        for name in maps[2:]:
            with Image.open(tmp_path / "out" / row[name]) as drawn:
                assert drawn.size == (row["width"], row["height"])
        assert all(0 <= row[name] <= 1 for name in SCORES)
        assert len(row["misaligned"]) == len(row["words"]) > 0

    # What is missing is made again, by the second process of two, and is the same.
    whole = contents(tmp_path / "out")
    (tmp_path / "out/shard-00001-of-00002.parquet").unlink()
    (tmp_path / "out/summary.json").unlink()
    (tmp_path / "out/.shard-00001-of-00002.tmp").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(infer_job.jax, "process_count", lambda: 2)
        patch.setattr(infer_job.jax, "process_index", lambda: 1)
        assert infer(pictures, *flags) == 0
    assert not (tmp_path / "out/summary.json").exists()
    assert infer(pictures, *flags) == 0
    assert "6 inputs, 0 of them here; 2 of 2 shards are there" in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole

    # One at a time on one device, as four at a time on four.
    assert infer(pictures, "--gin.MAP_FORMATS=('npy',)", "--gin.BATCH_SIZE=1", name="one") == 0
    for one, four in zip(list(read_rows(tmp_path / "one"))[:5], rows, strict=False):
        # Sums are taken in another order: float32, some hundred terms each.
        for name in SCORES:
            assert one[name] == pytest.approx(four[name], abs=1e-5)
        assert one["keywords"] == four["keywords"]
        for name in HEATMAPS:
            found = [np.load(tmp_path / f / row[f"{name}_npy"]) for f, row in (("one", one), ("out", four))]
            np.testing.assert_allclose(*found, atol=1e-5)

    # A folder that is another job's.
    assert infer(pictures, *flags, "--gin.SHARD_SIZE=3", "--gin.RichFeedbackModel.keyword_length=5") == 2
    error = capsys.readouterr().err
    assert "settings.shard_size: there 4, now 3" in error
    assert "model.keyword_length: there 6, now 5" in error


def test_what_is_not_wanted_is_not_computed(made_run, infer, data_dir, tmp_path, monkeypatch):
    made_run("tiny_augmented_prompt")
    monkeypatch.setattr(RichFeedbackModel, "_decode", lambda *_: pytest.fail("decodes"))
    flags = ["--gin.OUTPUTS=('scores',)", "--gin.FORMAT=jsonl"]
    assert infer(f"{data_dir}/test-*", *flags, model="tiny_augmented_prompt") == 0
    rows = list(read_rows(tmp_path / "out"))
    assert list(rows[0]) == [*ABOUT, *SCORES, *ERRORS]
    records = list(read_records(sorted(data_dir.glob("test-*"))))
    assert [(row["id"], row["prompt"]) for row in rows] == [(r.filename, r.prompt) for r in records]
    assert not list((tmp_path / "out").glob("maps*"))


def test_what_cannot_work_is_one_line(made_run, infer, pictures, tmp_path, capsys):
    made_run()
    for argument, message in WRONG.items():
        capsys.readouterr()
        assert infer(pictures, argument.format(pictures=pictures, run=tmp_path / "run")) == 2, argument
        errors = capsys.readouterr().err.splitlines()
        assert re.search(message, next(line for line in errors if line.startswith("launch.infer: "))), errors
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_process_that_fails_ends_the_others(made_run, infer_flags, start_two, pictures, tmp_path):
    """The second one does, at its shard; the first one, done with its own, would wait for that shard."""
    made_run()
    running = start_two("launch.infer", [*infer_flags("tiny_multi_head", pictures), "--gin.STRICT=True"])
    first, second = (process.communicate(timeout=120)[1] for process in running)
    assert [process.returncode for process in running] == [2, 2]
    assert "launch.infer: process 1 failed; its log says why" in first
    assert "launch.infer: input 5, broken.png: undecodable image" in second
    assert not (tmp_path / "out/summary.json").exists()


def test_sigterm_ends_all_processes(made_run, infer_flags, start_two, tmp_path):
    """While each waits for an image that never comes."""
    made_run()
    for index in range(2):
        os.mkfifo(tmp_path / f"{index}.png")
    lines = (f"{index // 4}.png,a red square\n" for index in range(8))
    (tmp_path / "table.csv").write_text("image,prompt\n" + "".join(lines))
    running = start_two("launch.infer", infer_flags("tiny_multi_head", tmp_path / "table.csv"))
    ends = []
    while len(ends) < 2:
        assert [process.poll() for process in running] == [None, None]
        # Without a reader at its other end a pipe cannot be opened so.
        with contextlib.suppress(OSError):
            ends.append(os.open(tmp_path / f"{len(ends)}.png", os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.1)
    for process in running:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(timeout=30) for process in running] == [128 + signal.SIGTERM] * 2
    for end in ends:
        os.close(end)
