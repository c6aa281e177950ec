"""Rows of tables as inputs: none vanishes, and no prompt is cut or joined."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from richhf.data.prompts import as_one_line
from richhf.data.readers import read_text_table
from richhf.inference.listing import find_inputs

NAMES = ("a.png", "b.png", "imgs/c.png")
ODD = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text("ab \"',;\t|\r\n\\\u2028", max_size=12),
)
RAW = st.lists(
    st.sampled_from(["a cat", "on a", "2 b", " ", ",", '"', '""', "\n"]), min_size=1, max_size=7
).map("".join)


def make_images(folder):
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "images")


@pytest.fixture(scope="module")
def module_images():
    with tempfile.TemporaryDirectory() as folder:
        yield make_images(Path(folder))


def listed(folder, content, name="t.csv", **settings):
    """(id or image, prompt, failure) of each input of a table, and the notes."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    notes = []
    found = find_inputs(str(folder / name), note=notes.append, **settings)
    return [(one.image or one.id, one.prompt, one.failure and str(one.failure)) for one in found], notes


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from([*NAMES, "gone.png", ""]), ODD), min_size=1, max_size=5))
def test_each_row_is_an_input_or_a_listed_error(module_images, rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("image", "prompt"), *rows])
    found, notes = listed(module_images, file.getvalue())
    assert len(found) == len(rows)
    assert f"; {len(rows)} row" in notes[0]
    for (name, prompt), (image, text, failure) in zip(rows, found, strict=True):
        if name in NAMES and prompt.strip() and "\0" not in prompt:
            assert (image, text, failure) == (name, as_one_line(prompt), None)
        else:
            assert ", line " in failure


@settings(deadline=None)
@given(prompts=st.lists(RAW, min_size=3, max_size=3), delimiter=st.sampled_from(",\t"))
@example(["a cat, a dog", "x", "y"], ",")
@example(['"hello\n', '12"', "y"], ",")
@example(["a cat\non", "x", "y"], ",")
@example(["a cat\non,2", "x", "y"], ",")
@example(['"a cat\n2"', '"', "y"], "\t")
def test_text_that_was_never_quoted_is_not_cut_and_no_image_vanishes(module_images, prompts, delimiter):
    """A prompt is read whole, or quoted as CSV has it, or its row is listed, or the table is refused."""
    prompts = [prompt.replace(",", delimiter) for prompt in prompts]
    pairs = list(zip(NAMES, prompts, strict=True))
    lines = [line for prompt in prompts for line in prompt.split("\n")[1:]]
    if any(line.strip(' "').startswith(delimiter) for line in lines):
        return  # a row without an image: it is listed, and the row before it may be whole
    content = "".join(f"{name}{delimiter}{prompt}\n" for name, prompt in [("image", "prompt"), *pairs])
    try:
        found, _ = listed(module_images, content, "t.tsv" if delimiter == "\t" else "t.csv")
    except ValueError as error:
        assert ", line " in str(error)  # noqa: PT017
        return
    for name, prompt in pairs:
        at = content[: content.index(name + delimiter)].count("\n") + 1
        of_image = [one for one in found if one[0] == name or one[0].endswith(f":{at}")]
        assert len(of_image) == 1
        _, text, failure = of_image[0]
        quoted = prompt.strip(" \n")
        unquoted = quoted[1:-1].replace('""', '"')
        readings = {prompt.strip(), unquoted.strip() if quoted[:1] == quoted[-1:] == '"' else ""}
        assert (failure and f", line {at}:" in failure) or text.strip() in map(as_one_line, readings)


def test_a_row_that_may_go_on_in_the_next_line_is_listed(images):
    lines = [
        "image,prompt",
        "a.png,a cat",
        "on a mat",
        "b.png,a dog",
        "on a mat, asleep",
        "imgs/c.png,a bird",
    ]
    found, notes = listed(images, "\n".join(lines))
    assert [(name, text) for name, text, failure in found if failure is None] == [("imgs/c.png", "a bird")]
    assert "t.csv, line 2: the prompt 'a cat' may go on in line 3, 'on a mat'" in found[0][2]
    assert "line 4: the prompt 'a dog' may go on in line 5, 'on a mat  asleep'" in found[2][2]
    assert notes[0].endswith("; 5 rows, 3 of them faulty")
    found, _ = listed(images, "prompt,image\na cat\non a mat,a.png\na dog,b.png")
    assert "the prompt 'on a mat' may begin in line 2, 'a cat'" in found[1][2]
    assert found[2] == ("b.png", "a dog", None)
    found, _ = listed(images, "image,prompt\na.png,a cat\nb.png\nimgs/c.png,a bird")
    assert [failure is None for _, _, failure in found] == [True, False, True]


def test_a_quote_that_is_closed_rows_below_is_refused(images):
    for content in (
        'image,prompt\na.png,"hello\nb.png,a 12" \nimgs/c.png,x',
        'prompt,image\n"hello,a.png\na 12",b.png\n',
        'id,prompt,image\n1,"hello,gone.jpg\n2,a 12",b.png\n',
    ):
        with pytest.raises(ValueError, match=r"t.csv, line 2: a quoted cell .* goes on over the row of '"):
            listed(images, content)
    found, _ = listed(images, 'image,prompt\na.png,"a cat\non a mat, asleep"\nb.png,x')
    assert found[0] == ("a.png", "a cat on a mat, asleep", None)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (
            "image_id,file_name,caption\n1,a.png,x\n2,b.png,y\n",
            "image in column 'file_name', prompt in column 'caption'",
        ),
        ("image,path,prompt\nA,a.png,x\nB,b.png,y\n", "image in column 'path', prompt in column 'prompt'"),
        (
            "id,Image,TEXT\n7,a.png,x\n8,b.png,y\n",
            "image in column 'Image', prompt in column 'TEXT', id in column 'id'",
        ),
        ("path,image,prompt\na.png,gone.png,x\nb.png,b.png,y\n", "image in column 'path'"),
    ],
)
def test_the_column_that_names_files_that_exist_is_taken_and_said(images, content, columns):
    found, notes = listed(images, content)
    assert [(name, text) for name, text, _ in found] == [("a.png", "x"), ("b.png", "y")]
    assert f"t.csv: CSV separated by commas, UTF-8; {columns}" in notes[0]
    assert len(notes) == 1
    table = images / "t.csv"
    notes = []
    inputs = find_inputs(str(images), table=str(table), note=notes.append)
    assert [one.prompt for one in inputs if one.failure is None] == ["x", "y"]
    assert columns.split(", id")[0] in notes[0]


@pytest.mark.parametrize(
    "name", ["imgs\\c.png", ".\\imgs\\c.png", "./imgs/c.png", " imgs/c.png", "imgs/c.png ", "././imgs/c.png"]
)
def test_names_as_other_systems_write_them(images, name):
    content = f"image\tprompt\n{name}\tx\n"
    (path, text, failure), *_ = listed(images, content, "t.tsv")[0]
    assert (images / path).is_file()
    assert (text, failure) == ("x", None)
    inputs = {one.image: one.prompt for one in find_inputs(str(images))}
    assert inputs == {"a.png": "", "b.png": "", "imgs/c.png": "x"}


def test_a_name_is_first_taken_as_it_stands(images):
    for name in ("imgs\\c.png", " a.png"):
        (images / name).write_bytes(b"")
    found, _ = listed(images, "image,prompt\nimgs\\c.png,x\n a.png,y\n")
    assert [one[0] for one in found] == ["imgs\\c.png", " a.png"]
    (images / "e\u0301.png").write_bytes(b"")
    assert listed(images, "image,prompt\n\u00e9.png,x\n")[0] == [("e\u0301.png", "x", None)]


def test_a_path_on_another_computer_says_so(images):
    ((_, _, failure),) = listed(images, "image,prompt\nC:\\pictures\\a.png,x\n")[0]
    assert "line 2: 'C:\\\\pictures\\\\a.png' is a path on another computer; expected one relative" in failure


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"image": "a.png", "n": 1}', "no prompt: t.jsonl, line 1: found None"),
        ('{"image": "a.png", "prompt": null}', "no prompt: t.jsonl, line 1: found None"),
        ('{"image": "a.png", "prompt": 12}', "no prompt: t.jsonl, line 1: found 12"),
        ('{"image": "a.png", "prompt": NaN}', "no prompt: t.jsonl, line 1: found nan"),
        ('{"image": "a.png", "prompt": ["x"]}', r"no prompt: t.jsonl, line 1: found ['x']"),
        ('{"image": "a.png", "prompt": "\\ud800"}', "unreadable prompt: t.jsonl, line 1: found '\\ud800'"),
        ('{"image": "a.png", "prompt": "a\\u0000"}', "unreadable prompt: t.jsonl, line 1: found a null"),
        ('{"image": true, "prompt": "x"}', "bad table line: t.jsonl, line 1: found True as image"),
        ('{"prompt": "x"}', "bad table line: t.jsonl, line 1: found None as image"),
        ("[1]", "bad table line: t.jsonl, line 1: found '[1]'; expected a JSON object"),
    ],
)
def test_a_line_of_json_fails_alone(images, content, kind):
    found, _ = listed(images, f'{content}\n{{"image": "b.png", "prompt": "x"}}', "t.jsonl")
    assert found[0][2].startswith(kind)
    assert found[1:] == [("b.png", "x", None)]


def test_a_folder_lists_the_rows_of_its_table_that_fail(images):
    lines = ["file,name,prompt", "x,a.png,one, two", "x,b.png", "x,imgs/c.png,three", "junk", ",,"]
    lines += ["x,imgs/c.png,four, five", "x,imgs/c.png,six", "x,gone.png,y", "x,imgs/c.png,"]
    (images / "t.csv").write_text("\n".join(lines))
    notes = []
    inputs = find_inputs(str(images), image_column="name", note=notes.append)
    failures = {one.image or one.id: one.failure and str(one.failure) for one in inputs}
    assert failures["a.png"].startswith("bad table line: t.csv, line 2: found 4 cells, 'x,a.png,one, two'")
    assert failures["b.png"].startswith("bad table line: t.csv, line 3: found 2 cells")
    assert failures["t.csv:5"].startswith("bad table line: t.csv, line 5: found 1 cell, 'junk'; expected 3")
    assert failures["t.csv:6"].startswith(
        "bad table line: t.csv, line 6: found '' as name; expected the name"
    )
    assert failures["t.csv:4"].startswith(
        "bad table line: t.csv, line 4: the prompt 'three' may go on in line 5"
    )
    assert "line 7: found 4 cells" in failures["t.csv:7"]
    assert inputs[2].prompt == "six"
    assert failures["imgs/c.png"] is None
    assert len(inputs) == 3 + 4
    assert notes[1].endswith(f"1 of 9 rows name no image of {images}; the first is line 9")
    assert "1 row, the first in line 10" in notes[2]
    bare = find_inputs(str(images), image_column="name", need_prompts=False)
    assert [one.image for one in bare if one.failure is None] == [*NAMES]


def test_a_row_with_a_prompt_counts_before_one_without(images):
    (images / "t.csv").write_text("image,prompt\na.png,\na.png,x\na.png, x\nb.png,z")
    assert [one.prompt for one in find_inputs(str(images))] == ["x", "z", ""]


AMBIGUOUS = "lines 2 and 3: found different prompts for "


@pytest.mark.parametrize(
    ("names", "rows", "expected"),
    [
        ("a.png imgs/a.png", "train/a.png,cat val/a.png,dog", [AMBIGUOUS, "no prompt"]),
        ("a.png imgs/a.png", "val/a.png,dog", ["dog", "no prompt"]),
        ("a.png imgs/a.png", "a.png,cat val/a.png,dog", ["cat", "no prompt"]),
        ("a.png imgs/a.png", "data/imgs/a.png,cat", ["no prompt", "cat"]),
        ("a.png imgs/a.png", "data/imgs/a.png,cat a,dog", ["dog", "cat"]),
        ("a.png imgs/a.png", "imgs/a,cat a.png,dog", ["dog", "cat"]),
        ("a.png imgs/a.png", "C:\\x\\imgs\\a.png,cat /y/a.png,dog", ["dog", "cat"]),
        ("train/a.png val/a.png", "a.png,cat", ["cat", "cat"]),
        ("train/a.png val/a.png", "a.png,cat a.png,cat", ["cat", "cat"]),
        ("train/a.png val/a.png", "a.png,cat a,dog", ["cat", "cat"]),
        ("train/a.png val/a.png", "a.png,cat train/a.png,dog", ["dog", "cat"]),
        ("train/a.png val/a.png", "strain/a.png,cat x/val/a.png,dog", ["no prompt", "dog"]),
        ("x/train/a.png y/train/a.png", "train/a.png,cat y/train/a,dog", ["cat", "dog"]),
        ("a.png", "a.jpg,cat a.webp,dog", [AMBIGUOUS]),
        ("a.png", "a.png,cat a.png,dog", [AMBIGUOUS]),
        ("a.png", "other/a.jpg,cat pictures/a.jpg,dog", ["dog"]),
        ("sub/a.png", "a.png,cat,x a.png,dog", ["dog"]),
        ("sub/a.png", "sub/a.png,cat,x a.png,dog", ["bad table line"]),
    ],
)
def test_an_image_has_the_prompt_of_the_row_that_shares_the_most_of_its_path(tmp_path, names, rows, expected):
    root = tmp_path / "pictures"
    for name in ("zz.png", *names.split()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / "t.csv").write_text("\n".join(["image,prompt", *rows.split(), "zz.png,z", "gone/b.png,y"]))
    notes = []
    inputs = {one.image: one for one in find_inputs(str(root), note=notes.append)}
    for name, text in zip(names.split(), expected, strict=True):
        if text in ("cat", "dog"):
            assert (inputs[name].prompt, inputs[name].failure) == (text, None)
        else:
            assert text in str(inputs[name].failure)
    assert any("name no image of" in note for note in notes)


@pytest.mark.parametrize("name", ["img_path", "path", "filepath", "file", "image_path", "FileName", "shown"])
def test_a_column_of_paths_counts_before_uids(images, name):
    found, notes = listed(images, f"uid,{name},prompt\n1,a.png,x\n2,b.png,y\n")
    assert [text for _, text, failure in found if failure is None] == ["x", "y"]
    assert f"image in column {name!r}, prompt in column 'prompt', id in column 'uid'" in notes[0]
    (images / "1.png").write_bytes(b"")
    (images / "2.png").write_bytes(b"")
    inputs = {one.image: one.prompt for one in find_inputs(str(images))}
    assert (inputs["a.png"], inputs["b.png"], inputs["1.png"]) == ("x", "y", "")


def test_an_image_column_counts_before_another_that_names_more_files(images):
    found, _ = listed(images, "image,mask,prompt\na.png,b.png,x\ngone.png,a.png,y\n")
    assert [(name, failure is None) for name, _, failure in found] == [("a.png", True), ("gone.png", False)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "a.png,a cat\nb.png,a dog\n",
            "the first line holds 'a.png', so it is a row and not the names",
        ),
        (
            "t.tsv",
            "image,prompt\na.png,x\n",
            r"read as TSV, UTF-8, has one column, 'image,prompt'; expected an",
        ),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    ],
)
@pytest.mark.parametrize("of_folder", [False, True])
def test_what_is_no_table_of_prompts(images, name, content, message, of_folder):
    (images / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        find_inputs(str(images if of_folder else images / name))


def test_lines_are_those_of_the_file(images):
    content = '\nimage,prompt\r\na.png,"two\r\nlines"\n\n\rb.png\nimgs/c.png,\n'
    (images / "t.csv").write_bytes(content.encode())
    assert [row.line for row in read_text_table(images / "t.csv").rows] == [3, 7, 8]
