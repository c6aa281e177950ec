"""Records: RichHF-18K's `tf.train.Example` with eight features, plus our `image` and `prompt`.

| feature | kind | here |
|---|---|---|
| `filename` | bytes | `Record.filename`, like `train/<uid>.png` |
| `artifact_score`, `misalignment_score` | float in [0, 1] | `Record.scores`: plausibility, alignment |
| `aesthetics_score`, `overall_score` | float in [0, 1] | `Record.scores` |
| `artifact_map`, `misalignment_map` | bytes: encoded 8-bit one-channel image | `Record.heatmaps` |
| `prompt_misalignment_label` | bytes: `"1 1 0 1"`, 0 = misaligned | `Record.labels` |
| `image` (ours, optional) | bytes: PNG or JPEG | `Record.image` |
| `prompt` (ours, optional) | bytes: UTF-8 | `Record.prompt` |

All scores: higher is better, also `artifact_score` and `misalignment_score`.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from richhf.data import words
from richhf.data.checks import (
    HEATMAP_FEATURES,
    IMAGE_FORMATS,
    LABEL_FEATURE,
    SCORE_FEATURES,
    UNDECODABLE,
    Checker,
    RecordError,
    reason,
)
from richhf.data.examples import OnError, parse_features, read_examples, serialize_features, write_examples
from richhf.data.framing import refuse_twins
from richhf.feedback import Feedback, open_encoded, to_rgb, upright

Paths = str | os.PathLike | Sequence[str | os.PathLike]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Record:
    """One image's consolidated labels, with the image and prompt where known.

    Attributes:
        filename: name in the data set, like `train/<uid>.png`.
        scores: by name of `SCORES`, in [0, 1], higher is better. A file holds them as float32.
        heatmaps: by name of `HEATMAPS`, both of one size; 255 means 1.0.
        labels: one for each word of the prompt, 1 aligned, 0 misaligned. In RichHF-18K some lists differ in
            length from the prompt's words: see `richhf.data.words.match_labels_to_words`.
        image: encoded PNG or JPEG.
        prompt: the text the image was generated from.
    """

    filename: str
    scores: dict[str, float]
    heatmaps: dict[str, UInt8[np.ndarray, "h w"]]
    labels: tuple[int, ...]
    image: bytes | None = None
    prompt: str | None = None

    def __repr__(self) -> str:
        """Returns one line, without the bytes of image and maps."""
        parts = [repr(self.filename), *(f"{name}={value:.4f}" for name, value in self.scores.items())]
        parts += [f"{name}: {' x '.join(map(str, heatmap.shape))}" for name, heatmap in self.heatmaps.items()]
        parts.append(f"labels={self.labels}")
        parts.append("no image" if self.image is None else f"image of {len(self.image):,} bytes")
        return f"Record({', '.join([*parts, f'prompt={self.prompt!r}'])})"

    def decode_image(self) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes the image to RGB, turned as people see it.

        Raises:
            ValueError: if the record has no image or it cannot be decoded.
        """
        if self.image is None:
            raise ValueError(f"record {self.filename!r} has no image; join the labels with images first")
        try:
            return np.array(to_rgb(upright(open_encoded(self.image, IMAGE_FORMATS), self.image)))
        except UNDECODABLE as error:
            raise ValueError(
                f"the image of record {self.filename!r} cannot be decoded: {reason(error)}"
            ) from error

    def to_feedback(self) -> Feedback:
        """Returns the labels as a `Feedback` at the heatmaps' size; no flags if labels do not fit words."""
        found = words.split_words(self.prompt or "")
        flags = tuple(label == 0 for label in self.labels) if len(found) == len(self.labels) else ()
        return Feedback(
            prompt=self.prompt or "",
            scores=self.scores,
            heatmaps={name: heatmap / np.float32(255) for name, heatmap in self.heatmaps.items()},
            words=found,
            misaligned=flags,
        )


def encode_png(pixels: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encodes a map (one channel) or an RGB image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def record_to_example(record: Record, *, file: str = "(memory)", index: int = 0) -> bytes:
    """Serializes a record as `tf.train.Example`; equal records give equal bytes.

    Args:
        record: what to write.
        file: where it goes, for the error.
        index: its position there, for the error.

    Raises:
        RecordError: if a value is out of range or missing, as when reading.
    """
    check = Checker(file=file, index=index)
    for mapping, names in ((record.scores, SCORE_FEATURES), (record.heatmaps, HEATMAP_FEATURES)):
        for name, feature in names.items():
            if name not in mapping:
                raise check.error(feature, f"only {sorted(mapping)}", f"a value under {name!r}")
    if set(record.labels) - {0, 1}:
        raise check.error(LABEL_FEATURE, repr(record.labels), "0 (misaligned) or 1 (aligned) for each word")
    scores = {feature: check.score(feature, record.scores[name]) for name, feature in SCORE_FEATURES.items()}
    check.same_size(record.heatmaps)

    values: dict[str, bytes | float] = {
        "filename": record.filename.encode(),
        **{feature: encode_png(record.heatmaps[name]) for name, feature in HEATMAP_FEATURES.items()},
        LABEL_FEATURE: " ".join(str(int(label)) for label in record.labels).encode(),
        **scores,
    }
    if record.image is not None:
        values["image"] = check.image(record.image)
    if record.prompt is not None:
        values["prompt"] = record.prompt.encode()
    return serialize_features(values)


def example_to_record(serialized: bytes, *, file: str = "(memory)", index: int = 0) -> Record:
    """Parses and checks one `tf.train.Example`.

    Args:
        serialized: the example's bytes.
        file: where it comes from, for the error.
        index: its position there, for the error.

    Raises:
        RecordError: for a missing feature, one of the wrong kind, a score that is not a number in [0, 1], a
            map that is not a decodable 8-bit one-channel image, maps of two sizes, labels other than 0 and 1,
            an image that is neither PNG nor JPEG, or text that is not UTF-8.
    """
    check = Checker(file=file, index=index)
    features = parse_features(serialized, check)
    scores = {
        name: check.score(feature, check.value(features, feature, "float_list"))
        for name, feature in SCORE_FEATURES.items()
    }
    heatmaps = {
        name: check.heatmap(feature, check.value(features, feature, "bytes_list"))
        for name, feature in HEATMAP_FEATURES.items()
    }
    check.same_size(heatmaps)
    label = check.text(features, LABEL_FEATURE)
    try:
        labels = words.parse_labels(label)
    except ValueError as error:
        raise check.error(LABEL_FEATURE, str(error).split(";")[0], "0 and 1 joined by spaces") from error
    return Record(
        filename=check.text(features, "filename"),
        scores=scores,
        heatmaps=heatmaps,
        labels=labels,
        image=check.image(check.value(features, "image", "bytes_list")) if "image" in features else None,
        prompt=check.text(features, "prompt") if "prompt" in features else None,
    )


def write_records(path: str | os.PathLike, records: Iterable[Record]) -> int:
    """Writes a record file and returns the number of records.

    The file appears under its name only when it is complete; an error or interruption leaves nothing behind.

    Raises:
        RecordError: if a record is malformed.
        OSError: if the file cannot be written.
    """
    return write_examples(
        path,
        (record_to_example(record, file=str(path), index=index) for index, record in enumerate(records)),
    )


def read_records(paths: Paths, *, on_error: OnError | None = None) -> Iterator[Record]:
    """Reads the records of one file or of several, in order.

    Args:
        paths: a record file, or a sequence of them.
        on_error: called with each malformed record, which is then skipped. Without it the first is raised.

    Raises:
        RecordError: if a record is malformed or the file is cut short or damaged.
        OSError: if a file cannot be read.
    """
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        for index, serialized in enumerate(read_examples(str(path), on_error)):
            try:
                record = example_to_record(serialized, file=str(path), index=index)
            except RecordError as error:
                if on_error is None:
                    raise
                on_error(error)
            else:
                yield record


def list_record_files(path: str | os.PathLike) -> tuple[pathlib.Path, ...]:
    """Lists record files: the file itself, or all `*.tfrecord*` directly in a folder, sorted by name.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if the folder holds no record file, or one both plain and compressed.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; expected a record file or a folder of them")
    files = tuple(sorted(file for file in path.glob("*.tfrecord*") if not file.name.startswith(".")))
    refuse_twins(files)
    if not files:
        raise ValueError(f"no *.tfrecord file in {path}; make some with `richhf synthesize`")
    return files
