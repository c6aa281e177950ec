import numpy as np
import pytest
from PIL import Image

import richhf
from richhf.data.inspect import contact_sheet, format_inspection, inspect_records, write_contact_sheet
from richhf.data.records import Record, RecordError, encode_png, write_records
from richhf.feedback import HEATMAPS, SCORES


def make_record(name="train/a.png", **changes) -> Record:
    heatmap = np.zeros((20, 40), np.uint8)
    heatmap[:10] = 255
    fields = {
        "filename": name,
        "scores": dict.fromkeys(SCORES, 0.5),
        "heatmaps": {"implausibility": heatmap, "misalignment": np.zeros_like(heatmap)},
        "labels": (1, 0, 1),
        "image": encode_png(np.full((20, 40, 3), 128, np.uint8)),
        "prompt": "a yellow cat",
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def folder(tmp_path):
    """Two files with four good records, one with an undecodable image, and one file cut short."""
    half = make_record("train/b.png", scores=dict.fromkeys(SCORES, 0.0), labels=(1, 1))
    bare = make_record("train/c.png", image=None, prompt=None, labels=(1, 1, 1))
    broken = make_record("train/d.png", image=encode_png(np.zeros((9, 9, 3), np.uint8))[:40])
    write_records(tmp_path / "dev.tfrecord", [make_record(), broken, half])
    write_records(tmp_path / "train.tfrecord", [bare, make_record(), make_record("train/e.png")])
    cut = tmp_path / "train.tfrecord"
    cut.write_bytes(cut.read_bytes()[:-5])
    write_records(tmp_path / "truth" / "dev.tfrecord", [make_record()])
    return tmp_path


def test_counts_are_those_of_the_good_records(folder):
    found = inspect_records(folder)
    assert {name.rsplit("/")[-1]: count for name, count in found.files.items()} == {
        "dev.tfrecord": 2,
        "train.tfrecord": 2,
    }
    assert found.records == 4
    assert found.map_sizes == {(20, 40): 4}
    assert found.image_sizes == {(20, 40): 3, None: 1}
    assert found.prompts == 3
    assert found.repeated == 1
    assert found.labels == [(1, 0, 1), (1, 1), (1, 1, 1), (1, 0, 1)]
    assert found.scores["overall"] == [0.5, 0.0, 0.5, 0.5]
    assert found.painted == {"implausibility": [0.5] * 4, "misalignment": [0.0] * 4}
    assert [record.filename for record in found.examples] == [f"train/{c}.png" for c in "abca"]


def test_problems_are_listed_with_file_and_index(folder):
    found = inspect_records(folder)
    places = [(p.file.rsplit("/")[-1], p.index, p.feature) for p in found.problems]
    assert places == [("dev.tfrecord", 1, "image"), ("train.tfrecord", 2, "record")]
    assert found.mismatches == [f"{folder}/dev.tfrecord, record 2: 3 words, 2 labels"]


def test_strict_raises_the_first_problem(folder):
    with pytest.raises(RecordError, match=r"dev\.tfrecord, record 1, image"):
        inspect_records(folder, strict=True)


def test_an_empty_file_is_a_problem_and_another_kind_of_file_too(tmp_path):
    (tmp_path / "empty.tfrecord").touch()
    (tmp_path / "text.tfrecord").write_text("this is no record file, but a text that is long enough")
    found = inspect_records(tmp_path)
    assert [problem.found for problem in found.problems] == [
        "no record at all",
        "a damaged record, or no TFRecord file at all",
    ]
    assert "2 problems" in format_inspection(found)


def test_the_text_says_what_was_counted(folder):
    text = format_inspection(inspect_records(folder))
    for line in (
        f"{folder}: 4 records in 2 files, 2 problems",
        "maps      20 x 40 (4)",
        "images    20 x 40 (3), none (1)",
        "prompts   3 of 4",
        "words     11, 2 misaligned; 2 prompts have none",
        "overall            0.000   0.375   0.500   0.217",
        ["implausibility         0   0.5000", "mean share of pixels above 0)"][0],
        "misalignment           4   0.0000",
        "1 record with a filename that an earlier record has",
    ):
        assert line in text
    assert "record 1, image: found" in text


def test_long_lists_are_cut_and_say_so(tmp_path):
    for index in range(15):
        (tmp_path / f"{index:02d}.tfrecord").touch()
    assert format_inspection(inspect_records(tmp_path)).count("... and 3 more") == 2


def test_the_sheet_shows_image_maps_and_marked_words():
    blank = np.zeros((20, 40), np.uint8)
    quiet = make_record(heatmaps=dict.fromkeys(HEATMAPS, blank), labels=(1, 1, 1))
    sheets = {
        name: np.asarray(contact_sheet([record])).astype(int)
        for name, record in {
            "quiet": quiet,
            "implausible": make_record(labels=(1, 1, 1)),
            "word": make_record(heatmaps=dict.fromkeys(HEATMAPS, blank)),
        }.items()
    }
    height, width, _ = sheets["quiet"].shape
    changed = np.abs(sheets["implausible"] - sheets["quiet"]).sum(-1) > 0
    columns = np.flatnonzero(changed.any(axis=0))
    assert 266 <= columns.min() < columns.max() < 2 * 266 + 10  # the second tile alone
    changed = np.abs(sheets["word"] - sheets["quiet"]).sum(-1) > 0
    assert np.flatnonzero(changed.any(axis=0)).min() > 3 * 266  # the labels alone
    reds = sheets["word"][changed]
    assert (reds[:, 0] > reds[:, 1]).mean() > 0.5
    assert contact_sheet([quiet] * 3).size == (width, height + 2 * 266)


def test_records_without_image_or_prompt_are_drawn_too():
    plain = contact_sheet([make_record(image=None, prompt=None)])
    assert len(plain.getcolors(maxcolors=2**20)) > 10
    long = make_record(prompt="very " * 200 + "long", labels=(1,) * 201)
    assert contact_sheet([long]).size == plain.size


def test_the_sheet_is_written_whole_or_not_at_all(tmp_path):
    write_contact_sheet(tmp_path / "new" / "sheet.png", [make_record()])
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert (picture.format, picture.size) == ("PNG", contact_sheet([make_record()]).size)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    with pytest.raises(ValueError, match="no records to draw"):
        write_contact_sheet(tmp_path / "other" / "sheet.png", [])
    assert not (tmp_path / "other").exists()


def test_prompts_that_a_vocabulary_cannot_read_are_counted(tmp_path):
    prompts = ("a red circle", "a RED circle", "a 星 \u200b star", None)
    records = [make_record(f"train/{i}.png", prompt=prompt) for i, prompt in enumerate(prompts)]
    write_records(tmp_path / "dev.tfrecord", records)
    found = inspect_records(tmp_path, vocabulary=richhf.load_vocabulary("synthetic-tiny"))
    assert (found.unknown, found.unreadable_words) == (2, 3)
    assert {*found.unknown_characters} == {"R", "E", "D", "星"}
    line = next(line for line in format_inspection(found).splitlines() if line.startswith("unknown"))
    assert "2 of 3 prompts with characters that the vocabulary lacks" in line
    assert line.endswith("3 words of these alone")
    assert "unknown" not in format_inspection(inspect_records(tmp_path))
