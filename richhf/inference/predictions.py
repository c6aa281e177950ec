"""From the arrays that a model gives for a batch to feedback on each image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from richhf.data.targets import TargetVocabulary, read_flags
from richhf.data.words import split_words
from richhf.evaluation.heatmaps import resize_maps
from richhf.feedback import HEATMAPS, KEYWORDS, OUTPUTS, SCORES, Feedback, Rule
from richhf.inference.encoder import Example
from richhf.models.choices import check_choice
from richhf.models.rahf import order_outputs

KINDS: dict[str, tuple[str, ...]] = {"scores": SCORES, "heatmaps": HEATMAPS, KEYWORDS: (KEYWORDS,)}
"""The kinds of outputs that can be asked for, and the model's outputs of each."""
_NAMES = tuple(dict.fromkeys((*KINDS, *OUTPUTS)))


def output_names(kinds: Sequence[str]) -> tuple[str, ...]:
    """The model's outputs for kinds of outputs, as `predict_batch` takes them.

    Raises:
      ValueError: an unknown kind, or none.
    """
    if isinstance(kinds, str) or not kinds:
        raise ValueError(f"outputs is {kinds!r}; expected a tuple of some of {', '.join(KINDS)}.")
    for kind in kinds:
        check_choice("an output", kind, tuple(KINDS))
    return tuple(name for kind, names in KINDS.items() if kind in kinds for name in names)


def asked_outputs(outputs: Any) -> tuple[str, ...]:
    """The model's outputs for kinds of outputs and names of single ones, in the project's order.

    Raises:
      ValueError: an unknown name, or none.
    """
    if isinstance(outputs, bytes) or not hasattr(outputs, "__iter__"):
        raise ValueError(f"outputs is {outputs!r}; expected some of {', '.join(_NAMES)}.")
    asked = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    for name in asked:
        check_choice("an output", name, _NAMES)
    return order_outputs([one for name in asked for one in KINDS.get(name, (name,))])


def read_prediction(
    prediction: Mapping[str, Any],
    row: int,
    example: Example,
    vocabulary: TargetVocabulary,
    outputs: Sequence[str] = OUTPUTS,
    thresholds: Mapping[str, float] | None = None,
    rules: Sequence[Rule] = (),
) -> Feedback:
    """The feedback in one row of a batch.

    Args:
      prediction: what the model's `predict_batch` gave, as numpy arrays; kinds that are not there are absent
        from the feedback.
      row: which row.
      example: what was predicted from.
      vocabulary: the model's, which reads its keywords (`richhf.data.targets`).
      outputs: the model's outputs that were asked for.
      thresholds: the model's, see `Feedback`.
      rules: likewise.

    Raises:
      ValueError: a value is not a number in [0, 1].
    """
    scores, maps, text = {}, {}, None
    words = split_words(example.prompt)
    covered = _read(words, example)
    flags: tuple[bool, ...] = ()
    if "scores" in prediction:
        scores = dict(zip(_some(SCORES, outputs), map(float, prediction["scores"][row]), strict=True))
    if "heatmaps" in prediction:
        stacked = resize_maps(np.asarray(prediction["heatmaps"][row], np.float32), example.image_size)
        maps = dict(zip(_some(HEATMAPS, outputs), stacked, strict=True))
    if "keyword_tokens" in prediction:
        tokens = np.asarray(prediction["keyword_tokens"][row]).tolist()
        text = vocabulary.decode(tokens)
        marks = read_flags(example.written, tokens, vocabulary)
        covered = tuple(read and mark is not None for read, mark in zip(covered, marks, strict=True))
        flags = tuple(there and bool(mark) for there, mark in zip(covered, marks, strict=True))
    return Feedback(
        prompt=example.prompt,
        scores=scores,
        heatmaps=maps,
        words=words,
        misaligned=flags,
        covered=covered,
        image_size=example.image_size,
        keywords_text=text,
        thresholds=thresholds or {},
        rules=tuple(rules),
    )


def _read(words: Sequence[str], example: Example) -> tuple[bool, ...]:
    count = len(words) if example.words_read is None else example.words_read
    return tuple(index < count for index in range(len(words)))


def _some(names: Sequence[str], outputs: Sequence[str]) -> list[str]:
    return [name for name in names if name in outputs]
