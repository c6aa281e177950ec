"""Checks of what a `Feedback` is made of."""

from collections.abc import Mapping, Sequence

import numpy as np

from richhf.feedback.names import choices

SLACK = 1e-4  # what a resize in float32 may overshoot


def in_order(values: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """Values by name in the order of names; any other name is an error."""
    for name in values:
        if name not in names:
            raise ValueError(f"Unknown output {name!r}: {choices(name, names)}")
    return {name: values[name] for name in names if name in values}


def checked_score(name: str, value: float) -> float:
    """A score within [0, 1]."""
    score = float(value)
    if not -SLACK <= score <= 1.0 + SLACK:
        raise ValueError(f"Score {name!r} is {score}, expected [0, 1]: a Likert mark m is (m - 1) / 4.")
    return min(max(score, 0.0), 1.0)


def checked_heatmap(name: str, value: object) -> np.ndarray:
    """A map as float32 [h w] within [0, 1]."""
    heatmap = np.asarray(value)
    if heatmap.ndim != 2 or heatmap.size == 0 or heatmap.dtype.kind != "f":
        raise ValueError(
            f"Heatmap {name!r} is {heatmap.dtype} {heatmap.shape}, expected floats (height, width)."
        )
    low, high = heatmap.min(), heatmap.max()
    if not (low >= -SLACK and high <= 1.0 + SLACK):
        raise ValueError(
            f"Heatmap {name!r} spans {low} to {high}, expected [0, 1]: divide 8-bit maps by 255."
        )
    return np.clip(heatmap, 0.0, 1.0).astype(np.float32)


def checked_words(
    words: Sequence[str],
    misaligned: Sequence[bool],
    confidences: Sequence[float | None],
    covered: Sequence[bool],
) -> dict[str, tuple[object, ...]]:
    """What is said of words, by field: one value a word, or none at all."""
    known = tuple(None if value is None else float(value) for value in confidences)
    fields = {
        "words": tuple(map(str, words)),
        "misaligned": tuple(map(bool, misaligned)),
        "word_confidences": known,
        "covered": tuple(map(bool, covered)),
    }
    for name, values in fields.items():
        if values and len(values) != len(words):
            raise ValueError(f"{len(values)} values of {name} for {len(words)} words; expected one a word.")
    if not all(value is None or 0 <= value <= 1 for value in known):
        raise ValueError(
            f"word_confidences are {known}; expected probabilities, or None where there is none."
        )
    return fields
