"""What feedback is wanted on: images and prompts from a folder, a table or record files, all listed first.

No input is left out: one that cannot be used is listed with what is wrong with it.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from richhf.data.checks import Checker, RecordError
from richhf.data.examples import parse_features, read_examples
from richhf.data.framing import FRAME, HEAD, is_record_file
from richhf.data.prepare.columns import Overrides
from richhf.data.prepare.files import list_files, refuse_pointers
from richhf.data.prepare.images import SUFFIXES
from richhf.data.prepare.problems import Kind
from richhf.data.readers import TABLES
from richhf.data.readers.encoding import split_mark
from richhf.data.records import list_record_files
from richhf.inference.inputs import OF_THE_FILE, Failure, Input, checked_prompt, file_input
from richhf.inference.table_inputs import folder_inputs, table_inputs


def find_inputs(
    source: str,
    *,
    table: str | None = None,
    id_column: str | None = None,
    image_column: str | None = None,
    prompt_column: str | None = None,
    need_prompts: bool = True,
    note: Callable[[str], Any] | None = None,
) -> list[Input]:
    """Lists inputs, in an order that is always the same.

    A table is read as `richhf.data.readers.read_text_table` says: a row whose cells differ in number from the
    header's, such as one with a comma in a prompt without quotes, is an input with a failure that names its
    line. Of the columns that usually hold paths of images, the one that names the most files is taken. If
    none of them names a file, all other columns are tried.

    Args:
      source: a folder of images; a table with a column of image paths, relative to its folder, and one of
        prompts; a record file, a folder of them, or a pattern such as `data/test-*`.
      table: prompts of the images in a folder, by their names. None: the only table in it, or else a `.txt`
        of the same stem beside each image.
      id_column: of a table; None: guessed, and optional.
      image_column: of a table; None: guessed.
      prompt_column: of a table; None: guessed.
      need_prompts: whether an image without a prompt cannot be used.
      note: called with how a table was read and what looks odd in it, a line each.

    Raises:
      ValueError: nothing is found, a table cannot be read, or no column of it looks like what is needed.
      FileNotFoundError: there is no such file or folder.
    """
    path = Path(source)
    columns = Overrides(id_column, image_column, prompt_column)
    if table and not path.is_dir():
        raise ValueError(f"TABLE ({table}) has the prompts of a folder of images, but INPUT is {source}.")
    if any(mark in source for mark in "*?[") and not path.exists():
        found = list(_record_inputs(_matching(source)))
    elif path.is_dir():
        images = list_files(path, SUFFIXES)
        records = sorted(name.name for name in path.glob("*.tfrecord*"))
        if images and records:
            raise ValueError(
                f"{source} holds images ({images[0]}) and record files ({records[0]}): name the one kind by "
                f"a pattern, such as {path / '*.tfrecord*'}, or give a folder of its own."
            )
        if not images and not records:
            raise ValueError(
                f"{source} holds nothing to look at: expected images ({', '.join(sorted(SUFFIXES))}) or "
                "record files (*.tfrecord*)."
            )
        found = list(
            _folder_inputs(path, images, table, columns, need_prompts, note)
            if images
            else _record_inputs(list_record_files(path))
        )
    elif not path.is_file():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{source} does not exist.{_near(path.name, there)} {_EXPECTED}")
    elif path.suffix.lower() in TABLES:
        found = list(table_inputs(path, columns, note))
    elif ".tfrecord" in path.name or is_record_file(path):
        found = list(_record_inputs([path]))
    else:
        raise ValueError(f"{source} is a file of an unknown kind. {_EXPECTED}")
    if not found:
        raise ValueError(f"{source} holds no input: expected at least one image with its prompt.")
    return found if need_prompts else list(map(_without_need, found))


_EXPECTED = (
    f"Expected a folder of images, a table ({', '.join(TABLES)}) of image paths and prompts, or record files "
    "(*.tfrecord*)."
)


def _folder_inputs(
    root: Path,
    names: list[str],
    table: str | None,
    columns: Overrides,
    need_prompts: bool,
    note: Callable[[str], Any] | None,
) -> Iterator[Input]:
    refuse_pointers(root, names[:1])
    tables = [Path(table)] if table else [root / name for name in list_files(root, TABLES)]
    if table and not tables[0].is_file():
        raise FileNotFoundError(f"{table} does not exist; TABLE is a table of image names and prompts.")
    if len(tables) > 1:
        found = ", ".join(str(one.relative_to(root)) for one in tables)
        raise ValueError(f"{root} holds the tables {found}: name the one with the prompts as TABLE.")
    if tables:
        yield from folder_inputs(root, names, tables[0], columns, note)
        return
    texts = {name: (root / name).with_suffix(".txt") for name in names}
    if need_prompts and not any(text.is_file() for text in texts.values()):
        raise ValueError(
            f"{root} holds images but no prompts: expected a table of image names and prompts "
            f"({', '.join(TABLES)}; or elsewhere, as TABLE), or {texts[names[0]].name} beside {names[0]}."
        )
    for name in names:
        yield file_input(name, root / name, _read_prompt(texts[name]))


def _read_prompt(path: Path) -> str | None:
    """Reads a prompt beside an image; None if there is none. Bytes in no known encoding become surrogates."""
    try:
        content = path.read_bytes()
    except OSError as error:
        if error.errno not in OF_THE_FILE:
            raise
        return None
    text, codec, _ = split_mark(content)
    try:
        return text.decode(codec).strip()
    except UnicodeDecodeError:
        return content.decode("utf-8", "surrogateescape").strip()


def _without_need(one: Input) -> Input:
    """An input that can be used without a prompt."""
    of_prompt = one.failure and one.failure.kind in (Kind.NO_PROMPT, Kind.PROMPT)
    if of_prompt or (one.failure and one.failure.kind == Kind.TABLE and one.size >= 0):
        return dataclasses.replace(one, prompt="", failure=None)
    return one


def _near(name: str, there: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


def _matching(pattern: str) -> list[Path]:
    parent = Path(pattern).parent
    files = sorted(path for path in parent.glob(Path(pattern).name) if path.is_file())
    if not files:
        there = [path.name for path in parent.iterdir()] if parent.is_dir() else []
        raise FileNotFoundError(
            f"nothing matches {pattern}.{_near(Path(pattern).name, there)} Expected record files."
        )
    return files


def _record_inputs(files: Iterable[Path]) -> Iterator[Input]:
    for file in files:
        damages: list[RecordError] = []
        modified = file.stat().st_mtime_ns
        start = index = 0
        for index, serialized in enumerate(read_examples(str(file), damages.append), start=1):
            yield _record_input(file, index - 1, start + HEAD, modified, serialized)
            start += len(serialized) + FRAME
        for damage in damages:
            # What a record file holds behind damage cannot be counted: one input stands for it.
            name = f"{file.name}:{damage.index}"
            failure = Failure(Kind.DAMAGED_FILE, f"found {damage.found}; expected {damage.expected}")
            yield Input(name, name, "", file, start=start, modified=modified, failure=failure)


def _record_input(file: Path, index: int, start: int, modified: int, serialized: bytes) -> Input:
    """An input from a record, of which its image, its prompt and its name are read and nothing else."""
    check, name = Checker(file.name, index), f"{file.name}:{index}"
    label, text, failure = name, "", None
    try:
        features = parse_features(serialized, check)
        if "filename" in features:
            label = check.text(features, "filename")
        if "image" not in features:
            failure = Failure(Kind.NO_IMAGE, "found a record without one; join the labels with images first")
        else:
            check.value(features, "image", "bytes_list")
            text, failure = checked_prompt(check.text(features, "prompt") if "prompt" in features else None)
    except RecordError as error:
        failure = Failure(Kind.RECORD, f"{error.feature}: found {error.found}; expected {error.expected}")
    return Input(label, name, text, file, start, len(serialized), modified, failure)
