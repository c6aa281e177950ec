import errno
import functools
import importlib
import json
import pathlib

import pytest

from richhf.data import mark_misaligned
from richhf.data.dataset_info import sha256
from richhf.data.records import read_records, write_records
from richhf.data.synthetic.synthesize import FORMAT, list_shards, synthesize

REQUEST = {"train": 260, "dev": 3, "test": 5, "size": 32, "seed": 4}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "set"
    return out, synthesize(out, **REQUEST, workers=1)


def test_files(made):
    out, _ = made
    shards = [
        "dev-00000-of-00001",
        "test-00000-of-00001",
        "train-00000-of-00002",
        "train-00001-of-00002",
    ]
    expected = {f"{name}.tfrecord" for name in shards}
    expected |= {f"truth/{name}.{end}" for name in shards for end in ("tfrecord", "jsonl")}
    assert set(contents(out)) == expected | {"vocabulary.model", "lexicon.json", "dataset_info.json"}


def test_truth_has_the_records_order_and_prompts(made):
    out, _ = made
    for shard in list_shards({"train": 260, "dev": 3, "test": 5}):
        records, truths = (list(read_records(path(out))) for path in (shard.records, shard.truth))
        lines = [json.loads(line) for line in shard.summary(out).read_text().splitlines()]
        assert len(records) == len(truths) == len(lines) == shard.stop - shard.start
        for record, truth, line in zip(records, truths, lines, strict=True):
            assert (record.filename, record.prompt) == (truth.filename, truth.prompt)
            assert (record.filename, record.prompt) == (line["filename"], line["prompt"])
            assert line["misaligned"] == [1 - label for label in truth.labels]
            assert record.decode_image().shape == (32, 32, 3)
            assert truth.image is None


def test_info(made):
    out, info = made
    assert info == json.loads((out / "dataset_info.json").read_text())
    assert info["complete"]
    assert info["counts"] == {"train": 260, "dev": 3, "test": 5}
    assert 0.05 < info["shares"]["without_artifacts"] < 0.2
    assert 0.05 < info["shares"]["without_misalignments"] < 0.2
    for agreement in info["agreement"].values():
        assert sum(agreement["spread"]) == pytest.approx(1, abs=1e-3)
        assert 0.3 < agreement["krippendorff_alpha"] < 0.9
    assert all(sha256(out / name) == digest for name, digest in info["sha256"].items())
    assert info["tokens"]["most"] < 36


def test_what_is_drawn_changes_only_with_the_format(made):
    """Golden: the test split of `REQUEST` as format 3 drew it. Where it changes, raise FORMAT."""
    out, _ = made
    records = read_records([out / "test-00000-of-00001.tfrecord"])
    drawn = [
        (
            mark_misaligned(record.prompt, [not label for label in record.labels]),
            [round(12 * score) for score in record.scores.values()],
            record.decode_image().mean(),
        )
        for record in records
    ]
    near = functools.partial(pytest.approx, abs=1.0)
    assert FORMAT == 3
    assert drawn == [
        ("a small white_0 triangle under_0 a striped pink circle", [4, 6, 3, 6], near(167.6)),
        ("four big_0 spotted green squares with a yellow_0 background", [3, 5, 2, 2], near(191.7)),
        ("a big striped star_0 in pink", [6, 6, 3, 6], near(167.7)),
        ("a dotted_0 yellow box", [10, 8, 2, 7], near(200.7)),
        ("a painting of a checkered black star with a night_0 background", [5, 6, 4, 4], near(166.9)),
    ]


def test_bytes_do_not_depend_on_the_number_of_workers(made, tmp_path):
    synthesize(tmp_path, **REQUEST, workers=2)
    assert contents(tmp_path) == contents(made[0])


def test_a_rerun_makes_only_what_is_missing(made, tmp_path):
    request = REQUEST | {"train": 5}
    synthesize(tmp_path, **request, workers=1)
    before = contents(tmp_path)
    kept, lost = tmp_path / "dev-00000-of-00001.tfrecord", tmp_path / "train-00000-of-00001.tfrecord"
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    (tmp_path / "truth" / ".left-over.123.tmp").write_text("half")
    info = synthesize(tmp_path, **request, workers=1)
    assert contents(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp
    for name in ("vocabulary.model", "lexicon.json"):
        (tmp_path / name).unlink()
    synthesize(tmp_path, **request, workers=1)
    assert contents(tmp_path) == before
    assert synthesize(tmp_path, **request) == info


@pytest.mark.parametrize(("name", "value"), [("seed", 5), ("size", 64), ("dev", 4)])
def test_another_request_into_the_same_folder_is_refused(made, name, value):
    before = contents(made[0])
    with pytest.raises(ValueError, match="holds another synthetic set"):
        synthesize(made[0], **(REQUEST | {name: value}))
    assert contents(made[0]) == before


def test_an_unfinished_set_of_another_request_is_replaced(tmp_path, monkeypatch, capsys):
    """As a killed command leaves it: a shard of one split, half of another, no vocabulary."""
    request = REQUEST | {"train": 5}
    synthesize(tmp_path / "fresh", **request, workers=1)
    out = tmp_path / "out"
    written = []

    def write_and_stop(path, records):
        written.append(write_records(path, records))
        if len(written) == 3:
            raise KeyboardInterrupt
        return written[-1]

    module = importlib.import_module("richhf.data.synthetic.synthesize")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_records", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            synthesize(out, **(request | {"size": 40, "dev": 300}), workers=1)
    assert list(out.glob("*.tfrecord"))
    capsys.readouterr()
    synthesize(out, **request, workers=1)
    assert "held an unfinished synthetic set of another request; it is replaced" in capsys.readouterr().err
    assert contents(out) == contents(tmp_path / "fresh")


def test_files_of_others_beside_an_unfinished_set_stay(tmp_path):
    info = {"format": FORMAT, "seed": 1, "size": 32, "counts": {"train": 1, "dev": 0, "test": 0}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info | {"complete": False}))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        synthesize(tmp_path, **REQUEST)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_strangers_folder_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        synthesize(tmp_path, **REQUEST)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}
    with pytest.raises(ValueError, match="is a file"):
        synthesize(tmp_path / "thesis.txt", **REQUEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": -1}, "train is -1"),
        ({"train": 0, "dev": 0, "test": 0}, "no examples"),
        ({"size": 16}, "size is 16"),
        ({"size": 65}, "size is 65; expected .*multiple of 8, such as 64"),
        ({"size": 1000_000}, "size is 1000000; .*such as 1024"),
        ({"size": 2000}, "size is 2000"),
        ({"seed": -3}, "seed is -3"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_requests_leave_nothing_behind(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        synthesize(tmp_path / "out", **(REQUEST | changes))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_explained_and_leaves_no_half_written_file(tmp_path, monkeypatch):
    write_text = pathlib.Path.write_text

    def full(self, text, **options):
        write_text(self, text[: len(text) // 2], **options)
        if ".jsonl" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(self, text, **options)

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match=r"disk is full.*goes on") as caught:
        synthesize(tmp_path, **(REQUEST | {"train": 2}), workers=1)
    assert caught.value.errno == errno.ENOSPC
    assert set(contents(tmp_path)) == {"dataset_info.json"}
    monkeypatch.undo()
    assert synthesize(tmp_path, **(REQUEST | {"train": 2}), workers=1)["complete"]


def test_a_disk_that_is_full_from_the_start_can_be_gone_on_with(tmp_path, monkeypatch):
    def full(self, *args, **options):
        if self.name == "truth":
            raise OSError(errno.ENOSPC, "No space left on device")
        return mkdir(self, *args, **options)

    mkdir = pathlib.Path.mkdir
    monkeypatch.setattr(pathlib.Path, "mkdir", full)
    with pytest.raises(OSError, match="disk is full"):
        synthesize(tmp_path / "out", **(REQUEST | {"train": 2}), workers=1)
    monkeypatch.undo()
    assert synthesize(tmp_path / "out", **(REQUEST | {"train": 2}), workers=1)["complete"]


def test_an_interruption_keeps_finished_shards(tmp_path, monkeypatch):
    request = REQUEST | {"train": 2}
    module = importlib.import_module("richhf.data.synthetic.synthesize")  # the package's name is the function
    make_sample = module.make_sample

    def interrupted(seed, split, index, **options):
        if split == "test":
            raise KeyboardInterrupt
        return make_sample(seed, split, index, **options)

    monkeypatch.setattr(module, "make_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path, **request, workers=1)
    finished = (tmp_path / "train-00000-of-00001.tfrecord").stat().st_mtime_ns
    monkeypatch.undo()
    assert synthesize(tmp_path, **request, workers=1)["complete"]
    assert (tmp_path / "train-00000-of-00001.tfrecord").stat().st_mtime_ns == finished
