"""Joining RichHF-18K's labels with images and prompts into training records.

OUT/train-00000-of-00016.tfrecord ...   RichHF-18K's records, with image and prompt
OUT/dataset_info.json                   the request, counts, what was left out and why, checksums
OUT/.spool/                             what has been fetched; gone at the end

Labels are checked first, then images and prompts are fetched, then records are written, in the order of the
label files. A uid that is in several places takes the first one that is usable, files sorted by name. In
Pick-a-Pic that is as it should be; elsewhere each further usable place is listed as a problem.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from richhf.data import dataset_info
from richhf.data.prepare import assemble, fetch, join
from richhf.data.prepare.assemble import EXPECTED
from richhf.data.prepare.columns import Overrides
from richhf.data.prepare.label_sources import LabelSource, MirrorLabels, RecordFiles
from richhf.data.prepare.mirror import Mirror
from richhf.data.prepare.problems import BadInput, Note, Problem, raise_problem
from richhf.data.prepare.source import Source
from richhf.data.prepare.sources import open_source
from richhf.data.prepare.spool import NAME, Spool

FORMAT = 1
LARGEST_MAX_PIXELS = 178_956_970
"""Pillow reads no larger image."""
WORKERS = 2
"""Processes by default, at most: each takes up to 500 MB where a page holds 1,000 images."""


def prepare(
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    richhf: str | os.PathLike | None = None,
    source: str | None = None,
    strict: bool = False,
    shards: int = 16,
    workers: int | None = None,
    reencode: bool = False,
    max_pixels: int = 64_000_000,
    columns: Mapping[str, str | None] | None = None,
    table: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Makes training records; run again after an interruption, it goes on and ends with the same bytes.

    Bad input is left out, counted and listed. A prompt with another number of words than labels, of which
    RichHF-18K has some, is listed and kept; tasks leave its keyword target out.

    Args:
      images: Pick-a-Pic's parquet files, a mirror, or a folder of images; see `open_source`.
      out: folder, made if need be; it is empty or holds (a part of) the same records.
      richhf: folder of RichHF-18K's files; None: the labels are in the mirror.
      source: what `images` is, of `SOURCES`; None: what it looks like.
      strict: raise the first problem instead of listing it.
      shards: files of the training split; the smaller splits get fewer.
      workers: processes that read images, one a core but at most 2 by default. No byte depends on it.
      reencode: convert JPEG to PNG too; otherwise PNG and JPEG are kept as found.
      max_pixels: larger images are left out without being decoded.
      columns: of a mirror or a table, that are not to be guessed: `uid`, `image`, `prompt`.
      table: of uid and prompt, for a folder of images; None: the only one in it.

    Returns:
      what `dataset_info.json` holds.

    Raises:
      BadInput: the first problem, if strict.
      ValueError: the request or the input makes no sense, no image belongs to any label, or `out` holds
        something else.
      OSError: the system cannot read or write something; what is finished stays, and the same call goes on.
      ImportError: the source holds Parquet or Arrow files and pyarrow is missing.
    """
    _check_numbers(shards=shards, workers=workers, max_pixels=max_pixels)
    out = pathlib.Path(out)
    opened = open_source(
        pathlib.Path(images),
        name=source,
        overrides=Overrides(**columns or {}),
        table=None if table is None else pathlib.Path(table),
    )
    labelled = _open_labels(opened, None if richhf is None else pathlib.Path(richhf))
    request = {
        "format": FORMAT,
        "labels": labelled.describe(),
        "source": opened.describe(),
        "shards": shards,
        "reencode": reencode,
        "max_pixels": max_pixels,
    }
    with dataset_info.explain_failure(out):
        info = dataset_info.claim(out, request, noun="set of records")
        spool = Spool(out / NAME)
        if not _is_whole(out, info):
            workers = workers or min(os.cpu_count() or 1, WORKERS)
            info = request | _make(labelled, opened, out, spool, request, strict=strict, workers=workers)
            dataset_info.write_info(out, info)
        elif strict and info["problems"]:
            raise BadInput(Problem.from_json(info["problems"][0]))
        spool.remove()
    return info


def is_complete(out: str | os.PathLike) -> bool:
    """Whether a folder holds finished records."""
    out = pathlib.Path(out)
    return (out / dataset_info.INFO).is_file() and _is_whole(out, dataset_info.read_info(out))


def _is_whole(out: pathlib.Path, info: Mapping[str, Any]) -> bool:
    """Whether the records are finished, and no file has been lost since."""
    return bool(info.get("complete")) and all((out / name).is_file() for name in info["sha256"])


def _check_numbers(*, shards: int, workers: int | None, max_pixels: int) -> None:
    if shards < 1:
        raise ValueError(f"shards is {shards}; expected at least 1")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1, or None for one a core")
    if not 1 <= max_pixels <= LARGEST_MAX_PIXELS:
        raise ValueError(f"max_pixels is {max_pixels}; expected 1 to {LARGEST_MAX_PIXELS}")


def _open_labels(opened: Source, folder: pathlib.Path | None) -> LabelSource:
    if folder is not None:
        return RecordFiles(folder)
    if isinstance(opened, Mirror):
        return MirrorLabels(opened)
    raise ValueError(
        f"{opened.root} ({opened.name}) holds images without labels; "
        "give the folder of RichHF-18K's train.tfrecord with --richhf DIR"
    )


def _make(
    labelled: LabelSource,
    opened: Source,
    out: pathlib.Path,
    spool: Spool,
    request: dict[str, Any],
    *,
    strict: bool,
    workers: int,
) -> dict[str, Any]:
    """Makes the records; returns what `dataset_info.json` says of them."""
    problems: list[Problem] = []
    note: Note = raise_problem if strict else problems.append
    labels = labelled.read(spool.folder / "labels", note)
    wanted = frozenset(label.uid for label in labels.usable)
    if not wanted:
        _give_up(out, spool, f"no label in {labelled.root} is usable", problems)
    pieces = opened.plan(wanted, note)
    job = fetch.Job(opened, wanted, spool.folder, request["max_pixels"], request["reencode"])
    fetch.fetch(job, pieces, workers, raise_problem if strict else lambda problem: None)

    fetched = [spool.read_piece(piece.key) for piece in pieces]
    of_images = [problem for _, found in fetched for problem in found]
    problems += of_images
    every_entry = (entry for found, _ in fetched for entry in found)
    entries = join.first_entries(every_entry, (lambda problem: None) if opened.repeats else note)
    pairs = join.join(labels, entries, of_images, note)
    if not any(pairs.values()):
        where = f"{opened.root} ({opened.name})"
        if any(problem.uid in wanted for problem in of_images):
            _give_up(out, spool, f"every image in {where} that has the uid of a label is unusable", of_images)
        what = f"no image in {where} has the uid of a label; {opened.example()}"
        _give_up(out, spool, f"{what}; expected uids like {min(wanted)!r}{opened.next_move}", problems)
    shards = assemble.assemble(out, pairs, spool, request["shards"])
    every = [pair for found in pairs.values() for pair in found]
    return {
        "complete": True,
        "splits": {
            split: {
                "expected": expected,
                "found": labels.found[split],
                "written": len(pairs[split]),
                "left_out": dict(sorted(labels.left_out[split].items())),
            }
            for split, expected in EXPECTED.items()
        },
        "images": join.count_images(every),
        "problems": [problem.to_json() for problem in dict.fromkeys(problems)],
        "sha256": {shard.file: dataset_info.sha256(out / shard.file) for shard in shards},
    }


def _give_up(out: pathlib.Path, spool: Spool, why: str, problems: Sequence[Problem]) -> NoReturn:
    """Leaves `out` as if nothing had been asked, so that another request can follow."""
    spool.remove()
    (out / dataset_info.INFO).unlink()
    first = f" (first problem: {problems[0]})" if problems else ""
    raise ValueError(f"no record could be made: {why}{first}")
