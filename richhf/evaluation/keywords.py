"""Precision, recall and F1 of the misaligned keywords, in the two conventions in use (paper, section 4.2).

A prediction and a target are flags of the words of one prompt.

- `pooled` (the paper: "token precision, recall and F1 over all samples"): hits, false alarms and misses are
  summed over the samples, then divided once. Words are compared position by position, so that flagging the
  other of two equal words is a mistake.
- `per_sample` (the code of the first author's PyTorch reproduction): the *sets* of misaligned words are
  compared in each sample, and precision, recall and F1 are averaged over the samples. A sample without a
  misaligned word in its target counts 0 in all three, even when nothing was flagged, so that a perfect
  prediction stays below 1 by the share of fully aligned prompts.

A word that a prediction does not cover (None) counts as not flagged. A word that the target does not cover,
because the vocabulary cannot read it, is left out. `keyword_metrics` also compares marked texts: the prompt
with `_0` directly after each misaligned word. Without the prompts, texts of different words are compared as
multisets in the pooled convention.

Words are compared as they are, case included. In both conventions 0 / 0 counts 0; over no samples at all
every value is nan (null in `metrics.json`).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from richhf.data.targets import find_marks
from richhf.data.words import read_marks, split_words

CONVENTIONS = ("pooled", "per_sample")
KEYWORD_METRICS = ("precision", "recall", "f1")


Flags = Sequence[bool | None]
"""For each word of a prompt whether it is misaligned; None where that is unknown."""
Marks = Sequence[tuple[str, bool]]


def keyword_metrics(
    predicted: Sequence[str], target: Sequence[str], prompts: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Compares predicted with true misaligned words in marked texts, in both conventions.

    Args:
        predicted: marked texts, one a sample.
        target: marked prompts of the same samples.
        prompts: the prompts without marks. With them, a prompt's own word that ends in `_0` is not taken for
            a marked one, and words that a text changed or dropped are aligned with the prompt's.

    Returns:
        `{"pooled": {"precision", "recall", "f1"}, "per_sample": {...}}`, values in [0, 1].

    Raises:
        ValueError: the lists differ in length, or a single text was given for a list.
    """
    texts = (predicted, target) if prompts is None else (predicted, target, prompts)
    if any(isinstance(part, str) or len(part) != len(predicted) for part in texts):
        names = ("predicted", "target", "prompts")
        got = " and ".join(f"{_describe(part)} ({name})" for name, part in zip(names, texts, strict=False))
        raise ValueError(f"keyword_metrics compares lists of texts of one length; got {got}.")
    if prompts is not None:
        pairs = [
            [find_marks(prompt, text) for prompt, text in zip(prompts, part, strict=True)]
            for part in texts[:2]
        ]
        return flag_metrics(prompts, *pairs)
    return _metrics([(read_marks(p), read_marks(t)) for p, t in zip(predicted, target, strict=True)])


def flag_metrics(
    prompts: Sequence[str], predicted: Sequence[Flags], target: Sequence[Flags]
) -> dict[str, dict[str, float]]:
    """Compares the flags of prompts' words; returns what `keyword_metrics` does.

    Args:
        prompts: the prompts.
        predicted: for each prompt the flags of its words; None counts as not flagged.
        target: the true flags; words with None are left out.
    """
    samples = zip(prompts, predicted, target, strict=True)
    return _metrics([pair_marks(*sample) for sample in samples])


def pair_marks(prompt: str, predicted: Flags, target: Flags) -> tuple[Marks, Marks]:
    """Returns the words of a prompt that the target covers, with predicted and with true flags."""
    known = [row for row in zip(split_words(prompt), predicted, target, strict=True) if row[2] is not None]
    return [(word, bool(flag)) for word, flag, _ in known], [(word, bool(flag)) for word, _, flag in known]


def count_marks(predicted: Marks, target: Marks) -> tuple[int, int, int]:
    """Counts hits, false alarms and misses among the words of one sample, as the pooled convention does."""
    if [word for word, _ in predicted] == [word for word, _ in target]:
        pairs = [(p, t) for (_, p), (_, t) in zip(predicted, target, strict=True)]
        return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))
    flagged = Counter(word for word, flag in predicted if flag)
    misaligned = Counter(word for word, flag in target if flag)
    hits = (flagged & misaligned).total()
    return hits, flagged.total() - hits, misaligned.total() - hits


def sample_rates(predicted: Marks, target: Marks) -> tuple[float, float, float]:
    """Returns precision, recall and F1 of one sample's set of misaligned words, for the mean over samples."""
    flagged = {word for word, flag in predicted if flag}
    misaligned = {word for word, flag in target if flag}
    hits = len(flagged & misaligned)
    return _rates(hits, len(flagged) - hits, len(misaligned) - hits)


def _metrics(pairs: Sequence[tuple[Marks, Marks]]) -> dict[str, dict[str, float]]:
    if not pairs:
        return {convention: dict.fromkeys(KEYWORD_METRICS, float("nan")) for convention in CONVENTIONS}
    pooled = np.sum([count_marks(*pair) for pair in pairs], axis=0)
    samples = np.mean([sample_rates(*pair) for pair in pairs], axis=0)
    return {
        "pooled": dict(zip(KEYWORD_METRICS, _rates(*map(int, pooled)), strict=True)),
        "per_sample": dict(zip(KEYWORD_METRICS, map(float, samples), strict=True)),
    }


def _rates(hits: int, alarms: int, misses: int) -> tuple[float, float, float]:
    precision = hits / (hits + alarms) if hits + alarms else 0.0
    recall = hits / (hits + misses) if hits + misses else 0.0
    return precision, recall, 2 * hits / (2 * hits + alarms + misses) if hits else 0.0


def _describe(texts: Sequence[str]) -> str:
    return f"one text {texts!r}" if isinstance(texts, str) else f"{len(texts)} texts"
