import pytest

from richhf.data.prepare.columns import Overrides
from richhf.data.prepare.files import list_files
from richhf.data.prepare.folder import Folder
from richhf.data.prepare.problems import raise_problem
from richhf.data.prepare.sources import open_source


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.JPG", "c.webp"):
        (tmp_path / "images" / name).write_bytes(name.encode())
    return tmp_path / "images"


def read_all(source, wanted, note=raise_problem):
    return [
        (item.uid, item.file, item.image, item.prompt)
        for piece in source.plan(wanted, note)
        for item in source.read(piece, wanted)
    ]


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("t.csv", 'uid,prompt\na,one cat\nb,"two, cats"\n'),
        ("t.csv", '\ufeffPrompt,Filename,other\r\none cat,train/a.png,1\r\n"two, cats",b.jpg,2\r\n'),
        ("t.tsv", "image_id\tcaption\na\tone cat\nb\ttwo, cats\n"),
        ("t.jsonl", '{"uid": "a", "text": "one cat"}\n\n{"text": "two, cats", "uid": "b"}\n'),
        ("t.ndjson", '\ufeff{"id": "a", "prompt": "one cat"}\n{"id": "b", "prompt": "two, cats"}'),
    ],
)
def test_tables_of_all_kinds(images, table, content):
    (images / table).write_text(content, encoding="utf-8", newline="")
    source = open_source(images)
    assert isinstance(source, Folder)
    assert read_all(source, {"a", "b"}) == [
        ("a", "a.png", b"a.png", "one cat"),
        ("b", "b.JPG", b"b.JPG", "two, cats"),
    ]


def test_lines_without_uid_or_prompt_and_lines_that_disagree_are_noted(images):
    lines = [
        '{"uid": "a", "prompt": "one"}',
        "{broken",
        '{"uid": "a", "prompt": "other"}',
        '{"uid": "b"}',
        "[1]",
    ]
    (images / "t.jsonl").write_text("\n".join([*lines, '{"uid": "a", "prompt": "one"}']))
    noted = []
    found = read_all(open_source(images), {"a", "b"}, noted.append)
    assert found == [("a", "a.png", b"a.png", "one"), ("b", "b.JPG", b"b.JPG", None)]
    assert [(one.kind.value, one.file, one.index) for one in noted] == [
        ("bad table line", "t.jsonl", index) for index in (2, 3, 4, 5)
    ]


def test_the_table_is_the_only_one_or_named(images, tmp_path):
    with pytest.raises(ValueError, match=r"holds no table; expected one of uid and prompt \(.csv, .*--table"):
        open_source(images)
    (images / "one.csv").write_text("uid,prompt\na,one\n")
    (images / "two.csv").write_text("name,words\na,two\n")
    with pytest.raises(
        ValueError, match=r"holds the tables one.csv, two.csv; expected one of uid and prompt"
    ):
        open_source(images)
    assert read_all(open_source(images, table=images / "one.csv"), {"a"})[0][3] == "one"
    with pytest.raises(
        ValueError, match=r"two.csv looks like the uid \(there are: name, words\).*--uid-column"
    ):
        open_source(images, table=images / "two.csv")
    columns = Overrides(uid="name", prompt="words")
    assert read_all(open_source(images, table=images / "two.csv", overrides=columns), {"a"})[0][3] == "two"
    with pytest.raises(ValueError, match=r"two.csv has no column 'naem'; did you mean 'name'\?"):
        open_source(images, table=images / "two.csv", overrides=Overrides(uid="naem"))
    with pytest.raises(FileNotFoundError, match=r"three.csv is not a file"):
        open_source(images, table=images / "three.csv")
    with pytest.raises(ValueError, match="--image-column is for tables that hold images"):
        open_source(images, table=images / "one.csv", overrides=Overrides(image="x"))
    (images / "empty.csv").touch()
    with pytest.raises(ValueError, match="has no columns named in its first line"):
        open_source(images, table=images / "empty.csv")


def test_folders_that_hold_nothing_usable_say_what_was_expected(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere does not exist; expected a folder of images, parquet"
    ):
        open_source(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"no parquet, Arrow or image file; expected Pick-a-Pic v1, a mirror"
    ):
        open_source(tmp_path)
    with pytest.raises(ValueError, match=r"no parquet or Arrow file; expected Pick-a-Pic v1's parquet files"):
        open_source(tmp_path, name="pickapic")
    with pytest.raises(ValueError, match=r"holds no image \(.avif, .bmp, .*\.webp\)"):
        open_source(tmp_path, name="folder")
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of the 1 tables in .* can be read; a.parquet: "):
        open_source(tmp_path)
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"a.parquet is a pointer of Git LFS"):
        open_source(tmp_path)


def test_links_to_folders_are_followed_but_not_in_circles(images, tmp_path):
    elsewhere = tmp_path / "disk2"
    elsewhere.mkdir()
    (elsewhere / "d.png").write_bytes(b"")
    (images / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(images)
    assert list_files(images, {".png"}) == ["a.png", "more/d.png"]
    with pytest.raises(FileNotFoundError, match=rf"a.png is a file; expected its folder, {images}"):
        list_files(images / "a.png", {".png"})
