"""A folder of feedback for people to look at, and for scripts to read: what `richhf predict` writes.

    OUT/
      index.html       all of it on one page
      feedback.jsonl   one line an input, its columns those of `richhf.inference.shards`
      maps/            cat-implausibility.png for cat.png: 8 bits, 255 is 1.0; .npy: float32; the image's size
      overlays/        cat-implausibility.png, the map over the image
      manifest.json    what was asked of which model
      summary.json     inputs, done, failed by kind

Maps are named after their images; where names would be equal, a checksum makes them different. The row of an
image in feedback.jsonl says which files are its maps.

While feedback is computed it is kept in shards. If the job is stopped, run it again: it resumes. If inputs
were added or changed since, only those are computed, and rows of inputs that are gone are removed. Another
model, other outputs or other map formats are an error: they need a folder of their own.
"""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from richhf.atomic import atomic_path
from richhf.data.checks import UNDECODABLE, reason
from richhf.feedback import HEATMAPS, SCORES, VERDICTS, Feedback
from richhf.inference.bulk import FirstFailure, encode_input
from richhf.inference.encoder import Encoder, Example
from richhf.inference.feedback_page import write_feedback_page
from richhf.inference.gallery import GalleryExample
from richhf.inference.inputs import OF_THE_FILE, Input
from richhf.inference.known_feedback import MAPS, TABLE, Plan, make_plan, map_columns, map_file
from richhf.inference.manifest import claim_folder
from richhf.inference.pictures import MAX_PIXELS, decode_image, quiet_decoding
from richhf.inference.predictions import asked_outputs
from richhf.inference.shards import JSONL, SUMMARY, Row, ShardWriter, finding_column

PAGE, OVERLAYS = "index.html", "overlays"
_FORMAT = 2
Predict = Callable[[Sequence[Example]], Sequence[Feedback]]
Stage = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]


@contextlib.contextmanager
def _unseen(name: str, total: int) -> Iterator[Callable[[int], Any]]:
    yield lambda count: None


def write_feedback(
    inputs: Sequence[Input],
    out: str | os.PathLike,
    encoder: Encoder,
    predict: Predict,
    *,
    outputs: Sequence[str],
    identity: Mapping[str, Any],
    batch_size: int = 8,
    map_formats: tuple[str, ...] = ("png",),
    page_images: int = 500,
    strict: bool = False,
    model: str = "",
    demonstration: str = "",
    stage: Stage = _unseen,
    note: Callable[[str], Any] = lambda text: None,
) -> dict[str, Any]:
    """Writes the folder, or brings one that is there up to date.

    Args:
        inputs: all of them.
        out: an empty folder, or one that this began.
        encoder: makes what the model takes.
        predict: gives the feedback on up to `batch_size` examples.
        outputs: kinds of outputs or names of single ones that `predict` gives.
        identity: what says which model this is; JSON values by name.
        batch_size: images in a batch, and inputs that are lost if the job is killed.
        map_formats: of MAP_FORMATS.
        page_images: how many images the page shows at most.
        strict: raise at the first input that cannot be used.
        model: the model's name, for the page.
        demonstration: why the model is a demonstration only, for the page; empty: it is not one.
        stage: called with a name and a number of steps; gives a context with what to call with the number of
            steps that were done. Names are `predict`, in inputs, and `maps and page`, in images.
        note: called with a line about what was kept, added, changed and removed.

    Returns:
        The content of summary.json.

    Raises:
        ValueError: the folder was made with something else, or (strict) an input cannot be used.
        OSError: the system cannot read or write.
    """
    folder, names = Path(out), asked_outputs(outputs)
    settings = {"outputs": names, "map_formats": map_formats}
    claim_folder(folder, {"format": _FORMAT, "settings": settings, "model": dict(identity)})
    columns = ShardWriter(folder, 0, 1, names, JSONL, map_formats, True, fingerprints=("",)).columns()
    plan = make_plan(folder, inputs, columns)
    if strict:
        _raise_first_failure(plan)
    _tell(plan, len(inputs), folder, note)
    todo = [inputs[index] for index in plan.todo]
    marks, stems = ([values[index] for index in plan.todo] for values in (plan.fingerprints, plan.stems))
    size = max(batch_size, 1)
    writer = ShardWriter(
        *(folder, len(todo), size, names, JSONL, map_formats, True, plan.tag),
        stems=stems,
        fingerprints=marks,
    )
    if todo:
        with stage("predict", len(todo)) as advance, quiet_decoding():
            for shard in range(writer.count):
                _write_shard(shard, todo, writer, encoder, predict, strict)
                advance(len(writer.indices(shard)))
        plan = make_plan(folder, inputs, columns)
    with writer.explaining():
        rows = _gather(folder, plan, len(inputs))
        summary = _summarise(folder, rows)
    done = summary["done"]
    more = f" The page shows the first {page_images:,}." if done > page_images else ""
    drawn = done if {*HEATMAPS} & {*names} else min(done, page_images)
    with stage("maps and page", drawn) as advance, writer.explaining():
        write_feedback_page(
            folder / PAGE,
            _examples(folder, inputs, rows, page_images, advance),
            outputs=names,
            facts=f"{done:,} of {summary['inputs']:,} images; all values are in {TABLE}.{more}",
            rows=rows,
            demonstration=demonstration,
            extra={"model": model, "outputs": ", ".join(outputs)},
        )
    return summary


def _raise_first_failure(plan: Plan) -> None:
    for _, row in sorted(plan.rows.items()):
        if row["error"]:
            raise FirstFailure(f"{row['image'] or row['id']}: {row['error']}")


def _tell(plan: Plan, count: int, folder: Path, note: Callable[[str], Any]) -> None:
    """Notes what was found in a folder that is not new."""
    if plan.damaged:
        note(f"{folder}: {plan.damaged:,} rows are damaged or lack their maps and are computed again")
    if plan.rows and (plan.todo or plan.removed):
        parts = {"new": plan.added, "changed": plan.changed, "gone (their rows are removed)": plan.removed}
        listed = "".join(f", {number:,} {what}" for what, number in parts.items() if number)
        note(f"{folder}: {len(plan.rows):,} of {count:,} images have their feedback already{listed}")


def _write_shard(
    shard: int, inputs: Sequence[Input], writer: ShardWriter, encoder: Encoder, predict: Predict, strict: bool
) -> None:
    with writer.explaining():
        writer.begin(shard)
    rows: dict[int, Row] = {}
    examples: dict[int, Example] = {}
    for index in writer.indices(shard):
        found = encode_input(inputs[index], encoder)
        if isinstance(found, Example):
            examples[index] = found
        elif strict:
            raise FirstFailure(f"{inputs[index].image or inputs[index].id}: {found}")
        else:
            rows[index] = writer.failed(index, inputs[index], found)
    feedback = predict(list(examples.values())) if examples else ()
    with writer.explaining():
        for index, one in zip(examples, feedback, strict=True):
            rows[index] = writer.add(index, inputs[index], one)
        writer.finish(shard, [row for _, row in sorted(rows.items())])


def read_feedback_rows(folder: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The lines of a folder's `feedback.jsonl`; columns as in `richhf.inference.shards`."""
    with (Path(folder) / TABLE).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _gather(folder: Path, plan: Plan, count: int) -> list[Row]:
    """Makes one table and one folder of maps; if it is stopped anywhere, it can be done again."""
    rows, kept = [], set()
    for index in range(count):
        row = plan.rows[index] | {"index": index}
        for name in map_columns(row):
            there, file = map_file(folder, row[name]), folder / MAPS / Path(row[name]).name
            if there != file:
                file.parent.mkdir(exist_ok=True)
                there.replace(file)
            row[name] = f"{MAPS}/{file.name}"
            kept |= {file.name, f"{file.stem}.png"}
        rows.append(row)
    with atomic_path(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8") as table:
        table.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for left in folder.glob("shard-*-of-*"):
        left.unlink()
    for left in (*folder.glob("maps-*-of-*"), *folder.glob(".shard-*.tmp")):
        shutil.rmtree(left)
    for part in (MAPS, OVERLAYS):
        for left in (folder / part).glob("*"):
            if left.name not in kept:
                left.unlink()
    return rows


def _summarise(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    kinds = Counter(row["error_kind"] or "" for row in rows)
    done = kinds.pop("", 0)
    summary = {"inputs": len(rows), "done": done, "failed": dict(sorted(kinds.items()))}
    with atomic_path(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _examples(
    folder: Path,
    inputs: Sequence[Input],
    rows: Sequence[Mapping[str, Any]],
    most: int,
    advance: Callable[[int], Any],
) -> Iterator[GalleryExample]:
    """Gives what the page shows; writes overlays of all inputs on the way."""
    shown = 0
    for row in (row for row in rows if not row["error"]):
        feedback = _feedback(folder, row)
        if not feedback.heatmaps and shown == most:
            return
        image = Image.fromarray(decode_image(inputs[row["index"]].read(), max_pixels=MAX_PIXELS))
        for name in feedback.heatmaps:
            (folder / OVERLAYS).mkdir(exist_ok=True)
            file = folder / (row.get(f"{name}_png") or row[f"{name}_npy"])
            path = folder / OVERLAYS / f"{file.stem}.png"
            # An overlay that is older is of a map that was there before.
            if not path.exists() or path.stat().st_mtime_ns < file.stat().st_mtime_ns:
                with atomic_path(path) as temporary:
                    feedback.overlay(name, image).save(temporary, "PNG")
        advance(1)
        if shown < most:
            shown += 1
            verdicts = {name: row[name] for name in VERDICTS}
            reasons = {name: tuple(row[finding_column(name, "reasons")] or ()) for name in VERDICTS}
            yield GalleryExample(image, None, feedback, note=row["id"], verdicts=verdicts, reasons=reasons)


@contextlib.contextmanager
def _whole(folder: Path, name: str) -> Iterator[None]:
    """Around what reads a map: an error then says what is to be done."""
    try:
        yield
    except UNDECODABLE as error:
        if isinstance(error, OSError) and error.errno not in (None, *OF_THE_FILE):
            raise
        raise ValueError(
            f"{folder / name} is damaged ({reason(error)}): remove it and run the same command again; it "
            "then computes this image's feedback again."
        ) from error


def _feedback(folder: Path, row: Mapping[str, Any]) -> Feedback:
    return Feedback(
        prompt=row["prompt"],
        scores={name: row[name] for name in SCORES if name in row},
        heatmaps={name: values for name in HEATMAPS if (values := _map(folder, row, name)) is not None},
        words=tuple(row["words"]),
        covered=tuple(row["covered"]),
        misaligned=tuple(row.get("misaligned") or ()),
        word_confidences=tuple(row.get("word_confidences") or ()),
        image_size=(row["height"], row["width"]),
    )


def _map(folder: Path, row: Mapping[str, Any], name: str) -> np.ndarray | None:
    file = row.get(f"{name}_npy") or row.get(f"{name}_png")
    if not file:
        return None
    with _whole(folder, file):
        values = _read_map(folder / file)
        if values.shape != (row["height"], row["width"]):
            raise ValueError(f"a map {list(values.shape)}, expected {[row['height'], row['width']]}")
    return values


def _read_map(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    with Image.open(path) as drawn:
        return np.asarray(drawn, np.float32) / 255
