import importlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from richhf.data.dataset_info import sha256
from richhf.data.prepare import is_complete, prepare
from richhf.data.records import read_records

ASSEMBLE = importlib.import_module("richhf.data.prepare.assemble")
RUN = {"workers": 1, "shards": 3}
SHARDS = [
    "dev-00000-of-00001.tfrecord",
    "test-00000-of-00001.tfrecord",
    *(f"train-{number:05d}-of-00003.tfrecord" for number in range(3)),
]


@pytest.fixture(scope="module")
def made(labels, pickapic, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    return out, prepare(pickapic, out, richhf=labels, **RUN)


def records_of(files):
    """By name, without what depends on the form of the source."""
    return {name: content for name, content in files.items() if name.endswith(".tfrecord")}


def test_records_are_labels_as_found_with_image_and_prompt_in_the_order_of_the_labels(made, world, contents):
    out, _ = made
    assert set(contents(out)) == {*SHARDS, "dataset_info.json"}
    for split, uids in world.splits.items():
        files = [str(out / name) for name in SHARDS if name.startswith(split)]
        found = list(tf.data.TFRecordDataset(files).as_numpy_iterator())
        assert len(found) == len(uids)
        for serialized, uid in zip(found, uids, strict=True):
            features = tf.train.Example.FromString(serialized).features.feature
            values = {
                name: getattr(value, value.WhichOneof("kind")).value for name, value in features.items()
            }
            expected = {
                **world.labels[uid],
                "image": world.images[uid],
                "prompt": world.prompts[uid].encode(),
            }
            assert set(values) == set(expected)
            for name, value in expected.items():
                assert list(values[name]) == [np.float32(value) if isinstance(value, float) else value]
    records = list(read_records([out / name for name in SHARDS]))
    assert len(records) == len(world.uids)
    assert all(record.decode_image().shape[0] == 24 for record in records)


def test_every_form_of_the_same_images_gives_the_same_bytes(made, world, labels, tmp_path, contents):
    expected = records_of(contents(made[0]))
    forms = {
        "mirror": world.write_parquet_mirror(tmp_path / "parquet"),
        "saved": world.write_saved_mirror(tmp_path / "saved"),
        "csv": world.write_images(tmp_path / "csv"),
        "jsonl": world.write_images(tmp_path / "jsonl", table="prompts.jsonl"),
    }
    for name, images in forms.items():
        info = prepare(images, tmp_path / "out" / name, richhf=labels, **RUN)
        assert records_of(contents(tmp_path / "out" / name)) == expected, name
        assert info["source"]["kind"] == ("folder" if name in ("csv", "jsonl") else "mirror")
        assert info["problems"] == []


def test_info_says_what_was_found_and_what_should_have_been(made, world):
    out, info = made
    assert info == json.loads((out / "dataset_info.json").read_text())
    assert info["complete"]
    assert is_complete(out)
    assert info["splits"] == {
        "train": {"expected": 15810, "found": 7, "written": 7, "left_out": {}},
        "dev": {"expected": 995, "found": 2, "written": 2, "left_out": {}},
        "test": {"expected": 955, "found": 2, "written": 2, "left_out": {}},
    }
    assert info["source"]["files"] == 2
    assert info["images"]["formats"] == {"JPEG": 7, "PNG": 4}
    assert info["images"]["converted"] == 0
    assert info["images"]["sizes"]["20 x 24"] == 1
    assert {name: sha256(out / name) for name in SHARDS} == info["sha256"]


def test_no_byte_depends_on_the_number_of_workers(made, labels, pickapic, tmp_path, contents):
    prepare(pickapic, tmp_path / "out", richhf=labels, workers=2, shards=3)
    assert contents(tmp_path / "out") == contents(made[0])


@pytest.mark.parametrize(
    ("module", "name", "calls"), [("fetch", "fetch_piece", 1), ("assemble", "write_examples", 2)]
)
def test_interrupted_and_run_again_it_goes_on_and_ends_the_same(
    made, world, labels, tmp_path, contents, monkeypatch, interrupt, module, name, calls
):
    pickapic = world.write_pickapic(tmp_path / "pickapic", group=3)
    interrupt(module, name, calls, lambda: prepare(pickapic, tmp_path / "out", richhf=labels, **RUN))
    assert not is_complete(tmp_path / "out")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    (tmp_path / "out" / ".left-over.123.tmp").write_text("half")
    module, again = importlib.import_module(f"richhf.data.prepare.{module}"), []
    function = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: (again.append(args), function(*args)))
    prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    assert len(again) + calls == {"fetch_piece": 2, "write_examples": len(SHARDS)}[name]
    assert contents(tmp_path / "out") == contents(made[0])
    for path, stamp in kept.items():
        if path.suffix == ".tfrecord":
            assert path.stat().st_mtime_ns == stamp


def test_a_file_that_can_be_read_again_counts_even_for_records_begun_without_it(
    made, world, labels, tmp_path, contents, monkeypatch
):
    pickapic = world.write_pickapic(tmp_path / "pickapic")
    path = sorted(pickapic.iterdir())[1]
    sound = path.read_bytes()
    path.write_bytes(bytes(len(sound)))
    write = ASSEMBLE.write_examples

    def interrupted(file, examples):
        if "dev" in file.name:
            raise KeyboardInterrupt
        write(file, examples)

    with monkeypatch.context() as patch:
        patch.setattr(ASSEMBLE, "write_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    assert list((tmp_path / "out").glob("train-*"))
    path.write_bytes(sound)
    prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    assert contents(tmp_path / "out") == contents(made[0])


def test_a_finished_folder_is_left_as_it_is(made, labels, pickapic):
    out, info = made
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare(pickapic, out, richhf=labels, **RUN) == info
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_file_that_is_lost_is_made_again(made, labels, pickapic, tmp_path, contents):
    prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    (tmp_path / "out" / SHARDS[0]).unlink()
    assert not is_complete(tmp_path / "out")
    prepare(pickapic, tmp_path / "out", richhf=labels, **RUN)
    assert contents(tmp_path / "out") == contents(made[0])


def test_another_request_into_the_same_folder_is_refused_and_says_what_differs(
    made, world, labels, pickapic, tmp_path, contents
):
    before = contents(made[0])
    with pytest.raises(ValueError, match=r"holds another set of records \(shards 3 there, 4 asked for\)"):
        prepare(pickapic, made[0], richhf=labels, shards=4)
    other = world.write_images(tmp_path / "images")
    with pytest.raises(
        ValueError, match=r"source: kind 'pickapic' there, 'folder' asked for; source: files 2"
    ):
        prepare(other, made[0], richhf=labels, **RUN)
    assert contents(made[0]) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        prepare(pickapic, tmp_path / "mine", richhf=labels)


def test_of_a_uid_in_several_places_the_first_usable_one_counts(world, labels, tmp_path):
    """Files by name, then rows, then positions, whatever is read first."""
    folder, (uid, *_) = world.write_pickapic(tmp_path / "pickapic"), world.uids
    image, broken = world.images[world.uids[1]], b"\xff\xd8\xff broken"
    rows = [
        world.pickapic_row((uid, broken), ("z", image), "first, but broken"),
        world.pickapic_row(("z", image), (uid, image), "the second one, of six words"),
        world.pickapic_row((uid, world.images[uid]), ("z", image), "third"),
    ]
    schema = pq.read_schema(sorted(folder.iterdir())[0])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "a.parquet", row_group_size=1)
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        info = prepare(folder, out, richhf=labels, workers=workers, shards=1)
        record = next(read_records(out / "train-00000-of-00001.tfrecord"))
        assert (record.prompt, record.image) == ("the second one, of six words", image)
        assert [(one["kind"], one["file"], one["index"], one["uid"]) for one in info["problems"]] == [
            ("undecodable image", "a.parquet", 0, uid)
        ]


def test_where_nothing_belongs_together_the_folder_is_free_for_another_try(world, labels, pickapic, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    rows = [{**row, "id": f"{number}"} for number, row in enumerate(world.mirror_rows("train"))]
    pq.write_table(pa.Table.from_pylist(rows), mirror / "train.parquet")
    out = tmp_path / "out"
    with pytest.raises(
        ValueError,
        match=r"has the uid of a label; found '0', from train.parquet, column id; expected uids like 'dev-",
    ):
        prepare(mirror, out, richhf=labels, columns={"uid": "id"}, **RUN)
    assert list(out.iterdir()) == []
    info = prepare(mirror, out, richhf=labels, **RUN)
    assert info["splits"]["train"]["written"] == 7
    assert info["splits"]["dev"] == {
        "expected": 995,
        "found": 2,
        "written": 0,
        "left_out": {"no image": 2},
    }
    assert not list(out.glob("dev-*"))


def test_other_formats_become_png_without_loss_and_reencode_converts_jpeg(world, labels, tmp_path):
    from PIL import Image

    folder = world.write_images(tmp_path / "images")
    uid = world.uids[0]
    (path,) = folder.rglob(f"{uid}.*")
    pixels = np.asarray(Image.open(path))
    path.unlink()
    Image.fromarray(pixels).save(folder / f"{uid}.webp", lossless=True)
    info = prepare(folder, tmp_path / "kept", richhf=labels, **RUN)
    assert info["images"]["converted"] == 1
    assert info["images"]["formats"]["WEBP"] == 1
    record = next(read_records(tmp_path / "kept" / "train-00000-of-00003.tfrecord"))
    assert record.image.startswith(b"\x89PNG")
    np.testing.assert_array_equal(record.decode_image(), pixels)

    info = prepare(folder, tmp_path / "png", richhf=labels, reencode=True, **RUN)
    assert info["images"]["converted"] == 1 + info["images"]["formats"]["JPEG"]
    for name in SHARDS:
        pairs = zip(
            read_records(tmp_path / "png" / name), read_records(tmp_path / "kept" / name), strict=True
        )
        for converted, kept in pairs:
            assert converted.image.startswith(b"\x89PNG")
            np.testing.assert_array_equal(converted.decode_image(), kept.decode_image())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": 0}, "shards is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"max_pixels": 0}, "max_pixels is 0"),
        ({"max_pixels": 10**9}, "max_pixels is 1000000000; expected 1 to 178956970"),
        ({"source": "pikapic"}, "no source is called 'pikapic'; did you mean 'pickapic'?"),
        ({"richhf": None}, "holds images without labels; give the folder of RichHF-18K's"),
        ({"table": "prompts.csv", "source": "mirror"}, "--table is for a folder of images"),
        ({"columns": {"uid": "image_0_uid"}}, "--uid-column: Pick-a-Pic's columns are known"),
    ],
)
def test_bad_requests_leave_nothing_behind(labels, pickapic, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        prepare(pickapic, tmp_path / "out", **({"richhf": labels} | changes))
    assert not (tmp_path / "out").exists()
