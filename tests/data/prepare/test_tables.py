import errno
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from richhf.data.prepare import arrow
from richhf.data.prepare.problems import Problem, raise_problem
from richhf.data.prepare.sources import open_source


def read_all(source, wanted):
    found = []
    for piece in source.plan(wanted, raise_problem):
        found += source.read(piece, wanted)
    return found


def overwrite(path: pathlib.Path, group: int, column: str) -> int:
    """Destroys the bytes of one column of one row group; returns how many."""
    chunks = pq.read_metadata(path).row_group(group)
    (chunk,) = (
        chunks.column(number)
        for number in range(chunks.num_columns)
        if chunks.column(number).path_in_schema == column
    )
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * chunk.total_compressed_size)
    return chunk.total_compressed_size


@pytest.fixture
def rows(world):
    """Nine rows; a wanted uid in the second of three row groups, at the first position."""
    image = world.images[world.uids[0]]
    rows = [world.pickapic_row((f"a{n}", image), (f"b{n}", image), f"caption {n}") for n in range(9)]
    rows[4]["image_0_uid"] = "wanted"
    return rows


def write(world, folder, rows):
    folder.mkdir()
    path = folder / "train-00000-of-00001.parquet"
    schema = pa.Table.from_pylist(rows).schema
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=3)
    return path


def test_only_what_matches_is_read(world, rows, tmp_path):
    """The bytes of every image column but the one that matches are destroyed, and nobody notices."""
    path = write(world, tmp_path / "source", rows)
    lost = [overwrite(path, group, column) for group in (0, 2) for column in ("jpg_0", "jpg_1", "caption")]
    lost.append(overwrite(path, 1, "jpg_1"))
    assert min(lost) > 0
    (item,) = read_all(open_source(path.parent), {"wanted"})
    assert (item.uid, item.file, item.index) == ("wanted", path.name, 4)
    assert (item.image, item.prompt) == (rows[4]["jpg_0"], "caption 4")


def test_a_row_group_that_is_damaged_is_named_by_its_first_row_and_the_next_is_read(world, rows, tmp_path):
    rows[8]["image_1_uid"] = "other"
    path = write(world, tmp_path / "source", rows)
    overwrite(path, 1, "jpg_0")
    problem, item = read_all(open_source(path.parent), {"wanted", "other"})
    assert isinstance(problem, Problem)
    assert (problem.kind.value, problem.file, problem.index) == ("unreadable file", path.name, 3)
    assert (item.uid, item.index, item.prompt) == ("other", 8, "caption 8")


@pytest.mark.parametrize("form", ["pickapic", "mirror", "saved", "folder"])
def test_what_the_system_refuses_is_no_damage(world, tmp_path, no_more_files, form):
    """No file is taken for damaged because too many are open, or because it is gone."""
    write = {"mirror": world.write_parquet_mirror, "saved": world.write_saved_mirror}
    write |= {"pickapic": world.write_pickapic, "folder": world.write_images}
    source = open_source(write[form](tmp_path / "source"))
    wanted, noted = {*world.uids}, []
    pieces = source.plan(wanted, noted.append)
    calls = [lambda: source.plan(wanted, noted.append), lambda: noted.extend(source.read(pieces[0], wanted))]
    if form != "folder":
        calls += [source.example, lambda: open_source(tmp_path / "source", name="mirror")]
    for call in calls:
        with no_more_files(), pytest.raises(OSError, match="Too many open files") as caught:
            call()
        assert caught.value.errno == errno.EMFILE
    for name in source.names:
        (source.root / name).unlink()
    with pytest.raises(FileNotFoundError):
        source.plan(wanted, noted.append)
    with pytest.raises(FileNotFoundError):
        noted.extend(source.read(pieces[0], wanted))
    assert noted == []


def test_a_row_group_is_never_held_as_a_whole(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.bytes(1 << 20) for _ in range(48)]
    names = [f"uid{n}" for n in range(48)]
    path = tmp_path / "train.parquet"
    columns = {"uid": names, "image": pa.array(images, pa.binary()), "caption": names}
    pq.write_table(pa.table(columns), path, row_group_size=48, write_batch_size=2)
    del images
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        items = [item.index for item in read_all(open_source(tmp_path), {"uid3", "uid47"})]
    finally:
        pa.set_memory_pool(before)
    assert items == [3, 47]
    assert pool.max_memory() < 32 << 20


def test_large_files_are_cut_into_pieces_of_whole_row_groups(world, rows, tmp_path, monkeypatch):
    path = write(world, tmp_path / "source", rows)
    source = open_source(path.parent)
    assert [(piece.start, piece.stop) for piece in source.plan({"wanted"}, raise_problem)] == [(0, 3)]
    size = pq.read_metadata(path).row_group(0).total_byte_size
    monkeypatch.setattr(arrow, "PIECE", round(2.5 * size))
    pieces = source.plan({"wanted"}, raise_problem)
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 2), (2, 3)]
    assert len({piece.key for piece in pieces}) == 2
    assert [len(list(source.read(piece, {"wanted"}))) for piece in pieces] == [1, 0]


def mirror(folder, rows, schema=None):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part.parquet")
    return open_source(folder)


def test_images_are_bytes_structs_or_paths_and_uids_names_or_paths(world, tmp_path):
    image, (uid, other) = world.images[world.uids[0]], world.uids[:2]
    expected = [(uid, image, "a cat")]

    def found(source):
        return [(item.uid, item.image, item.prompt) for item in read_all(source, {uid, other})]

    (tmp_path / "paths" / "images").mkdir(parents=True)
    (tmp_path / "paths" / "images" / "1.png").write_bytes(image)
    path = {"bytes": None, "path": "images/1.png"}
    for folder, row in {
        "bytes": {"uid": uid, "jpg": image, "caption": "a cat"},
        "struct": {"image_id": f"train/{uid}.png", "image": {"bytes": image, "path": "x"}, "text": "a cat"},
        "only": {"image": {"bytes": image, "path": f"{uid}.jpg"}, "Prompt": "a cat"},
        "paths": {"uid": uid, "image": path, "prompt": "a cat"},
    }.items():
        assert found(mirror(tmp_path / folder, [row])) == expected, folder
    row = {"uid": uid, "image": "images/1.png", "prompt": "a cat"}
    assert found(mirror(tmp_path / "paths", [row])) == expected
    for nowhere in ("images/2.png", "images", "images/1.png/2.png", "a" * 5000, "a\0b"):
        (item,) = read_all(mirror(tmp_path / "paths", [{**row, "image": nowhere}]), {uid})
        assert item.image is None
        assert f"{nowhere!r}, where no file is" in item.detail


def test_arrow_files_of_both_kinds_are_read_and_caches_left_out(world, tmp_path):
    table = pa.Table.from_pylist(world.mirror_rows("train"))
    for name, opened in (
        ("data-00000-of-00002", pa.ipc.new_stream),
        ("data-00001-of-00002", pa.ipc.new_file),
    ):
        with opened(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    (tmp_path / "cache-0123.arrow").write_bytes(b"left over")
    source = open_source(tmp_path)
    assert len(source.names) == 2
    items = read_all(source, {"train-uid-0005"})
    assert [(item.file, item.index) for item in items] == [(name, 5) for name in source.names]


def test_a_caption_that_is_no_text_is_no_caption(world, tmp_path):
    rows = [
        {"uid": "a", "image": b"x", "prompt": b"caf\xe9"},
        {"uid": "b", "image": b"x", "prompt": b"caf\xc3\xa9"},
    ]
    items = read_all(mirror(tmp_path / "mirror", rows), {"a", "b"})
    assert [item.prompt for item in items] == [None, "café"]


def test_a_mirror_of_other_columns_says_which_there_are(tmp_path):
    row = {"uid": "a", "picture_bytes": b"x", "caption": "a cat"}
    with pytest.raises(
        ValueError, match=r"no column of .*part.parquet looks like the image \(there are: uid, pic"
    ):
        mirror(tmp_path / "mirror", [row])
    from richhf.data.prepare.columns import Overrides

    overrides = Overrides(image="picture_byts")
    with pytest.raises(
        ValueError, match=r"no column 'picture_byts'; did you mean 'picture_bytes'\? \(there are"
    ):
        open_source(tmp_path / "mirror", overrides=overrides)
    source = open_source(tmp_path / "mirror", overrides=Overrides(image="picture_bytes"))
    assert [item.image for item in read_all(source, {"a"})] == [b"x"]
    with pytest.raises(
        ValueError, match=r"is not of Pick-a-Pic: it has no column image_0_uid, .*--source mirror"
    ):
        open_source(tmp_path / "mirror", name="pickapic")
