"""Findings: whether an image has an artifact or misses its prompt, judged by all that was predicted, and why.

Evidence is what a prediction says for a fault, as numbers in [0, 1] that grow with it:

| evidence | of | value |
|---|---|---|
| `implausibility peak`, `misalignment peak` | a map | its largest value |
| `implausibility area`, `misalignment area` | a map | square root of its mean |
| `plausibility`, `alignment` | a score | 1 - score |
| `word confidence` | the words | the largest of the words' confidences |
| `flagged words` | the words | n / (1 + n) for n flagged words |

A `Rule` weighs the evidence of one set of outputs. `richhf.inference.thresholds` fits the rules.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from richhf.feedback.names import HEATMAPS, KEYWORDS, SCORES, VERDICTS, choices

ARTIFACT, MISALIGNMENT = VERDICTS
OUTPUTS_OF = {
    ARTIFACT: ("implausibility", "plausibility"),
    MISALIGNMENT: ("misalignment", "alignment", KEYWORDS),
}
"""The outputs that speak of each verdict: a map, a score and, of misalignments, the words."""
EVIDENCE_OF = {
    **{name: (f"{name} peak", f"{name} area") for name in HEATMAPS},
    **{name: (name,) for name in SCORES},
    KEYWORDS: ("word confidence", "flagged words"),
}
"""The evidence that each output gives."""
SHOWN_WORDS = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """A verdict with its reasons.

    Attributes:
        verdict: whether there is a fault of the kind.
        probability: the rule's, in [0, 1], for an image from a set of which half has such a fault; None for a
            model without rules, whose verdict is by one threshold.
        reasons: short English sentences.
    """

    verdict: bool
    probability: float | None
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the evidence of one set of outputs is combined: a logistic regression with weights of 0 or more.

    Attributes:
        verdict: of `VERDICTS`.
        weights: by name of evidence; all the evidence of the outputs that the rule is for.
        bias: what is added.
        threshold: from this probability on, the verdict is True.

    Raises:
        ValueError: an unknown name, a weight below 0 or a threshold outside [0, 1].
    """

    verdict: str
    weights: Mapping[str, float]
    bias: float
    threshold: float

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"a rule's verdict is {self.verdict!r}: {choices(self.verdict, VERDICTS)}")
        names = tuple(one for name in OUTPUTS_OF[self.verdict] for one in EVIDENCE_OF[name])
        for name, weight in self.weights.items():
            if name not in names:
                raise ValueError(f"a rule of {self.verdict} weighs {name!r}: {choices(name, names)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"a rule weighs {name} by {weight!r}; expected a number of 0 or more.")
        if not self.outputs or any(set(EVIDENCE_OF[name]) - {*self.weights} for name in self.outputs):
            raise ValueError(
                f"a rule of {self.verdict} weighs {', '.join(self.weights) or 'nothing'}; expected all the "
                "evidence of each output that it uses."
            )
        if not math.isfinite(self.bias) or not 0 <= self.threshold <= 1:
            raise ValueError(
                f"a rule has bias {self.bias!r} and threshold {self.threshold!r}; expected a number, and "
                "one in [0, 1]."
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs whose evidence it weighs."""
        used = OUTPUTS_OF[self.verdict]
        return tuple(name for name in used if not self.weights.keys().isdisjoint(EVIDENCE_OF[name]))

    def probability(self, evidence: Mapping[str, float]) -> float:
        """Returns the probability of a fault, from the values of `evidence_of`."""
        total = self.bias + sum(weight * evidence[name] for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-min(max(total, -700.0), 700.0)))

    def to_dict(self) -> dict[str, Any]:
        """Returns its attributes as JSON values."""
        return dataclasses.asdict(self) | {"weights": dict(self.weights)}

    @classmethod
    def from_dict(cls, values: Any) -> "Rule":
        """Returns the rule of what `to_dict` gave.

        Raises:
            ValueError: it is not of that form.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, Mapping) or {*values} != {*names}:
            raise ValueError(f"a rule is {values!r:.80}; expected an object with {', '.join(names)}.")
        weights, numbers = values["weights"], [values["bias"], values["threshold"]]
        if not isinstance(weights, Mapping) or any(
            type(number) not in (int, float) for number in (*weights.values(), *numbers)
        ):
            raise ValueError(f"a rule's weights, bias and threshold are {values!r:.80}; expected numbers.")
        return cls(values["verdict"], dict(weights), *map(float, numbers))


def evidence_of(
    heatmaps: Mapping[str, np.ndarray],
    scores: Mapping[str, float],
    flagged: int,
    confidences: Sequence[float | None],
) -> dict[str, float]:
    """Returns the evidence of a prediction by name; of outputs that are absent there is none.

    Args:
        heatmaps: by name, in [0, 1].
        scores: by name, in [0, 1].
        flagged: how many words are flagged.
        confidences: of the words, None where one is unknown. The words give evidence where one is known.
    """
    evidence: dict[str, float] = {}
    for name, heatmap in heatmaps.items():
        evidence[f"{name} peak"] = float(heatmap.max())
        evidence[f"{name} area"] = float(np.sqrt(heatmap.mean(dtype=np.float64)))
    evidence |= {name: 1.0 - score for name, score in scores.items()}
    known = [value for value in confidences if value is not None]
    if known:
        evidence |= {"word confidence": max(known), "flagged words": flagged / (1 + flagged)}
    return evidence


def judge(
    verdict: str,
    evidence: Mapping[str, float],
    flagged_words: Sequence[str],
    rules: Sequence[Rule],
    thresholds: Mapping[str, float],
) -> Finding | None:
    """Judges one image. A flagged word is a misalignment, whatever else was predicted.

    Args:
        verdict: of `VERDICTS`.
        evidence: what `evidence_of` gave.
        flagged_words: the words of the prompt that are flagged.
        rules: the model's; the one that uses most of what there is decides.
        thresholds: the model's, of single outputs: they explain, and decide where there are no rules (the
            map's before the score's).

    Returns:
        The finding; None where the model is not calibrated for what was predicted.
    """
    flags = tuple(flagged_words) if verdict == MISALIGNMENT else ()
    usable = [rule for rule in rules if rule.verdict == verdict and rule.weights.keys() <= evidence.keys()]
    rule = max(usable, key=lambda one: len(one.outputs), default=None)
    past = {
        name: reached(name, evidence, thresholds[name])
        for name in OUTPUTS_OF[verdict]
        if name in thresholds and EVIDENCE_OF[name][0] in evidence
    }
    probability = None
    if rule is not None:
        past = {name: value for name, value in past.items() if name in rule.outputs}
        probability = rule.probability(evidence)
        found = bool(flags) or probability >= rule.threshold
    elif past or (flags and thresholds):
        past = dict(list(past.items())[:1])
        found = bool(flags) or any(past.values())
    else:
        return None
    reasons = [_flag_reason(flags)] if flags else []
    reasons += [_reason(name, evidence, thresholds[name]) for name, is_past in past.items() if is_past]
    if rule is not None and probability is not None and bool(reasons) != found:
        compared = _compared(probability, rule.threshold, below=not found)
        reasons.append(f"together this makes a probability of {compared}")
    if not found:
        reasons += [
            _reason(name, evidence, thresholds[name]) for name, is_past in past.items() if not is_past
        ]
    if not flags and verdict == MISALIGNMENT and (rule is None or KEYWORDS in rule.outputs):
        reasons += ["no word is flagged"] if "word confidence" in evidence else []
    return Finding(found, probability, tuple(reasons))


def reached(name: str, evidence: Mapping[str, float], threshold: float) -> bool:
    """Returns whether a map's peak is at its threshold or above, or a score below its own."""
    if name in HEATMAPS:
        return evidence[f"{name} peak"] >= threshold
    return 1.0 - evidence[name] < threshold


def _reason(name: str, evidence: Mapping[str, float], threshold: float) -> str:
    is_past = reached(name, evidence, threshold)
    if name in HEATMAPS:
        peak = evidence[f"{name} peak"]
        return f"the {name} map peaks at {_compared(peak, threshold, below=not is_past)}"
    return f"the {name} score is {_compared(1.0 - evidence[name], threshold, below=is_past)}"


def _compared(value: float, threshold: float, *, below: bool) -> str:
    digits = 2 if f"{value:.2f}" != f"{threshold:.2f}" else 4
    how = ", below the threshold {}" if below else " (threshold {})"
    return f"{value:.{digits}f}" + how.format(f"{threshold:.{digits}f}")


def _flag_reason(words: Sequence[str]) -> str:
    quoted = [f'"{word}"' for word in words[:SHOWN_WORDS]]
    more = len(words) - len(quoted)
    if more:
        quoted.append(f"{more} more")
    if len(quoted) == 1:
        return f"the word {quoted[0]} is flagged"
    return f"the words {', '.join(quoted[:-1])} and {quoted[-1]} are flagged"
