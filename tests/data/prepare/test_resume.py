"""What an interrupted preparation goes on with, and what it refuses or fetches again."""

import contextlib
import importlib
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from richhf import cli
from richhf.data.prepare import prepare

FETCH = importlib.import_module("richhf.data.prepare.fetch")
RUN = {"workers": 1, "shards": 1}


@pytest.fixture
def begin(tmp_path, labels, interrupt):
    """Begins a preparation in `out`: interrupted before the first record file."""

    def run(images, **options):
        arguments = {"richhf": labels} | RUN | options
        interrupt("assemble", "write_examples", 0, lambda: prepare(images, tmp_path / "out", **arguments))
        return tmp_path / "out"

    return run


def write_mirror(world, folder):
    """A mirror of two columns of each kind."""
    rows = [
        {**row, "image_id": row["filename"], "png": row["image"], "text": "another prompt"}
        for split in world.splits
        for row in world.mirror_rows(split)
    ]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "all.parquet")
    return folder


def write_folder(world, folder):
    """Images, and a table of two columns of each kind."""
    world.write_images(folder, table="t.csv")
    lines = [f"{uid},{uid}.png,{prompt},another prompt" for uid, prompt in world.prompts.items()]
    lines = [line.replace(", number", " number") for line in lines]
    (folder / "t.csv").write_text("\n".join(["uid,image_id,caption,text", *lines]))
    return folder


GUESSED = {
    write_mirror: {"uid": "image_id", "image": "image", "prompt": "caption"},
    write_folder: {"uid": "uid", "prompt": "caption"},
}
OTHERS = [
    (write_mirror, "uid", "filename"),
    (write_mirror, "image", "png"),
    (write_mirror, "prompt", "text"),
    (write_folder, "uid", "image_id"),
    (write_folder, "prompt", "text"),
]


@pytest.mark.parametrize(("write", "what", "other"), OTHERS)
def test_other_columns_are_another_request(world, labels, tmp_path, begin, write, what, other):
    images, guessed = write(world, tmp_path / "images"), GUESSED[write][what]
    out = begin(images)
    with pytest.raises(
        ValueError, match=rf"\(source: columns: {what} '{guessed}' there, '{other}' asked for\)"
    ):
        prepare(images, out, richhf=labels, columns={what: other}, **RUN)
    shutil.rmtree(out)
    begin(images, columns={what: other})
    with pytest.raises(
        ValueError, match=rf"\(source: columns: {what} '{other}' there, '{guessed}' asked for\)"
    ):
        prepare(images, out, richhf=labels, **RUN)


@pytest.mark.parametrize("write", GUESSED)
def test_columns_that_are_named_as_they_would_be_guessed_are_the_same_request(
    world, labels, tmp_path, begin, contents, write
):
    images = write(world, tmp_path / "images")
    out = begin(images)
    prepare(images, out, richhf=labels, columns=GUESSED[write], **RUN)
    prepare(images, tmp_path / "whole", richhf=labels, **RUN)
    assert contents(out) == contents(tmp_path / "whole")


def test_another_table_is_another_request_and_the_same_one_may_be_named(world, labels, tmp_path, begin):
    images = world.write_images(tmp_path / "images")
    table, other = images / "prompts.csv", tmp_path / "prompts.csv"
    out = begin(images)
    other.write_bytes(table.read_bytes().replace(b"cat", b"dog"))
    assert other.stat().st_size == table.stat().st_size
    with pytest.raises(ValueError, match=r"\(source: table: sha256 '\w+' there, '\w+' asked for\)"):
        prepare(images, out, richhf=labels, table=other, **RUN)
    other = shutil.copy(table, tmp_path / "other.csv")
    with pytest.raises(
        ValueError, match=r"\(source: table: name 'prompts.csv' there, 'other.csv' asked for\)"
    ):
        prepare(images, out, richhf=labels, table=other, **RUN)
    assert prepare(images, out, richhf=labels, table=table, **RUN)["complete"]


def test_other_labels_of_the_same_size_are_another_request(world, pickapic, tmp_path, begin):
    labels = world.write_labels(tmp_path / "labels", {world.uids[0]: {"overall_score": 0.25}})
    begin(pickapic, richhf=labels)
    size = (labels / "train.tfrecord").stat().st_size
    world.write_labels(labels, {world.uids[0]: {"overall_score": 0.75}})
    assert (labels / "train.tfrecord").stat().st_size == size
    with pytest.raises(ValueError, match=r"\(labels: sha256: train.tfrecord '\w+' there, '\w+' asked for\)"):
        prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)


def test_what_was_fetched_for_other_uids_is_fetched_again(world, tmp_path, begin, contents):
    """A mirror whose labels are put right, in a file of the same size and time."""
    path = tmp_path / "mirror" / "train.parquet"
    path.parent.mkdir()

    def write(score):
        rows = [
            row | world.labels[uid] for row, uid in zip(world.mirror_rows("train"), world.uids, strict=False)
        ]
        rows[0]["overall_score"] = score
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        pq.write_table(pa.Table.from_pylist(rows), path, **options)
        os.utime(path, ns=(10**18, 10**18))
        return path.stat().st_size

    size = write(7.0)
    out = begin(path.parent, richhf=None)
    assert write(0.5) == size
    info = prepare(path.parent, out, **RUN)
    assert (info["splits"]["train"]["written"], info["problems"]) == (7, [])
    prepare(path.parent, tmp_path / "whole", **RUN)
    assert contents(out) == contents(tmp_path / "whole")


def test_an_image_that_has_changed_is_fetched_again_and_its_records_made_again(
    world, labels, tmp_path, interrupt, contents
):
    images, out = world.write_images(tmp_path / "images"), tmp_path / "out"
    (path,) = images.rglob(f"{world.uids[0]}.*")

    def write(value):
        Image.fromarray(np.full((24, 20, 3), value, np.uint8)).save(path, compress_level=0)
        os.utime(path, ns=(10**18 + value, 10**18 + value))
        return path.stat().st_size

    size = write(1)
    interrupt("assemble", "write_examples", 2, lambda: prepare(images, out, richhf=labels, **RUN))
    assert list(out.glob("train-*"))
    assert write(2) == size
    prepare(images, out, richhf=labels, **RUN)
    prepare(images, tmp_path / "whole", richhf=labels, **RUN)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_system_that_fails_ends_the_command_which_then_goes_on(
    world, labels, tmp_path, contents, monkeypatch, capsys, no_more_files
):
    """No file can be opened any more when the second piece is read."""
    images, out = world.write_parquet_mirror(tmp_path / "mirror"), tmp_path / "out"
    argv = ["prepare", "--richhf", str(labels), "--images", str(images), "--workers", "1", "--out"]
    write_piece, begun = FETCH.write_piece, []

    @contextlib.contextmanager
    def failing(folder, key, origin):
        with write_piece(folder, key, origin) as writer, contextlib.ExitStack() as stack:
            if begun:
                stack.enter_context(no_more_files())
            begun.append(key)
            yield writer

    with monkeypatch.context() as patch:
        patch.setattr(FETCH, "write_piece", failing)
        assert cli.main([*argv, str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("richhf: [Errno 24] Failed to open local file ")
    assert error.endswith("Too many open files; see to it and run the command again: it goes on")
    assert [path.stem for path in (out / ".spool").glob("*.json")] == begun[:1]
    with monkeypatch.context() as patch:
        begun.clear()
        patch.setattr(FETCH, "write_piece", lambda *args: (begun.append(args), write_piece(*args))[1])
        assert cli.main([*argv, str(out)]) == 0
    assert len(begun) == 2
    assert cli.main([*argv, str(tmp_path / "whole")]) == 0
    assert contents(out) == contents(tmp_path / "whole")
