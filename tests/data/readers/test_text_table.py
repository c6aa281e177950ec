"""CSV, TSV and JSON Lines as people write them: the right cells, or an error that names the line."""

import csv
import io
import itertools
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from richhf.data.readers import read_text_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ODD = st.one_of(
    TEXT,
    st.text("a \"',;\t|\r\n\\\u2028\x85\ufeff。", max_size=12),
    st.sampled_from(['"hello" written on a wall', "a, b; c", 'a 5" disk', "two\nlines", '"', '""', "sep=;"]),
)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, content, expected=("image", "prompt")):
    """(line, values or what is wrong) of each row."""
    table = read_text_table(write(path, content), expected)
    return [(row.line, row.fault or tuple(row.values.values())) for row in table.rows]


@given(
    rows=st.lists(st.tuples(TEXT, ODD), max_size=4),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]),
    delimiter=st.sampled_from(",;|\t"),
)
def test_what_csv_writes_is_read_back(tmp_path_factory, rows, quoting, encoding, delimiter):
    """Each row is there, with its text to the character and its physical line."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
    lines = []
    for row in [("image", "prompt"), *rows]:
        text = file.getvalue()
        lines.append(1 + text.count("\n") + text.replace("\r\n", "").count("\r"))
        writer.writerow(row)
    content = ("\ufeff" * (encoding == "utf-16-be") + file.getvalue()).encode(encoding)
    found = read(tmp_path_factory.getbasetemp() / "t.csv", content)
    assert found == list(zip(lines[1:], rows, strict=True))


@given(
    rows=st.lists(
        st.tuples(st.text("ab.é", min_size=1), st.text('a ",;', max_size=8)), min_size=1, max_size=4
    )
)
@example([("a", '"hello" written on a wall'), ("b", "x")])
def test_a_tsv_keeps_its_quotes(tmp_path_factory, rows):
    content = "".join(f"{name}\t{prompt}\n" for name, prompt in [("image", "prompt"), *rows])
    table = read_text_table(write(tmp_path_factory.getbasetemp() / "t.tsv", content))
    as_csv_writes = table.form.startswith("TSV with quotes")
    if as_csv_writes:
        assert all(prompt[0] == prompt[-1] == '"' for _, prompt in rows if '"' in prompt)
    else:
        assert [tuple(row.values.values()) for row in table.rows] == rows


@given(rows=st.lists(st.tuples(st.text("ab.é", min_size=1), ODD), min_size=1, max_size=4))
def test_a_tsv_of_csv_writer_is_read_back_or_has_faults(tmp_path_factory, rows):
    """Quotes in TSV have two meanings. A row that could have either is never read as a part of the text."""
    file = io.StringIO(newline="")
    csv.writer(file, "excel-tab").writerows([("image", "prompt"), *rows])
    table = read_text_table(write(tmp_path_factory.getbasetemp() / "t.tsv", file.getvalue()))
    found = [tuple(row.values.values()) for row in table.rows]
    lines = [line for line in re.split(r"\r\n|\r|\n", file.getvalue())[1:] if line.strip(" ")]
    as_it_stands = [tuple(line.split("\t")) for line in lines]
    assert found in (rows, as_it_stands) or any(row.fault for row in table.rows)


def test_a_tsv_whose_header_is_quoted_is_quoted_throughout(tmp_path):
    assert read(tmp_path / "t.tsv", '"image"\t"prompt"\n"a.png"\t"a ""red""\tcat"\n') == [
        (2, ("a.png", 'a "red"\tcat'))
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("image,prompt\na.png,a red circle, a blue star\nb.png,x", "line 2: found 3 cells; expected 2"),
        ("image,prompt,model\na.png,a cat\nb.png,x,y", "line 2: found 2 cells; expected 3"),
        ('image,prompt\n\nb.png,"two\nlines"\na.png,"b", c\n', "line 5: found 3 cells; expected 2"),
    ],
)
def test_a_row_with_another_number_of_cells_is_faulty(tmp_path, content, expected):
    table = read_text_table(write(tmp_path / "t.csv", content))
    (faulty,) = (row for row in table.rows if row.fault)
    line, found, wanted = expected.replace(";", ":").split(": ")
    assert table.place(faulty) == f"t.csv, {line}"
    assert faulty.fault.startswith(found)
    assert wanted in faulty.fault
    assert not faulty.values


def test_a_separator_at_the_end_of_a_row_is_named(tmp_path):
    rows = read(tmp_path / "t.csv", "image;prompt\na.png;x;\nb.png;y;\n")
    assert all("The row ends in ';', but the header does not. Remove it" in fault for _, fault in rows)
    assert read(tmp_path / "t.csv", "image,prompt,\na.png,x,\n") == [(2, ("a.png", "x"))]


@pytest.mark.parametrize("blank", ["\u200b", "\ufeff", "\xa0", " \xa0\u200b "])
def test_unseen_characters_around_a_column_name_are_stripped(tmp_path, blank):
    table = read_text_table(write(tmp_path / "t.csv", f"{blank}image,{blank}prompt{blank}\na.png,x\n"))
    assert table.columns == ("image", "prompt")
    (row,) = read_text_table(write(tmp_path / "t.jsonl", json.dumps({f"{blank}prompt": "x"}))).rows
    assert row.values == {"prompt": "x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'image,prompt\na.png,"hello on a wall\nb.png,a cat\n',
            r"line 2: the quote at '\"hello on a wall' is ne",
        ),
        (
            'image,prompt\nb.png,x\na.png,"hello" written\n',
            "line 3: .* is closed before 'written', where the sep",
        ),
        ('image,prompt\na.png,"hello\nb.png,"foo"\n', "line 2: .* is closed in line 3 before 'foo\""),
        ('image,prompt\n"a\nb",x\nc,"say \\"hi\\" now"\n', r"line 4: .* is closed before 'hi"),
        ('"image,prompt\na,b', "line 1: .* is never closed"),
        ("image,prompt,prompt\na,b,c\n", "2 columns of one name: 'prompt' and 'prompt'"),
        ("image, Prompt ,prompt\na,b,c\n", "2 columns of one name: 'Prompt' and 'prompt'"),
        (
            "image,prompt\na,caf\u00e9\nb,x".encode("latin-1"),
            r"line 2: found the byte 0xe9.*there is 'a,café'",
        ),
        ("image,prompt\na,b".encode("utf-16-le"), "null bytes as UTF-16, but no byte order mark"),
        (b"\xff\xfeabc", "line 1: found the byte 0x63, which is not UTF-16 LE"),
        (b"\x1f\x8b\x08rest", "compressed with gzip; unpack it"),
        (b"PK\x03\x04rest", "an Excel workbook.*save the sheet as CSV in UTF-8"),
        ("\n \n", "no columns named in its first line"),
        (",,\na,b,c", "no columns named in its first line"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_error(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "t.csv", content)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (
            'image, prompt\na.png, "a red circle, a blue star" \nb.png, a cat\n',
            ["a red circle, a blue star", "a cat"],
        ),
        ("image;prompt\na.png;a red circle, a blue star\nb.png;x", ["a red circle, a blue star", "x"]),
        ("sep=;\r\nimage;prompt\r\na.png;one, two\r\nb.png;x", ["one, two", "x"]),
        ("SEP=,\nimage,prompt\na.png,one\nb.png,x", ["one", "x"]),
        ('"sep=\t"\nimage\tprompt\na.png\tone, two\nb.png\tx', ["one, two", "x"]),
        ("sep=;;\nimage;prompt\na.png;one\nb.png;x", ["one", "x"]),
        ("image;prompt, in English\na.png;one, two\nb.png;x", ["one, two", "x"]),
        ("\n\nimage,prompt\r\ra.png,one\n  \nb.png,x", ["one", "x"]),
        ('image,prompt\na.png,a sign "stop"\nb.png,a 5" disk', ['a sign "stop"', 'a 5" disk']),
        (
            "image,prompt\na.png,one\u2028two\x85three\x0b\x1c\nb.png,x",
            ["one\u2028two\x85three\x0b\x1c", "x"],
        ),
        ('image,prompt\na.png,"' + "x" * 300_000 + '"\nb.png,x', ["x" * 300_000, "x"]),
        ("image,prompt,,\na.png,one,,3\nb.png,x,,", ["one", "x"]),
    ],
)
def test_tables_of_other_programs_and_people(tmp_path, content, rows):
    table = read_text_table(write(tmp_path / "t.csv", content), ["image", "prompt"])
    assert [row.values["image"] for row in table.rows] == ["a.png", "b.png"]
    assert [next(v for k, v in row.values.items() if "prompt" in k) for row in table.rows] == rows


def test_how_a_table_was_read_is_said(tmp_path):
    def form(name, content):
        return read_text_table(write(tmp_path / name, content)).form

    assert form("t.csv", "image;prompt\n") == "CSV separated by semicolons, UTF-8"
    assert form("t.tsv", "image\tprompt\n".encode("utf-16")) == "TSV, UTF-16 LE"
    assert form("t.jsonl", '\ufeff{"a": 1}') == "JSON Lines, UTF-8 with BOM"
    table = read_text_table(write(tmp_path / "t.tsv", 'image\tprompt\na\tb\nc\t"d"\n'))
    assert table.remarks[0].startswith(
        "1 row with a cell in quotes, the first in line 3. In TSV the quotes are"
    )


def test_lines_of_json_fail_alone(tmp_path):
    lines = [
        '{"image": "a.png"}',
        '{"image": "b.png", "prompt": "two\\nlines \u2028"}',
        "",
        "[1]",
        '{"prompt": "x", "prompt": "y"}',
        '{"prompt": NaN, "image": 5}',
        "{bad",
        '{"a": 1} {"b": 2}',
        "[" * 100_000,
        '{" prompt": "x"}',
    ]
    table = read_text_table(write(tmp_path / "t.jsonl", "\r\n".join(lines)))
    assert table.columns == ("image", "prompt")
    assert [row.line for row in table.rows] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert table.rows[1].values["prompt"] == "two\nlines \u2028"
    assert table.rows[0].get("prompt") is None
    assert table.rows[8].values == {"prompt": "x"}
    faults = {row.line: row.fault for row in table.rows if row.fault}
    assert faults[4] == "found '[1]'; expected a JSON object"
    assert faults[5] == "found the key 'prompt' twice in one object"
    assert [*faults] == [4, 5, 7, 8, 9]
    for content in ('[{"image": "a.png"}]', "[\n1,\n2]", "5\n", ""):
        with pytest.raises(ValueError, match="no line with a JSON object"):
            read(tmp_path / "t.jsonl", content)
    with pytest.raises(ValueError, match="2 columns of one name: 'Prompt' and 'prompt'"):
        read(tmp_path / "t.jsonl", '{"Prompt": "x"}\n{"prompt": "y"}')


@given(
    values=st.lists(st.dictionaries(st.sampled_from(["image", "prompt", "n"]), ODD, min_size=1), min_size=1)
)
def test_what_json_writes_is_read_back(tmp_path_factory, values):
    content = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    table = read_text_table(write(tmp_path_factory.getbasetemp() / "t.jsonl", content))
    assert [row.values for row in table.rows] == values
    assert {*table.columns} == {*itertools.chain(*values)}
