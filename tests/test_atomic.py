import pathlib

import pytest

from richhf.atomic import atomic_path

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


def test_nothing_else_renames_files():
    files = [path for room in ("richhf", "launch", "tasks") for path in (ROOT / room).rglob("*.py")]
    renaming = [path.relative_to(ROOT) for path in files if "os.replace(" in path.read_text(encoding="utf-8")]
    assert renaming == [pathlib.Path("richhf/atomic.py")]
