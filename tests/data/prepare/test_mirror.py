"""Mirrors that hold the labels too."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from richhf.data.prepare import prepare
from richhf.data.prepare.files import split_of
from richhf.data.records import read_records

RUN = {"workers": 1, "shards": 1}


def decoded(encoded: bytes) -> np.ndarray:
    return tf.io.decode_png(encoded).numpy()[..., 0]


def label_rows(world, split, to_map, count=2, **changes):
    rows = []
    for row, uid in zip(world.mirror_rows(split)[:count], world.splits[split][:count], strict=True):
        values = dict(world.labels[uid])
        for name in ("artifact_map", "misalignment_map"):
            values[name] = to_map(values[name])
        rows.append({**row, **values, "filename": values["filename"].decode(), **changes})
    return rows


def write(folder, rows_by_file):
    for name, rows in rows_by_file.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=2)
    return folder


MAPS = {
    "bytes": lambda encoded: encoded,
    "struct": lambda encoded: {"bytes": encoded, "path": None},
    "integers": lambda encoded: decoded(encoded).tolist(),
    "fractions": lambda encoded: (decoded(encoded) / np.float32(255)).tolist(),
}


@pytest.mark.parametrize("form", MAPS)
def test_maps_are_pictures_structs_or_nested_numbers(world, labels, tmp_path, contents, form):
    """Two records alone: nested lists are slow to write. Encoded maps keep their bytes."""
    rows = {split: label_rows(world, split, MAPS[form], count=1) for split in ("dev", "test")}
    mirror = write(tmp_path / "mirror", {"validation-0.parquet": rows["dev"], "test/0.parquet": rows["test"]})
    info = prepare(mirror, tmp_path / "out", **RUN)
    assert [info["splits"][split]["written"] for split in ("train", "dev", "test")] == [0, 1, 1]
    assert info["problems"] == []
    prepare(mirror, tmp_path / "joined", richhf=labels, **RUN)
    for name in ("dev-00000-of-00001.tfrecord", "test-00000-of-00001.tfrecord"):
        one, other = tmp_path / "out" / name, tmp_path / "joined" / name
        if form in ("bytes", "struct"):
            assert one.read_bytes() == other.read_bytes()
        for found, expected in zip(read_records(one), read_records(other), strict=True):
            assert (found.filename, found.labels, found.prompt) == (
                expected.filename,
                expected.labels,
                expected.prompt,
            )
            assert (found.scores, found.image) == (expected.scores, expected.image)
            for key, heatmap in expected.heatmaps.items():
                np.testing.assert_array_equal(found.heatmaps[key], heatmap)


def test_labels_may_be_lists_and_names_only_uids(world, tmp_path):
    rows = label_rows(world, "dev", MAPS["bytes"], prompt_misalignment_label=[1, 0, 1, 1, 1, 1])
    for row, uid in zip(rows, world.splits["dev"], strict=True):
        row["UID"] = uid
        del row["filename"]
    info = prepare(write(tmp_path / "mirror", {"dev.parquet": rows}), tmp_path / "out", **RUN)
    assert info["source"]["columns"] == {"uid": "UID", "image": "image", "prompt": "caption"}
    records = list(read_records(tmp_path / "out" / "dev-00000-of-00001.tfrecord"))
    assert [record.filename for record in records] == [f"dev/{uid}.png" for uid in world.splits["dev"]]
    assert records[0].labels == (1, 0, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "kind", "detail"),
    [
        ({"overall_score": None}, "missing feature", "overall_score: found no such feature"),
        ({"overall_score": "high"}, "score outside [0, 1]", "found bytes values"),
        ({"overall_score": 3}, "score outside [0, 1]", "found 3.0"),
        ({"prompt_misalignment_label": [1, 0.5]}, "labels other than 0 and 1", "found [1.0, 0.5]"),
        ({"prompt_misalignment_label": [1, math.inf]}, "labels other than 0 and 1", "found [1.0, inf]"),
        ({"prompt_misalignment_label": [math.nan, 1]}, "labels other than 0 and 1", "found [nan, 1.0]"),
        ({"artifact_map": [[0, 1], [2]]}, "undecodable map", "found rows of different lengths"),
        ({"artifact_map": [[0, 1], [2, 300]]}, "undecodable map", "expected rows of integers 0 to 255"),
        ({"artifact_map": [[0.5, 0.25]]}, "map not 512 x 512", "2 x 1 pixels"),
        ({"artifact_map": [[[1], [2]]]}, "map not 512 x 512", "2 x 1 pixels"),
        ({"artifact_map": [["a"]]}, "undecodable map", "found values of type string"),
        ({"artifact_map": "no/such.png"}, "undecodable map", "where no file is"),
    ],
)
def test_bad_labels_are_named_by_row(world, tmp_path, changes, kind, detail):
    rows = label_rows(world, "dev", MAPS["bytes"])
    files = {"train-0.parquet": rows, "train-1.parquet": label_rows(world, "test", MAPS["bytes"], **changes)}
    info = prepare(write(tmp_path / "mirror", files), tmp_path / "out", **RUN)
    assert [(one["kind"], one["file"], one["index"]) for one in info["problems"]] == [
        (kind, "train-1.parquet", 0),
        (kind, "train-1.parquet", 1),
    ]
    assert detail in info["problems"][0]["detail"]
    assert info["splits"]["train"]["left_out"] == {kind: 2}


def test_a_mirror_without_labels_or_without_splits_says_so(world, tmp_path):
    plain = write(tmp_path / "plain", {"dev.parquet": world.mirror_rows("dev")})
    with pytest.raises(ValueError, match=r"holds no labels: no column artifact_score.*--richhf DIR"):
        prepare(plain, tmp_path / "out", **RUN)
    nameless = write(tmp_path / "nameless", {"data.parquet": label_rows(world, "dev", MAPS["bytes"])})
    with pytest.raises(
        ValueError, match=r"cannot tell the split of .*data.parquet; expected train, validation"
    ):
        prepare(nameless, tmp_path / "out", **RUN)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "dev"),
        ("saved/test/data-00000-of-00001.arrow", "test"),
        ("train/val_0.parquet", "dev"),
        ("DEV.tfrecord", "dev"),
        ("training.parquet", None),
        ("contest/latest.parquet", None),
    ],
)
def test_the_split_is_a_word_of_the_name(name, split):
    assert split_of(name) == split


def test_a_file_whose_images_have_another_form_is_named(world, labels, tmp_path):
    """The uid is guessed from the path inside the image; the second file has bare bytes."""
    structs, bare = [], []
    for uid in world.splits["train"]:
        image, caption = world.images[uid], world.prompts[uid]
        structs.append({"image": {"bytes": image, "path": f"{uid}.png"}, "caption": caption})
        bare.append({"image": image, "caption": caption})
    folder = write(tmp_path / "mirror", {"a.parquet": structs[:4], "b.parquet": bare[4:]})
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    (problem,) = [one for one in info["problems"] if one["kind"] == "unreadable file"]
    assert (problem["file"], problem["detail"]) == (
        "b.parquet",
        "found the columns image, caption; expected also image.path",
    )
    assert info["splits"]["train"]["written"] == 4


def test_where_no_uid_fits_the_next_move_is_named(world, labels, tmp_path):
    rows = [{**row, "image_id": number} for number, row in enumerate(world.mirror_rows("train"))]
    folder = write(tmp_path / "mirror", {"a.parquet": rows})
    with pytest.raises(ValueError, match=r"has the uid of a label; found '0', .*Name it with --uid-column"):
        prepare(folder, tmp_path / "out", richhf=labels, **RUN)


def test_where_no_prompt_is_text_that_is_what_is_said(world, labels, tmp_path):
    rows = [{**row, "caption": [row["caption"]]} for row in world.mirror_rows("train")]
    folder = write(tmp_path / "mirror", {"a.parquet": rows})
    with pytest.raises(ValueError, match=r"has the uid of a label is unusable .*no prompt: found no UTF-8"):
        prepare(folder, tmp_path / "out", richhf=labels, **RUN)
