"""A folder of feedback for people to look at, and for scripts to read: what `richhf predict` writes.

    OUT/
      index.html       all of it on one page
      feedback.jsonl   one line an input, its columns those of `richhf.inference.shards`
      maps/            00000000-implausibility.png, 8 bits, 255 is 1.0; .npy: float32; at the image's own size
      overlays/        00000000-implausibility.png, the map over the image
      manifest.json    what was asked of what
      summary.json     inputs, done, failed by kind

While it is made there are shards instead of `feedback.jsonl`: what is there stays when the job is stopped,
and the same job goes on.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from richhf.inference.inputs import OF_THE_FILE, Input, describe_inputs
from richhf.inference.manifest import claim_folder
from richhf.inference.pictures import MAX_PIXELS, decode_image, quiet_decoding
from richhf.inference.shards import JSONL, SUMMARY, Row, ShardWriter, finding_column, read_rows

TABLE, PAGE, MAPS, OVERLAYS = "feedback.jsonl", "index.html", "maps", "overlays"
Predict = Callable[[Sequence[Example]], Sequence[Feedback]]


def write_feedback(
    inputs: Sequence[Input],
    out: str | os.PathLike,
    encoder: Encoder,
    predict: Predict,
    *,
    kinds: tuple[str, ...],
    identity: Mapping[str, Any],
    batch_size: int = 8,
    map_formats: tuple[str, ...] = ("png",),
    page_images: int = 500,
    strict: bool = False,
    model: str = "",
    demonstration: str = "",
    on_progress: Callable[[int], Any] = lambda count: None,
) -> dict[str, Any]:
    """Writes the folder; one that is begun is gone on with.

    Args:
      inputs: all of them.
      out: an empty folder, or one that this began.
      encoder: makes what the model takes.
      predict: gives the feedback on up to `batch_size` examples.
      kinds: kinds of outputs that `predict` gives.
      identity: what says which model this is; JSON values by name.
      batch_size: images in a batch, and inputs that are lost if the job is killed.
      map_formats: of MAP_FORMATS.
      page_images: how many images the page shows at most.
      strict: raise at the first input that cannot be used.
      model: the model's name, for the page.
      demonstration: why the model is a demonstration only, for the page; empty: it is not one.
      on_progress: called with the number of inputs that were seen to.

    Returns:
      The content of summary.json.

    Raises:
      ValueError: the folder was made from something else, or (strict) an input cannot be used.
      OSError: the system cannot read or write.
    """
    folder = Path(out)
    settings = {"outputs": kinds, "map_formats": map_formats, "batch_size": batch_size}
    settings |= {"page_images": page_images}
    made_from = {"inputs": describe_inputs(inputs), "settings": settings, "model": dict(identity)}
    claim_folder(folder, made_from)
    writer = ShardWriter(folder, len(inputs), batch_size, kinds, JSONL, map_formats, verdicts=True)
    if not (folder / TABLE).exists():
        missing = writer.missing()
        on_progress(len(inputs) - sum(len(writer.indices(shard)) for shard in missing))
        with quiet_decoding():
            for shard in missing:
                _write_shard(shard, inputs, writer, encoder, predict, strict)
                on_progress(len(writer.indices(shard)))
        writer.summarise()
        _gather(folder)
    for left in folder.glob("shard-*-of-*"):
        left.unlink()
    summary, rows = _read_finished(folder, len(inputs), set(writer.columns()))
    failures = [(row["image"] or row["id"], row["error"]) for row in rows if row["error"]]
    more = f" The page shows the first {page_images:,}." if summary["done"] > page_images else ""
    write_feedback_page(
        folder / PAGE,
        _examples(folder, inputs, rows, page_images),
        kinds=kinds,
        facts=f"{summary['done']:,} of {summary['inputs']:,} images; all values are in {TABLE}.{more}",
        failures=failures,
        demonstration=demonstration,
        extra={"model": model, "outputs": ", ".join(kinds)},
    )
    return summary


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
            raise FirstFailure(f"input {index}, {inputs[index].image or inputs[index].id}: {found}")
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


def _read_finished(
    folder: Path, count: int, columns: set[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the table of a folder; that they are whole is not taken for granted."""
    with _whole(folder, SUMMARY):
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if not isinstance(summary, dict) or not {"inputs", "done", "failed"} <= {*summary}:
            raise ValueError("it says not how many inputs are done")
    with _whole(folder, TABLE):
        rows = list(read_feedback_rows(folder))
        if len(rows) != count:
            raise ValueError(f"{len(rows):,} lines, expected {count:,}")
        for index, row in enumerate(rows):
            if not isinstance(row, dict) or columns != {*row} or row["index"] != index:
                raise ValueError(f"line {index + 1} is not the feedback on input {index}")
    return summary, rows


@contextlib.contextmanager
def _whole(folder: Path, name: str) -> Iterator[None]:
    """Around what reads a file that is finished: an error then says what is to be done."""
    try:
        yield
    except UNDECODABLE as error:
        if isinstance(error, OSError) and error.errno not in (None, *OF_THE_FILE):
            raise
        missing = isinstance(error, FileNotFoundError)
        raise ValueError(
            f"{folder / name} is {'missing' if missing else f'damaged ({reason(error)})'}: remove "
            f"{folder / TABLE} and run the same command again; it then computes all of it again."
        ) from error


def _gather(folder: Path) -> None:
    """Makes one table and one folder of maps of the shards; after a kill it can be done again."""
    for maps in sorted(folder.glob("maps-*-of-*")):
        (folder / MAPS).mkdir(exist_ok=True)
        for file in maps.iterdir():
            file.replace(folder / MAPS / file.name)
        maps.rmdir()
    with atomic_path(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8") as table:
        for row in read_rows(folder):
            for name in (name for name in row if name.endswith(("_png", "_npy")) and row[name]):
                row[name] = f"{MAPS}/{Path(row[name]).name}"
            table.write(json.dumps(row, ensure_ascii=False) + "\n")


def _examples(
    folder: Path, inputs: Sequence[Input], rows: Sequence[Mapping[str, Any]], most: int
) -> Iterator[GalleryExample]:
    """What the page shows, overlays written on the way, for all inputs."""
    shown = 0
    for row in (row for row in rows if not row["error"]):
        feedback = _feedback(folder, row)
        if not feedback.heatmaps and shown == most:
            return
        image = Image.fromarray(decode_image(inputs[row["index"]].read(), max_pixels=MAX_PIXELS))
        for name in feedback.heatmaps:
            (folder / OVERLAYS).mkdir(exist_ok=True)
            path = folder / OVERLAYS / f"{row['index']:08d}-{name}.png"
            if not path.exists():
                with atomic_path(path) as temporary:
                    feedback.overlay(name, image).save(temporary, "PNG")
        if shown < most:
            shown += 1
            verdicts = {name: row[name] for name in VERDICTS}
            reasons = {name: tuple(row[finding_column(name, "reasons")] or ()) for name in VERDICTS}
            yield GalleryExample(image, None, feedback, note=row["id"], verdicts=verdicts, reasons=reasons)


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
