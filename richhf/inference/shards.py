"""Output shards: a table of feedback and a folder of maps each, there as a whole or not at all.

    OUTPUT_DIR/
      manifest.json                      what was asked of what: `richhf.inference.manifest`
      shard-00000-of-00003.parquet       one row an input (or .jsonl)
      maps-00000-of-00003/
        00000000-implausibility.png      8 bits, 255 is 1.0, at the image's own size; .npy: float32
      summary.json                       inputs, done, failed by kind; there when all shards are

The folder of maps is renamed before the table: a table that exists is complete, and neither is touched again.
Two jobs may write the same shard; each does so in a folder of its own, and the first one's stays. One row:

| column | type | |
|---|---|---|
| `index` | int64 | position among all inputs, from 0 |
| `id` | string | by the table or record, or else the image's path |
| `image` | string | path as given; of a record `file:index` |
| `prompt` | string | |
| `width`, `height` | int32 | of the image, in pixels |
| `words` | list of string | the prompt's words |
| `covered` | list of bool | for each word, whether the feedback covers it (`Feedback.covered`) |
| `plausibility`, `alignment`, `aesthetics`, `overall` | float32 | in [0, 1], higher is better |
| `implausibility_png`, `misalignment_png` | string | map files, relative to OUTPUT_DIR; `..._npy` if chosen |
| `keywords` | string | the model's text: the prompt with `_0` after each misaligned word |
| `misaligned` | list of bool | for each word, whether the image does not show it |
| `word_confidences` | list of float32 | for each word, how likely that is; null: unknown, or not asked for |
| `has_artifact`, `has_misalignment` | bool | verdicts (`Feedback.findings`); null where nothing decides |
| `artifact_probability`, `misalignment_probability` | float32 | of the verdicts; null without rules |
| `artifact_reasons`, `misalignment_reasons` | list of string | of the verdicts |
| `fingerprint` | string | checksum of the input; `richhf predict` alone writes it |
| `error_kind`, `error` | string | null where there is feedback; else all outputs are null |

Columns of outputs that were not asked for are absent. `richhf predict` writes verdicts with probabilities and
reasons; `launch.infer` has no calibration, and no such columns.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from richhf.atomic import atomic_path
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES, VERDICTS, Feedback
from richhf.inference.inputs import Failure, Input
from richhf.inference.predictions import asked_outputs
from richhf.models.choices import check_choice

PARQUET, JSONL = FORMATS = ("parquet", "jsonl")
MAP_FORMATS = ("png", "npy")
SUMMARY = "summary.json"
_MAPS = "maps"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Where shards are, what is in them, and how they are written.

    Attributes:
      folder: the output folder.
      num_inputs: of all shards.
      shard_size: inputs of a shard; the last one may have fewer.
      kinds: kinds of outputs, of `KINDS`, or names of single ones.
      format: of tables, of FORMATS.
      map_formats: of MAP_FORMATS.
      verdicts: whether rows have `has_artifact` and `has_misalignment`, and their probabilities and reasons.
      tag: in the names of shards, where a folder holds those of several lists of inputs.
      stems: names of each input's maps; absent: its index in eight digits.
      fingerprints: of each input (`inputs.fingerprint`), for a column of that name; absent: no such column.
      mark: in the names of what is not complete yet: another job's is another.
    """

    folder: Path
    num_inputs: int
    shard_size: int
    kinds: tuple[str, ...]
    format: str = PARQUET
    map_formats: tuple[str, ...] = ("png",)
    verdicts: bool = False
    tag: str = ""
    stems: Sequence[str] = ()
    fingerprints: Sequence[str] = ()
    mark: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self):
        check_choice("FORMAT", self.format, FORMATS)
        for name in self.map_formats:
            check_choice("a name in MAP_FORMATS", name, MAP_FORMATS)
        if self.shard_size < 1:
            raise ValueError(f"SHARD_SIZE is {self.shard_size}; expected 1 or more.")
        if self.format == PARQUET:
            _pyarrow()

    @property
    def count(self) -> int:
        """How many shards."""
        return -(-self.num_inputs // self.shard_size)

    def indices(self, shard: int) -> range:
        """The inputs of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.num_inputs))

    def table(self, shard: int) -> Path:
        """A shard's table."""
        return self.folder / f"shard-{self._number(shard)}.{self.format}"

    def missing(self) -> list[int]:
        """The shards that are not there yet."""
        return [shard for shard in range(self.count) if not self.is_there(shard)]

    def is_there(self, shard: int) -> bool:
        """Whether a shard is complete."""
        return self.table(shard).exists()

    def columns(self) -> dict[str, str]:
        """Names and types of a row's values, in order."""
        columns = {"index": "int64", "id": "string", "image": "string", "prompt": "string"}
        columns |= {"width": "int32", "height": "int32", "words": "strings", "covered": "bools"}
        outputs = asked_outputs(self.kinds)
        columns |= {name: "float32" for name in SCORES if name in outputs}
        maps = [name for name in HEATMAPS if name in outputs]
        columns |= {f"{name}_{end}": "string" for end in self.map_formats for name in maps}
        if KEYWORDS in outputs:
            columns |= {KEYWORDS: "string", "misaligned": "bools", "word_confidences": "floats"}
        if self.verdicts:
            columns |= dict.fromkeys(VERDICTS, "bool_")
            for end, kind in (("probability", "float32"), ("reasons", "strings")):
                columns |= {finding_column(name, end): kind for name in VERDICTS}
        if self.fingerprints:
            columns["fingerprint"] = "string"
        return columns | {"error_kind": "string", "error": "string"}

    def begin(self, shard: int) -> None:
        """Makes room for a shard."""
        (self._temporary(shard) / _MAPS).mkdir(parents=True)

    def failed(self, index: int, one: Input, failure: Failure) -> Row:
        """The row of an input without feedback."""
        return self._row(index, one) | {"error_kind": failure.kind.value, "error": printable(str(failure))}

    def add(self, index: int, one: Input, feedback: Feedback) -> Row:
        """Writes the maps of one input of a shard that was begun, and returns its row."""
        row = self._row(index, one)
        row["height"], row["width"] = feedback.image_size
        row["words"], row["covered"] = list(feedback.words), list(feedback.covered)
        row |= feedback.scores
        shard = index // self.shard_size
        for name, values in feedback.heatmaps.items():
            for end in self.map_formats:
                file = f"{self.stems[index] if self.stems else f'{index:08d}'}-{name}.{end}"
                _write_map(self._temporary(shard) / _MAPS / file, values)
                row[f"{name}_{end}"] = f"{self._maps(shard).name}/{file}"
        if feedback.keywords_text is not None:
            row[KEYWORDS], row["misaligned"] = feedback.keywords_text, list(feedback.misaligned)
            row["word_confidences"] = list(feedback.word_confidences) or None
        if self.verdicts:
            row |= feedback.verdicts
            for name, finding in feedback.findings.items():
                row[finding_column(name, "probability")] = finding.probability
                row[finding_column(name, "reasons")] = list(finding.reasons)
        return row

    def finish(self, shard: int, rows: Sequence[Row]) -> None:
        """Puts a shard in its place, the maps before the table; one that another job has put there stays."""
        temporary = self._temporary(shard)
        table = temporary / self.table(shard).name
        if self.format == PARQUET:
            _write_parquet(table, rows, self.columns())
        else:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            table.write_text("".join(lines), encoding="utf-8")
        if not self.is_there(shard):
            if self._maps(shard).exists():  # a killed job's, without a table
                self._maps(shard).replace(temporary / "old")
            if {*HEATMAPS} & {*asked_outputs(self.kinds)}:
                (temporary / _MAPS).replace(self._maps(shard))
            table.replace(self.table(shard))
        shutil.rmtree(temporary)

    def summarise(self) -> dict[str, Any]:
        """Counts the inputs of all shards, which must be there, and writes summary.json.

        What killed jobs left of shards is removed.

        Returns:
          {"inputs": N, "done": N, "failed": {kind: N}, "shards": N}.

        Raises:
          ValueError: a shard has not one row for each of its inputs.
        """
        kinds: Counter[str] = Counter()
        for shard in range(self.count):
            found = [row["error_kind"] or "" for row in _read_table(self.table(shard), ["error_kind"])]
            if len(found) != len(self.indices(shard)):
                raise ValueError(
                    f"{self.table(shard)} has {len(found)} rows, expected {len(self.indices(shard))}: remove "
                    "it, then run the same command again."
                )
            kinds.update(found)
        done = kinds.pop("", 0)
        failed = dict(sorted(kinds.items()))
        summary = {"inputs": done + kinds.total(), "done": done, "failed": failed, "shards": self.count}
        with atomic_path(self.folder / SUMMARY) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        for left in self.folder.glob(".shard-*.tmp"):
            shutil.rmtree(left)
        return summary

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Around what writes: an OSError then says what is to be done."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{self.folder} could not be written to: {error}\nWhat is complete stays. Free space or set "
                "permissions, then run the same command again to resume."
            ) from error

    def _row(self, index: int, one: Input) -> Row:
        texts = {"id": one.id, "image": one.image, "prompt": one.prompt}
        row = dict.fromkeys(self.columns()) | {"index": index, **{k: printable(v) for k, v in texts.items()}}
        return row | ({"fingerprint": self.fingerprints[index]} if self.fingerprints else {})

    def _temporary(self, shard: int) -> Path:
        return self.folder / f".shard-{self._number(shard)}.{self.mark}.tmp"

    def _maps(self, shard: int) -> Path:
        return self.folder / f"maps-{self._number(shard)}"

    def _number(self, shard: int) -> str:
        return f"{self.tag}{shard:05d}-of-{self.count:05d}"


def read_rows(folder: str | os.PathLike) -> Iterator[Row]:
    """The rows of all shards that an output folder has, in order."""
    for path in sorted(Path(folder).glob("shard-*-of-*.*")):
        yield from _read_table(path)


def _read_table(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    if path.suffix == f".{PARQUET}":
        yield from _pyarrow().parquet.read_table(path, columns=columns).to_pylist()
        return
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def finding_column(verdict: str, end: str) -> str:
    """Returns the column of a verdict's `probability` or `reasons`."""
    return f"{verdict.removeprefix('has_')}_{end}"


def printable(text: str) -> str:
    """A text that can be written as UTF-8: names of files may hold what cannot."""
    return text.encode(errors="backslashreplace").decode()


def _write_map(path: Path, values: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, values, allow_pickle=False)
    else:
        Image.fromarray(np.round(values * 255).astype(np.uint8)).save(path, "PNG")


def _write_parquet(path: Path, rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    arrow = _pyarrow()
    types = {"strings": arrow.list_(arrow.string()), "bools": arrow.list_(arrow.bool_())}
    types["floats"] = arrow.list_(arrow.float32())
    types |= {name: getattr(arrow, name)() for name in ("int32", "int64", "float32", "string", "bool_")}
    fields = [(name, types[kind]) for name, kind in columns.items()]
    arrow.parquet.write_table(arrow.Table.from_pylist(list(rows), arrow.schema(fields)), path)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow (pip install pyarrow); or set FORMAT='jsonl'") from error
    return pyarrow
