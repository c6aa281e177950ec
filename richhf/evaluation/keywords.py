"""Precision, recall and F1 of the misaligned keywords, in the two conventions in use (paper, section 4.2).

A prediction and a target are marked texts: the prompt with `_0` directly after each misaligned word.

- `pooled` (the paper: "token precision, recall and F1 over all samples"): hits, false alarms and misses are
  summed over the samples, then divided once. Where the predicted text copies the prompt, that is, where both
  texts have the same words, words are compared position by position, so that flagging the other of two equal
  words is a mistake. Where the texts differ (a word changed, dropped or repeated in decoding) positions mean
  nothing, and the misaligned words are compared as multisets.
- `per_sample` (the code of the first author's PyTorch reproduction): the *sets* of misaligned words are
  compared in each sample, and precision, recall and F1 are averaged over the samples. A sample without a
  misaligned word in its target counts 0 in all three, even when nothing was flagged, so that a perfect
  prediction stays below 1 by the share of fully aligned prompts.

Words are compared as they are, case included. In both conventions 0 / 0 counts 0; over no samples at all
every value is nan (null in `metrics.json`).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from richhf.data.words import read_marks

CONVENTIONS = ("pooled", "per_sample")
KEYWORD_METRICS = ("precision", "recall", "f1")


def keyword_metrics(predicted: Sequence[str], target: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compares predicted with true misaligned words, in both conventions.

    Args:
      predicted: marked texts, as decoded, one a sample.
      target: marked prompts of the same samples.

    Returns:
      `{"pooled": {"precision", "recall", "f1"}, "per_sample": {...}}`, values in [0, 1].

    Raises:
      ValueError: the lists differ in length, or a single text was given for a list.
    """
    if isinstance(predicted, str) or isinstance(target, str) or len(predicted) != len(target):
        raise ValueError(
            "keyword_metrics compares two lists of marked texts of one length; got "
            f"{_describe(predicted)} (predicted) and {_describe(target)} (target)."
        )
    if not predicted:
        return {convention: dict.fromkeys(KEYWORD_METRICS, float("nan")) for convention in CONVENTIONS}
    pairs = list(zip(predicted, target, strict=True))
    pooled = np.sum([keyword_counts(*pair) for pair in pairs], axis=0)
    samples = np.mean([sample_rates(*pair) for pair in pairs], axis=0)
    return {
        "pooled": dict(zip(KEYWORD_METRICS, _rates(*map(int, pooled)), strict=True)),
        "per_sample": dict(zip(KEYWORD_METRICS, map(float, samples), strict=True)),
    }


def keyword_counts(predicted: str, target: str) -> tuple[int, int, int]:
    """Counts hits, false alarms and misses among the words of one sample, as the pooled convention does."""
    predicted_marks, target_marks = read_marks(predicted), read_marks(target)
    if [word for word, _ in predicted_marks] == [word for word, _ in target_marks]:
        pairs = [(p, t) for (_, p), (_, t) in zip(predicted_marks, target_marks, strict=True)]
        return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))
    flagged = Counter(word for word, flag in predicted_marks if flag)
    misaligned = Counter(word for word, flag in target_marks if flag)
    hits = (flagged & misaligned).total()
    return hits, flagged.total() - hits, misaligned.total() - hits


def sample_rates(predicted: str, target: str) -> tuple[float, float, float]:
    """Precision, recall and F1 of the set of misaligned words of one sample, for the mean over samples."""
    flagged = {word for word, flag in read_marks(predicted) if flag}
    misaligned = {word for word, flag in read_marks(target) if flag}
    hits = len(flagged & misaligned)
    return _rates(hits, len(flagged) - hits, len(misaligned) - hits)


def _rates(hits: int, alarms: int, misses: int) -> tuple[float, float, float]:
    precision = hits / (hits + alarms) if hits + alarms else 0.0
    recall = hits / (hits + misses) if hits + misses else 0.0
    return precision, recall, 2 * hits / (2 * hits + alarms + misses) if hits else 0.0


def _describe(texts: Sequence[str]) -> str:
    return f"one text {texts!r}" if isinstance(texts, str) else f"{len(texts)} texts"
