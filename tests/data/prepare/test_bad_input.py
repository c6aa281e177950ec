"""Every kind of bad input: counted and listed by file and index, and with `strict` an error."""

import io
import pickle
import re
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from richhf.data.prepare import BadInput, Kind, prepare
from richhf.data.records import encode_png, read_records

RUN = {"workers": 1, "shards": 1}
UID, INDEX = "train-uid-0002", 2


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


SMALL = encode_png(np.zeros((384, 384), np.uint8))
COLOUR = encode_png(np.zeros((512, 512, 3), np.uint8))
SPECK = encode_png(np.zeros((512, 512), np.uint8))
LABELS = {
    "without a feature": (
        {"overall_score": None},
        Kind.MISSING_FEATURE,
        "overall_score: found no such feature",
    ),
    "no filename": ({"filename": None}, Kind.MISSING_FEATURE, "filename: found no such feature"),
    "score above 1": (
        {"artifact_score": 1.25},
        Kind.SCORE,
        "artifact_score: found 1.25; expected a number in",
    ),
    "score NaN": ({"overall_score": float("nan")}, Kind.SCORE, "overall_score: found nan"),
    "score as text": ({"overall_score": b"0.5"}, Kind.SCORE, "found bytes values; expected one float value"),
    "label 2": ({"prompt_misalignment_label": b"1 2 1"}, Kind.LABELS, "label 1 is '2'; expected 0"),
    "label bytes": ({"prompt_misalignment_label": b"\xff"}, Kind.LABELS, "expected UTF-8 text"),
    "no map": ({"artifact_map": b"not a picture"}, Kind.MAP, "cannot be decoded (no known image format)"),
    "cut map": ({"misalignment_map": COLOUR[:-40]}, Kind.MAP, "misalignment_map: found"),
    "map without end": ({"artifact_map": SPECK[:-6]}, Kind.MAP, "artifact_map: found"),
    "colour map": ({"artifact_map": COLOUR}, Kind.MAP, "found an image of mode RGB"),
    "small map": ({"misalignment_map": SMALL}, Kind.MAP_SIZE, "384 x 384 pixels; expected 512 x 512"),
    "huge map": ({"artifact_map": bomb(50_000, 2_000)}, Kind.MAP_SIZE, "50000 x 2000 pixels"),
    "repeated uid": (
        {"filename": b"train/train-uid-0000.png"},
        Kind.REPEATED,
        "train.tfrecord, index 0 is kept",
    ),
    "nameless": ({"filename": b""}, Kind.RECORD, "filename: found no name"),
    "unknown uid": (
        {"filename": b"train/nobody.png"},
        Kind.NO_IMAGE,
        "found its uid nowhere among the images",
    ),
}


@pytest.mark.parametrize(("changes", "kind", "detail"), LABELS.values(), ids=LABELS)
def test_a_bad_label_record(world, pickapic, tmp_path, changes, kind, detail):
    labels = world.write_labels(tmp_path / "labels", {UID: changes})
    info = prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = info["problems"]
    assert (problem["kind"], problem["file"], problem["index"]) == (kind.value, "train.tfrecord", INDEX)
    assert detail in problem["detail"]
    check_left_out(tmp_path / "out", info, world, kind)
    with pytest.raises(
        BadInput, match=rf"^train\.tfrecord, index {INDEX}.*: {re.escape(kind.value)}: "
    ) as caught:
        prepare(pickapic, tmp_path / "strict", richhf=labels, strict=True, **RUN)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(BadInput, match=re.escape(kind.value)):
        prepare(pickapic, tmp_path / "out", richhf=labels, strict=True, **RUN)


def check_left_out(out, info, world, kind):
    assert info["splits"]["train"]["left_out"] == {kind.value: 1}
    assert info["splits"]["train"]["written"] == 6
    records = read_records(sorted(out.glob("train-*.tfrecord")))
    assert [record.filename for record in records] == [
        f"train/{uid}.png" for uid in world.splits["train"] if uid != UID
    ]


def test_a_truncated_record_file_loses_its_rest_and_no_other(world, pickapic, tmp_path):
    labels = world.write_labels(tmp_path / "labels")
    path = labels / "train.tfrecord"
    path.write_bytes(path.read_bytes()[:-5])
    info = prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = info["problems"]
    assert (problem["kind"], problem["file"], problem["index"]) == (
        "damaged record file",
        "train.tfrecord",
        6,
    )
    assert "found a truncated record, all from it on is lost" in problem["detail"]
    assert [info["splits"][split]["written"] for split in ("train", "dev", "test")] == [6, 2, 2]
    with pytest.raises(BadInput, match="damaged record file: found a truncated record"):
        prepare(pickapic, tmp_path / "strict", richhf=labels, strict=True, **RUN)


def test_a_record_that_is_no_example(world, pickapic, tmp_path):
    labels = world.write_labels(tmp_path / "labels")
    with tf.io.TFRecordWriter(str(labels / "dev.tfrecord")) as writer:
        writer.write(b"\xffgarbage")
        writer.write(world.example(world.splits["dev"][0]))
    info = prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = info["problems"]
    assert (problem["kind"], problem["file"], problem["index"]) == ("malformed record", "dev.tfrecord", 0)
    assert info["splits"]["dev"]["left_out"] == {"malformed record": 1}
    assert info["splits"]["dev"]["written"] == 1


def as_format(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, kind)
    return buffer.getvalue()


IMAGES = {
    "not an image": (b"<html>404</html>", Kind.IMAGE, "16 bytes starting with b'<html>40' cannot be decoded"),
    "cut JPEG": (as_format("JPEG")[:-60], Kind.IMAGE, "cannot be decoded"),
    "cut PNG": (as_format("PNG")[:-30], Kind.IMAGE, "cannot be decoded"),
    "PNG without end": (as_format("PNG")[:-12], Kind.IMAGE, "cannot be decoded"),
    "cut WebP": (as_format("WEBP")[:-10], Kind.IMAGE, "cannot be decoded"),
    "empty": (b"", Kind.IMAGE, "0 bytes"),
    "PDF": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Kind.IMAGE, "expected PNG, JPEG"),
    "bomb": (bomb(60_000, 30_000), Kind.BOMB, "expected at most 64,000,000 (--max-pixels)"),
    "large": (bomb(9_000, 9_000), Kind.BOMB, "9000 x 9000 = 81,000,000 pixels; expected at most 64,000,000"),
}


@pytest.mark.parametrize(("image", "kind", "detail"), IMAGES.values(), ids=IMAGES)
def test_a_bad_image(world, labels, tmp_path, image, kind, detail):
    folder = world.write_images(tmp_path / "images")
    (path,) = folder.rglob(f"{UID}.*")
    path.write_bytes(image)
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = info["problems"]
    assert (problem["kind"], problem["file"], problem["uid"]) == (
        kind.value,
        path.relative_to(folder).as_posix(),
        UID,
    )
    assert detail in problem["detail"]
    check_left_out(tmp_path / "out", info, world, kind)
    with pytest.raises(BadInput, match=rf"\(uid {UID}\): {re.escape(kind.value)}"):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)
    # The piece is in the spool; its problem counts again.
    with pytest.raises(BadInput, match=rf"\(uid {UID}\): {re.escape(kind.value)}"):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)
    assert prepare(folder, tmp_path / "strict", richhf=labels, **RUN) == info


def test_an_image_that_is_missing(world, labels, tmp_path):
    folder = world.write_images(tmp_path / "images")
    next(folder.rglob(f"{UID}.*")).unlink()
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = info["problems"]
    assert (problem["kind"], problem["file"], problem["index"]) == ("no image", "train.tfrecord", INDEX)
    check_left_out(tmp_path / "out", info, world, Kind.NO_IMAGE)
    with pytest.raises(BadInput, match="no image: found its uid nowhere"):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (None, [Kind.NO_PROMPT]),
        (f"{UID},", [Kind.TABLE, Kind.NO_PROMPT]),
        (f"{UID}", [Kind.TABLE, Kind.NO_PROMPT]),
        (",a cat", [Kind.TABLE, Kind.NO_PROMPT]),
    ],
)
def test_a_prompt_that_is_missing_or_no_text(world, labels, tmp_path, line, kinds):
    folder = world.write_images(tmp_path / "images")
    table = folder / "prompts.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[1 + INDEX : 2 + INDEX] = [] if line is None else [line]
    table.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    assert [problem["kind"] for problem in info["problems"]] == [kind.value for kind in kinds]
    if Kind.TABLE in kinds:
        assert (info["problems"][0]["file"], info["problems"][0]["index"]) == ("prompts.csv", INDEX + 2)
    check_left_out(tmp_path / "out", info, world, Kind.NO_PROMPT)
    with pytest.raises(BadInput, match=re.escape(kinds[0].value)):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)


def test_a_table_in_another_encoding_is_refused_before_anything_is_written(world, labels, tmp_path):
    folder = world.write_images(tmp_path / "images")
    table = folder / "prompts.csv"
    table.write_bytes(table.read_bytes() + f"{UID},caf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"prompts\.csv, line \d+: found the byte 0xe9, which is not UTF-8"):
        prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    assert not (tmp_path / "out").exists()


def test_a_row_without_image_or_caption(world, labels, tmp_path):
    folder = world.write_pickapic(tmp_path / "pickapic")
    for path in folder.iterdir():
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            for position in "01":
                if row[f"image_{position}_uid"] == UID:
                    row[f"jpg_{position}"] = None
                if row[f"image_{position}_uid"] == world.uids[0]:
                    row["caption"] = None
        pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    found = {problem["uid"]: problem["kind"] for problem in info["problems"]}
    assert found == {UID: "no image", world.uids[0]: "no prompt"}
    assert info["splits"]["train"]["left_out"] == {"no image": 1, "no prompt": 1}


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other columns"])
def test_an_unreadable_parquet_file(world, labels, tmp_path, damage):
    folder = world.write_pickapic(tmp_path / "pickapic")
    path = sorted(folder.iterdir())[1]
    if damage == "other columns":
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello" * 100}[damage])
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    problem, *missing = info["problems"]
    assert (problem["kind"], problem["file"], problem["index"]) == ("unreadable file", path.name, 0)
    assert {one["kind"] for one in missing} == {"no image"}
    written = sum(split["written"] for split in info["splits"].values())
    assert 0 < written == len(world.uids) - len(missing)
    with pytest.raises(BadInput, match="unreadable file: "):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)


def test_an_arrow_file_that_is_cut_gives_what_comes_before(world, labels, tmp_path):
    folder = world.write_saved_mirror(tmp_path / "saved")
    path = folder / "train" / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    problem = info["problems"][0]
    assert (problem["kind"], problem["file"]) == ("unreadable file", "train/data-00000-of-00001.arrow")
    assert 0 < info["splits"]["train"]["written"] < 7
    assert problem["index"] <= info["splits"]["train"]["written"]
    assert info["splits"]["dev"]["written"] == 2


def test_labels_that_do_not_fit_the_words_are_kept_and_listed(world, pickapic, tmp_path):
    labels = world.write_labels(tmp_path / "labels", {UID: {"prompt_misalignment_label": b"1 0"}})
    with pytest.raises(BadInput, match="found 2 labels; expected 6"):
        prepare(pickapic, tmp_path / "out", richhf=labels, strict=True, **RUN)
    info = prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = info["problems"]
    assert (problem["file"], problem["index"], problem["uid"]) == ("train.tfrecord", INDEX, UID)
    assert problem["detail"] == "found 2 labels; expected 6, one for each word of the prompt"
    assert info["splits"]["train"]["left_out"] == {}
    records = list(read_records(tmp_path / "out" / "train-00000-of-00001.tfrecord"))
    assert records[INDEX].labels == (1, 0)


def test_without_any_usable_label_nothing_is_fetched(world, pickapic, tmp_path):
    changes = {uid: {"overall_score": 7.0} for uid in world.uids}
    labels = world.write_labels(tmp_path / "labels", changes)
    with pytest.raises(
        ValueError, match=r"no label in .*labels is usable \(first problem: train.tfrecord, index 0"
    ):
        prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    assert list((tmp_path / "out").iterdir()) == []
