"""Images that are in several places: a problem, except in Pick-a-Pic."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from richhf.data.prepare import BadInput, prepare
from richhf.data.records import read_records

RUN = {"workers": 1, "shards": 1}
UID, INDEX = "train-uid-0002", 2
REPEATED = "found the same image and prompt again; expected one: {}, index {} is used"
OTHER = "found another image or prompt; expected one: {}, index {} is used"


def test_an_image_that_is_in_several_files(world, labels, tmp_path):
    """The first name counts, whatever the files hold."""
    folder = world.write_images(tmp_path / "images")
    (first,) = (path.relative_to(folder).as_posix() for path in folder.rglob(f"{UID}.*"))
    clean = prepare(folder, tmp_path / "clean", richhf=labels, **RUN)
    (folder / "c").mkdir()
    (folder / "c" / f"{UID}.png").write_bytes(world.images[UID])
    (folder / "d").mkdir()
    (folder / "d" / f"{UID}.jpg").write_bytes(world.images[world.uids[0]])
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    assert info["sha256"] == clean["sha256"]
    assert [one["left_out"] for one in info["splits"].values()] == [{}, {}, {}]
    assert info["problems"] == [
        {"kind": "repeated image", "file": file, "index": 0, "uid": UID, "detail": detail.format(first, 0)}
        for file, detail in ((f"c/{UID}.png", REPEATED), (f"d/{UID}.jpg", OTHER))
    ]
    with pytest.raises(BadInput, match=rf"^c/{UID}.png, index 0 \(uid {UID}\): repeated image: found the"):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)
    assert prepare(folder, tmp_path / "strict", richhf=labels, **RUN) == info


def test_an_image_that_is_in_several_rows_of_a_mirror(world, labels, tmp_path, contents, interrupt):
    """The first usable row counts; bytes and list are the same on a resume and with several workers."""
    folder = world.write_parquet_mirror(tmp_path / "mirror")
    row = world.mirror_rows("train")[INDEX]
    other = {**row, "caption": "another prompt"}
    broken = {**row, "image": {"bytes": b"broken", "path": None}}
    for name, rows in {"a.parquet": [broken], "z.parquet": [other, row, row]}.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=2)
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    used = ("train-00000-of-00001.parquet", INDEX)
    found = [(one["kind"], one["file"], one["index"], one["detail"]) for one in info["problems"][1:]]
    assert info["problems"][0]["kind"] == "undecodable image"
    assert found == [
        ("repeated image", "z.parquet", index, detail.format(*used))
        for index, detail in enumerate((OTHER, REPEATED, REPEATED))
    ]
    assert list(read_records(sorted((tmp_path / "out").glob("train-*"))))[INDEX].image == world.images[UID]
    again = tmp_path / "again"
    interrupt("fetch", "fetch_piece", 2, lambda: prepare(folder, again, richhf=labels, **RUN))
    prepare(folder, again, richhf=labels, workers=2, shards=1)
    assert contents(again) == contents(tmp_path / "out")


def test_in_pick_a_pic_an_image_belongs_into_several_rows(world, labels, tmp_path):
    folder = world.write_pickapic(tmp_path / "pickapic")
    path = sorted(folder.iterdir())[0]
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    info = prepare(folder, tmp_path / "out", richhf=labels, strict=True, **RUN)
    assert info["problems"] == []
    assert info["splits"]["train"]["written"] == 7


def test_a_missing_image_is_told_from_a_repeated_label(world, tmp_path):
    labels = world.write_labels(tmp_path / "labels")
    with tf.io.TFRecordWriter(str(labels / "dev.tfrecord")) as writer:
        for uid in (*world.splits["dev"], world.splits["dev"][0]):
            writer.write(world.example(uid))
    folder = world.write_images(tmp_path / "images")
    next(folder.rglob("dev-uid-0000.*")).unlink()
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    assert info["splits"]["dev"]["left_out"] == {"no image": 1, "repeated uid": 1}
    assert [(one["kind"], one["index"]) for one in info["problems"]] == [("repeated uid", 2), ("no image", 0)]
