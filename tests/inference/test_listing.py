import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from richhf.data import records
from richhf.data.examples import serialize_features, write_examples
from richhf.inference.inputs import Input, UnusableInput, describe_inputs
from richhf.inference.listing import find_inputs

IMAGE = records.encode_png(np.zeros((2, 3, 3), np.uint8))


def summary(inputs):
    return [(one.id, one.prompt, one.failure and one.failure.kind.value) for one in inputs]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    for name in ("b.png", "a.png", "x/a.jpg"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(IMAGE)
    return path


def test_a_folder_with_text_files(folder):
    (folder / "a.txt").write_text("\ufeffa\ncat\n", encoding="utf-8")
    (folder / "x/a.txt").write_bytes(b"caf\xe9")
    found = find_inputs(str(folder))
    assert [one.image for one in found] == ["a.png", "b.png", "x/a.jpg"]
    assert summary(found)[:2] == [("a.png", "a cat", None), ("b.png", "", "no prompt")]
    assert str(found[2].failure).startswith("unreadable prompt: found 'caf\\udce9'; expected UTF-8")
    assert find_inputs(str(folder), need_prompts=False)[2].failure is None
    assert found[0].read() == IMAGE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_files_are_decoded_as_tables_are(folder, encoding):
    (folder / "a.txt").write_text("a café\n", encoding=encoding)
    (folder / "b.txt").write_bytes("odd".encode("utf-16") + b"x")
    found = find_inputs(str(folder))
    assert summary(found)[:2] == [("a.png", "a café", None), ("b.png", found[1].prompt, "unreadable prompt")]


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.tsv", "prompts.jsonl"])
def test_a_folder_with_a_table(folder, tmp_path, name):
    """A path in the folder counts before a name that images in several folders have."""
    rows = [
        {"id": index, "image_name": image, "text": prompt}
        for index, (image, prompt) in enumerate({"x/a.jpg": "a dog", "a": "a, cat", "none": "a bird"}.items())
    ]
    if name.endswith("jsonl"):
        text = "\n".join(map(json.dumps, rows))
    else:
        comma = "," if name.endswith("csv") else "\t"
        text = "\n".join(
            comma.join(f'"{v}"' for v in values) for values in [rows[0], *map(dict.values, rows)]
        )
    (folder / name).write_text(text)
    expected = [("a.png", "a, cat", None), ("b.png", "", "no prompt"), ("x/a.jpg", "a dog", None)]
    assert summary(find_inputs(str(folder))) == expected
    (folder / name).rename(tmp_path / name)
    assert summary(find_inputs(str(folder), table=str(tmp_path / name))) == expected


def test_a_table_of_paths(folder, tmp_path):
    table = tmp_path / "list.csv"
    lines = ["key,image,prompt", f"1,{folder / 'a.png'},a cat", "2,pictures/b.png,", "3,pictures/c.png,a dog"]
    table.write_text("\n".join([*lines, ",pictures/b.png,a bird", "5,pictures/\0,a cow", "6,a.png"]))
    found = find_inputs(str(table))
    assert summary(found) == [
        ("1", "a cat", None),
        ("2", "", "no prompt"),
        ("3", "a dog", "no image"),
        ("pictures/b.png", "a bird", None),
        ("5", "a cow", "no image"),
        ("list.csv:7", "", "bad table line"),
    ]
    assert found[3].read() == IMAGE
    with pytest.raises(UnusableInput, match=r"pictures/c\.png.*No such file"):
        found[2].read()


def test_an_image_that_is_gone_or_a_folder_is_no_image(folder):
    (folder / "a.txt").write_text("a cat")
    for name in ("gone.png", "x"):
        with pytest.raises(UnusableInput, match=f"no image: '{name}'"):
            Input(name, name, "a cat", folder / name).read()


def test_records(tmp_path):
    file = tmp_path / "test-00000-of-00001.tfrecord"
    full = {"filename": b"test/1.png", "image": IMAGE, "prompt": b"a cat"}
    examples = [full, full | {"prompt": b" "}, {"filename": b"x", "prompt": b"a dog"}]
    examples += [full | {"image": 1.0}, {"image": IMAGE, "prompt": b"caf\xe9"}]
    write_examples(file, [serialize_features(values) for values in examples])
    expected = [
        ("test/1.png", "a cat", None),
        ("test/1.png", "", "no prompt"),
        ("x", "", "no image"),
        ("test/1.png", "", "malformed record"),
        (f"{file.name}:4", "", "malformed record"),
    ]
    for source in (file, tmp_path, tmp_path / "test-*"):
        found = find_inputs(str(source))
        assert summary(found) == expected
        assert found[1].image == f"{file.name}:1"
        assert Input("", "", "", file, found[1].start, found[1].size).read() == IMAGE
    file.write_bytes(file.read_bytes()[:-3])
    assert summary(find_inputs(str(file))) == [*expected[:4], (f"{file.name}:4", "", "damaged record file")]
    (tmp_path / "raw.tfrecord").write_bytes(b"hello")
    assert [one.failure.kind for one in find_inputs(str(tmp_path / "raw.tfrecord"))] == [
        "damaged record file"
    ]


def test_reading_a_record_does_not_parse_its_labels(tmp_path):
    """Nobody has labelled what is to be predicted, and half a label is no reason to do without."""
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        values = {"image": IMAGE, "prompt": b"a cat", "overall_score": 9.0}
        writer.write(serialize_features(values))
    (one,) = find_inputs(str(tmp_path / "a.tfrecord"))
    assert one.read() == IMAGE


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ({}, "pictues", r"does not exist\. Did you mean 'pictures'\? Expected a folder of images, a table"),
        ({}, "pictures/*.tfrecords", "nothing matches"),
        ({"notes.md": ""}, "notes.md", "is a file of an unknown kind"),
        ({}, "pictures", r"holds images but no prompts.*or a\.txt beside a\.png"),
        ({"pictures/1.csv": "", "pictures/2.csv": ""}, "pictures", r"1\.csv, 2\.csv: name the one.*as TABLE"),
        ({"pictures/1.tfrecord": ""}, "pictures", r"holds images \(a\.png\) and record files"),
        ({"e/readme": ""}, "e", "holds nothing to look at: expected images"),
        (
            {"l.csv": "image,promt\na,b\n"},
            "l.csv",
            r"looks like the prompt.*there are: image, promt.*the nearest is 'promt'; name it with PROMPT",
        ),
        ({"l.csv": "prompt,picked\na,b\n"}, "l.csv", r"looks like the image.*name it with IMAGE_COLUMN"),
        ({"l.csv": "image,prompt\n"}, "l.csv", "holds no input"),
        (
            {"pictures/l.csv": "id,prompt\n7,a cat\n"},
            "pictures",
            r"no line of pictures/l\.csv names an image of pictures: found '7' as id, but images",
        ),
        ({"l.csv": ""}, "l.csv", "has no columns named in its first line"),
    ],
)
def test_what_cannot_be_listed(folder, tmp_path, monkeypatch, files, source, message):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        find_inputs(source)


def test_columns_that_are_given(folder, tmp_path):
    (tmp_path / "l.csv").write_text("n,promt,picture\n7,a cat,pictures/a.png\n")
    given = {"id_column": "n", "prompt_column": "promt", "image_column": "picture"}
    assert summary(find_inputs(str(tmp_path / "l.csv"), **given)) == [("7", "a cat", None)]
    for name, near in (("prompt_column", "promt"), ("image_column", "picture"), ("id_column", "n")):
        with pytest.raises(ValueError, match=f"has no column '{near}s'.*did you mean '{near}'"):
            find_inputs(str(tmp_path / "l.csv"), **given | {name: f"{near}s"})


def test_a_table_of_prompts_belongs_to_a_folder(folder, tmp_path):
    (tmp_path / "l.csv").write_text("image,prompt\npictures/a.png,a cat\n")
    with pytest.raises(ValueError, match=r"TABLE .* has the prompts of a folder of images, but INPUT is"):
        find_inputs(str(tmp_path / "l.csv"), table=str(tmp_path / "l.csv"))


def test_the_fingerprint_tells_inputs_apart(folder):
    def fingerprint():
        return describe_inputs(find_inputs(str(folder)))["fingerprint"]

    (folder / "a.txt").write_text("a cat")
    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    (folder / "a.txt").write_text("a dog")
    seen.append(fingerprint())
    Image.new("RGB", (50, 50)).save(folder / "a.png")
    seen.append(fingerprint())
    (folder / "b.png").rename(folder / "c.png")
    seen.append(fingerprint())
    assert len({*seen}) == 4


@pytest.mark.parametrize("name", ["pictures/a.png", "a.tfrecord"])
def test_a_file_that_was_changed_to_the_same_size_is_another(folder, tmp_path, name):
    (folder / "a.txt").write_text("a cat")
    write_examples(str(tmp_path / "a.tfrecord"), [serialize_features({"image": IMAGE, "prompt": b"a cat"})])
    source = str(folder if name.endswith("png") else tmp_path / name)
    before = describe_inputs(find_inputs(source))
    os.utime(tmp_path / name, ns=(0, 2_000_000_000_123_456_789))
    after = describe_inputs(find_inputs(source))
    assert before["fingerprint"] != after["fingerprint"]
    assert after["last_change"] == "2033-05-18T03:33:20+00:00"


def test_lines_of_no_use_are_counted(folder):
    lines = ["image,prompt", "a.png,one", "a.png,", "a.png,one", "none.png,three", "b.png,four"]
    (folder / "prompts.csv").write_text("\n".join(lines))
    notes = []
    assert summary(find_inputs(str(folder), note=notes.append))[0] == ("a.png", "one", None)
    assert "prompts.csv: CSV separated by commas, UTF-8; image in column 'image', prompt in" in notes[0]
    assert re.search(r"prompts.csv: 1 of 5 rows name no image of .*; the first is line 5", notes[1])
    assert "another prompt for an image that has one: 1 row, the first in line 3" in notes[2]
    assert len(notes) == 3


def test_an_address_is_no_path(tmp_path):
    (tmp_path / "table.csv").write_text("image,prompt\nhttps://example.org/a.png,a cat\n")
    (found,) = find_inputs(str(tmp_path / "table.csv"))
    assert "is an address; download the images first" in found.failure.detail


def test_a_bare_folder_where_no_prompt_is_needed(folder):
    images = ["a.png", "b.png", "x/a.jpg"]
    assert summary(find_inputs(str(folder), need_prompts=False)) == [(name, "", None) for name in images]
