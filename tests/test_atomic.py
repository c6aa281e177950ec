import os
import pathlib

import pytest

from richhf.atomic import atomic_folder, atomic_path

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_path(str(path)) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_things_as_they_were(tmp_path, before, error):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.txt"):
        pass
    assert (tmp_path / "file.txt").read_text() == "old"


def write_folder(path, text):
    with atomic_folder(path) as temporary:
        assert not list(temporary.iterdir())
        (temporary / "file.txt").write_text(text)


def test_a_folder_replaces_the_one_there(tmp_path):
    for text in ("old", "new"):
        write_folder(tmp_path / "folder", text)
    assert (tmp_path / "folder" / "file.txt").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [OSError("Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("works_again", [True, False])
def test_a_replacement_that_fails_halfway_keeps_what_was_there(tmp_path, monkeypatch, error, works_again):
    write_folder(tmp_path / "folder", "old")
    rename, calls = os.rename, []

    def failing(before, after):
        calls.append(before)
        if len(calls) == 2 or (len(calls) > 2 and not works_again):
            raise error
        rename(before, after)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(type(error)):
        write_folder(tmp_path / "folder", "new")
    found = {file.read_text(): file.parent for file in tmp_path.rglob("file.txt")}
    if works_again:
        assert found == {"old": tmp_path / "folder"}
        assert [one.name for one in tmp_path.iterdir()] == ["folder"]
    else:
        assert "old" in found


def test_folders_that_others_left_are_not_touched(tmp_path):
    left = [tmp_path / f".folder.{os.getpid()}.{end}" for end in ("tmp", "old")]
    for one in left:
        one.mkdir()
        (one / "only_copy.txt").write_text("whole")
    write_folder(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "file.txt").read_text() == "new"
    assert all((one / "only_copy.txt").is_file() for one in left)


def test_nothing_else_renames_files():
    files = [path for room in ("richhf", "launch", "tasks") for path in (ROOT / room).rglob("*.py")]
    renaming = [path.relative_to(ROOT) for path in files if "os.replace(" in path.read_text(encoding="utf-8")]
    assert renaming == [pathlib.Path("richhf/atomic.py")]
