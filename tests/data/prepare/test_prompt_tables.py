"""Tables of prompts beside a folder of images: no record gets a cut prompt, and bad rows are listed."""

import pytest

from richhf.data.prepare import BadInput, format_report, prepare
from richhf.data.records import read_records

RUN = {"workers": 1, "shards": 1}


@pytest.fixture
def folder(world, tmp_path):
    folder = world.write_images(tmp_path / "images")
    (folder / "prompts.csv").unlink()
    return folder


def test_rows_with_a_fault_make_no_record(world, labels, folder, tmp_path):
    first, second, third, *rest = world.uids
    lines = [
        " image_id, file_name, caption",
        f"1, {first}.png, a yellow cat, number 0 é",
        f'2, train\\{second}.png, "a yellow cat, number 1 é"',
        f"3, {third}.png, a yellow cat",
        "number 2 é",
        *(f'9, {uid}.png, "{world.prompts[uid]}"' for uid in rest),
    ]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-16")
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    written = [
        record.prompt
        for split in world.splits
        for record in read_records(next((tmp_path / "out").glob(f"{split}-*")))
    ]
    assert written == [world.prompts[uid] for uid in (second, *rest)]
    table = [problem for problem in info["problems"] if problem["kind"] == "bad table line"]
    assert [(one["index"], one["uid"]) for one in table] == [(2, first), (4, third), (5, "")]
    report = format_report(info)
    assert (
        "table     t.csv: CSV separated by commas, UTF-16 LE; uid in column 'file_name' and prompt in column "
        "'caption'" in report
    )
    assert f"t.csv, line 2 (uid {first}): found 4 cells" in report
    assert f"t.csv, line 4 (uid {third}): the prompt 'a yellow cat' may go on in line 5" in report
    with pytest.raises(BadInput, match=r"t.csv, line 2 \(uid .*\): bad table line: found 4 cells"):
        prepare(folder, tmp_path / "strict", richhf=labels, strict=True, **RUN)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", 'uid,prompt\n{0},"a yellow cat\n{1},b\n', "line 2: the quote at .* is never closed"),
        (
            "t.csv",
            'uid,prompt\n{0},"a cat\n{1},12"\n',
            "line 2: a quoted cell .* goes on over the row of '{1}'",
        ),
        ("t.csv", "uid,prompt,Prompt\n{0},a,b\n", "2 columns of one name: 'prompt' and 'Prompt'"),
        ("t.csv", "uid,prompt\n{0},caf\u00e9\n", "line 2: found the byte 0xe9, which is not UTF-8"),
        ("t.csv", "{0}.png,a cat\n", "the first line holds '.*', so it is a row"),
        ("t.tsv", "uid,prompt\n{0},a cat\n", "has one column, 'uid,prompt'"),
        ("t.jsonl", "[1]\n", "no line with a JSON object"),
    ],
)
def test_a_table_that_cannot_be_read_ends_before_anything_is_written(
    world, labels, folder, tmp_path, name, content, message
):
    (folder / name).write_text(content.format(*world.uids), encoding="latin-1")
    with pytest.raises(ValueError, match=message.format(*world.uids)):
        prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    assert not (tmp_path / "out").exists()


def test_quotes_in_tsv_are_part_of_the_prompt(world, labels, folder, tmp_path):
    uid = world.uids[0]
    content = f'uid\tprompt\n{uid}\t"hello" written on a wall today\n{world.uids[1]}\t"a, b c d e f"\n'
    (folder / "t.tsv").write_text(content)
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    records = read_records(next((tmp_path / "out").glob("train-*")))
    assert [record.prompt for record in records] == ['"hello" written on a wall today', '"a, b c d e f"']
    assert "1 row with a cell in quotes, the first in line 3" in format_report(info)
    assert prepare(folder, tmp_path / "out", richhf=labels, **RUN) == info


def test_lines_of_json_without_a_prompt_are_listed(world, labels, folder, tmp_path):
    first, second, third = world.uids[:3]
    lines = [f'{{"uid": "{first}"}}', f'{{"uid": "{second}", "prompt": 5}}', '{"uid": "x", "uid": "y"}']
    lines += [f'{{"uid": "{third}", "prompt": "a \\u0000"}}', f'{{"uid": "{third}", "prompt": "a cat"}}']
    (folder / "t.jsonl").write_text("\n".join(lines))
    info = prepare(folder, tmp_path / "out", richhf=labels, **RUN)
    (record,) = read_records(next((tmp_path / "out").glob("train-*")))
    assert record.prompt == "a cat"
    table = [problem for problem in info["problems"] if problem["kind"] == "bad table line"]
    assert [(one["index"], one["uid"]) for one in table] == [(1, first), (2, second), (3, ""), (4, third)]
