"""`FeedbackArrays`: feedback on many images as arrays, predicted or true; what metrics are computed on."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Real, UInt8

from richhf.data.records import Record
from richhf.data.targets import KeywordTarget, TargetVocabulary, find_marks
from richhf.data.words import LabelMismatch, mark_misaligned, match_labels_to_words, split_words
from richhf.feedback import HEATMAPS, SCORES


@dataclasses.dataclass(frozen=True, eq=False)
class FeedbackArrays:
    """Feedback on n images; outputs in the order of `HEATMAPS` and `SCORES`.

    What a target lacks is marked not valid and left out of the metrics; of a prediction the marks are
    ignored.

    Attributes:
      scores: `[n 4]`, in [0, 1].
      heatmaps: `[n 2 h w]`, floats in [0, 1], or uint8 where 255 means 1.
      keywords: marked texts, the prompt with `_0` after each misaligned word; for people to read.
      prompts: the plain prompts.
      filenames: names of the images, for messages and galleries.
      keyword_valid: `[n]`, whether the words of the prompt have labels.
      score_valid: `[n 4]`, which scores are known; all if None.
      heatmap_valid: `[n 2]`, which maps are known; all if None.
      flags: for each prompt whether each of its words is misaligned, which is what metrics compare; None for
        a word of which nothing is known. Read from `keywords` if not given.

    Raises:
      ValueError: the fields disagree about n, or the number of maps or scores is another.
    """

    scores: Float[np.ndarray, "n 4"]
    heatmaps: Float[np.ndarray, "n 2 h w"] | UInt8[np.ndarray, "n 2 h w"]
    keywords: list[str]
    prompts: list[str]
    filenames: list[str]
    keyword_valid: Bool[np.ndarray, " n"]
    score_valid: Bool[np.ndarray, "n 4"] = None  # type: ignore[assignment]
    heatmap_valid: Bool[np.ndarray, "n 2"] = None  # type: ignore[assignment]
    flags: list[tuple[bool | None, ...]] = None  # type: ignore[assignment]

    def __post_init__(self):
        n = len(self.filenames)
        if self.score_valid is None:
            object.__setattr__(self, "score_valid", np.ones((n, len(SCORES)), bool))
        if self.heatmap_valid is None:
            object.__setattr__(self, "heatmap_valid", np.ones((n, len(HEATMAPS)), bool))
        if self.flags is None:
            object.__setattr__(self, "flags", list(map(find_marks, self.prompts, self.keywords)))
        lengths = {field.name: len(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if set(lengths.values()) != {n}:
            raise ValueError(f"The fields of FeedbackArrays are of different lengths: {lengths}.")
        if self.scores.shape != (n, len(SCORES)) or self.heatmaps.shape[:-2] != (n, len(HEATMAPS)):
            raise ValueError(
                f"Expected scores [{n}, {len(SCORES)}] {SCORES} and heatmaps [{n}, {len(HEATMAPS)}, h, w] "
                f"{HEATMAPS}; got {self.scores.shape} and {self.heatmaps.shape}."
            )

    def __len__(self) -> int:
        return len(self.filenames)

    def unit_heatmaps(self, name: str) -> Float[np.ndarray, "n h w"]:
        """The maps of one name as floats in [0, 1]."""
        return unit_maps(self.heatmaps[:, HEATMAPS.index(name)])

    def select(self, indices: Sequence[int] | slice) -> "FeedbackArrays":
        """The examples at `indices`, in that order."""
        rows = np.arange(len(self))[indices]
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            chosen[field.name] = [value[i] for i in rows] if isinstance(value, list) else value[rows]
        return FeedbackArrays(**chosen)


def unit_maps(maps: Real[np.ndarray, "*size"] | Real[Array, "*size"]) -> Any:
    """Maps as floats in [0, 1]; of uint8 ones 255 means 1."""
    return maps.astype(np.float32) / np.float32(255) if maps.dtype == np.uint8 else maps


def records_to_arrays(
    records: Sequence[Record],
    *,
    prompts: Sequence[str | None] | None = None,
    vocabulary: TargetVocabulary | None = None,
) -> FeedbackArrays:
    """Stacks records.

    Args:
      records: records with maps of one size.
      prompts: their prompts, where the records themselves have none (truth beside a record may lack it).
      vocabulary: of the models to compare with. Words that it cannot read have no flag.

    Returns:
      The arrays, maps as uint8. A record without a prompt, or whose labels do not fit its prompt's words, has
      no valid keywords.

    Raises:
      ValueError: there is no record, or the maps are of several sizes.
    """
    if not records:
        raise ValueError("No records to compare: expected at least one.")
    sizes = sorted({heatmap.shape for record in records for heatmap in record.heatmaps.values()})
    if len(sizes) > 1:
        raise ValueError(
            f"Heatmaps of one batch must have one size; got {sizes}. Prepare the set at one size."
        )
    texts = [
        record.prompt or prompt or ""
        for record, prompt in zip(records, prompts or [None] * len(records), strict=True)
    ]
    flags = [_flags(text, record.labels) for text, record in zip(texts, records, strict=True)]
    keywords = [
        text if known is None else mark_misaligned(text, known)
        for text, known in zip(texts, flags, strict=True)
    ]
    unlabelled = [known or (None,) * len(split_words(text)) for text, known in zip(texts, flags, strict=True)]
    return FeedbackArrays(
        scores=np.array([[record.scores[name] for name in SCORES] for record in records], np.float32),
        heatmaps=np.stack([[record.heatmaps[name] for name in HEATMAPS] for record in records]),
        keywords=keywords,
        prompts=texts,
        filenames=[record.filename for record in records],
        keyword_valid=np.array([known is not None for known in flags]),
        flags=readable_flags(texts, unlabelled, vocabulary),
    )


def record_batches(records: Iterable[Record], size: int = 32) -> Iterator[FeedbackArrays]:
    """Stacks an iterable of records, `size` at a time, so that a large set never lies in memory at once."""
    records = iter(records)
    while batch := list(itertools.islice(records, size)):
        yield records_to_arrays(batch)


def readable_flags(
    prompts: Sequence[str],
    flags: Sequence[tuple[bool | None, ...]],
    vocabulary: TargetVocabulary | None,
) -> list[tuple[bool | None, ...]]:
    """Returns flags of prompts' words with None for each word that a vocabulary cannot read.

    Args:
        prompts: the prompts.
        flags: for each prompt the flags of its words.
        vocabulary: None: every word stays as it is.
    """
    if vocabulary is None:
        return list(flags)
    return [
        tuple(
            flag if known else None
            for flag, known in zip(row, KeywordTarget(prompt, vocabulary).readable, strict=True)
        )
        for prompt, row in zip(prompts, flags, strict=True)
    ]


def _flags(prompt: str, labels: Sequence[int]) -> tuple[bool, ...] | None:
    try:
        return tuple(flag for _, flag in match_labels_to_words(prompt, labels)) if prompt else None
    except LabelMismatch:
        return None
