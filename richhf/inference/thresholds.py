"""Calibration of verdicts on examples whose truth is known.

The truth of a verdict is what a majority of the annotators marked: of artifacts, whether the true
implausibility map reaches 0.5 anywhere; of misalignments, whether the true misalignment map does or a word is
labelled misaligned. What a single one of three annotators marked is no fault.

A rule is fitted for each set of outputs that may be asked for (`richhf.feedback.findings`): a logistic
regression on all the evidence of these outputs. Its threshold gives both error rates, false positives and
false negatives, equal weight. A flagged word is a misalignment by itself; the threshold takes that into
account. Thresholds of single maps and scores, with the same balance, explain a verdict.

Error rates are measured on held-out examples: others, or by five-fold cross-validation.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from richhf.data.records import Record
from richhf.feedback import HEATMAPS, KEYWORDS, Feedback, Rule
from richhf.feedback.findings import EVIDENCE_OF, OUTPUTS_OF, evidence_of, judge
from richhf.inference.predictor import Predictor
from richhf.inference.rules import balanced_threshold, fit_weights, wilson_interval

BALANCE = "equal weight to the false positive rate and the false negative rate"
TRUTH = "marked by a majority of the annotators: a map reaches 0.5, or (misalignment) a word is labelled"
INTERVALS = "95 % (Wilson)"
FOLDS = 5
MAJORITY = 0.5
BATCH = 32
RATES = ("precision", "recall", "false_positive_rate", "false_negative_rate")


@dataclasses.dataclass(frozen=True)
class Case:
    """One example: the evidence that was predicted, the flagged words, and the truth by verdict."""

    evidence: Mapping[str, float]
    flagged_words: tuple[str, ...]
    truth: Mapping[str, bool]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What calibration finds.

    Attributes:
        thresholds: of single maps and scores, for `Settings.thresholds`.
        rules: for `Settings.rules`.
        report: how it was made and the error rates on held-out examples; JSON values by name.
    """

    thresholds: Mapping[str, float]
    rules: tuple[Rule, ...]
    report: Mapping[str, Any]


def true_verdicts(true: Feedback) -> dict[str, bool]:
    """Returns what a majority of the annotators marked, by verdict; absent where the truth says nothing."""
    truth = {}
    for verdict, outputs in OUTPUTS_OF.items():
        marked = [true.heatmaps[name].max() >= MAJORITY for name in outputs if name in true.heatmaps]
        if KEYWORDS in outputs and true.misaligned:
            marked.append(any(true.misaligned))
        if marked:
            truth[verdict] = bool(any(marked))
    return truth


def read_case(predicted: Feedback, true: Feedback) -> Case:
    """Returns what calibration needs of a prediction and its truth."""
    confidences = predicted.word_confidences if predicted.misaligned else ()
    evidence = evidence_of(predicted.heatmaps, predicted.scores, sum(predicted.misaligned), confidences)
    return Case(evidence, predicted.misaligned_words, true_verdicts(true))


def predict_cases(predictor: Predictor, records: Iterable[Record]) -> list[Case]:
    """Returns a case for each of some records with image and prompt."""
    records, cases = iter(records), []
    while batch := list(itertools.islice(records, BATCH)):
        images, prompts = [one.decode_image() for one in batch], [one.prompt or "" for one in batch]
        predictions = predictor(images, prompts, batch_size=BATCH)
        cases += [
            read_case(one, record.to_feedback()) for one, record in zip(predictions, batch, strict=True)
        ]
    return cases


def calibrate(cases: Sequence[Case], held_out: Sequence[Case] | None = None) -> Calibration:
    """Calibrates the verdicts of a model.

    Args:
        cases: examples, best those of the dev split. Outputs that were predicted for none of them are passed
            over, as are examples whose truth says nothing of a verdict.
        held_out: other examples, to measure error rates on; None: they are measured on `cases` by
            cross-validation.

    Returns:
        Rules and thresholds; none for what cannot be calibrated: where every truth, or none, has a fault.
    """
    thresholds, rules = _fit(cases)
    if held_out is None:
        tested = list(_cross_validated(cases))
        source = f"{FOLDS}-fold cross-validation on the same examples"
    else:
        tested = [(case, thresholds, rules) for case in held_out]
        source = "examples that were not used for calibration"
    measured = [_error_rates(rule, tested) for rule in rules]
    report = {
        "balance": BALANCE,
        "truth": TRUTH,
        "examples": len(cases),
        "held_out": source,
        "intervals": INTERVALS,
        "error_rates": [rates for rates in measured if rates is not None],
    }
    return Calibration(thresholds, rules, report)


def _fit(cases: Sequence[Case]) -> tuple[dict[str, float], tuple[Rule, ...]]:
    thresholds: dict[str, float] = {}
    rules: list[Rule] = []
    for verdict, outputs in OUTPUTS_OF.items():
        for count in range(len(outputs), 0, -1):
            for some in itertools.combinations(outputs, count):
                names = [name for output in some for name in EVIDENCE_OF[output]]
                used = [case for case in cases if verdict in case.truth and case.evidence.keys() >= {*names}]
                faulty = np.array([case.truth[verdict] for case in used], bool)
                if not 0 < faulty.sum() < len(faulty):
                    continue
                rules.append(_fit_rule(verdict, names, used, faulty, flags=KEYWORDS in some))
                if len(some) == 1 and some[0] != KEYWORDS:
                    values = np.array([case.evidence[names[0]] for case in used])
                    best = balanced_threshold(values, faulty)
                    thresholds[some[0]] = best if some[0] in HEATMAPS else 1.0 - best
    return thresholds, tuple(rules)


def _fit_rule(
    verdict: str, names: Sequence[str], used: Sequence[Case], faulty: np.ndarray, *, flags: bool
) -> Rule:
    evidence = np.array([[case.evidence[name] for name in names] for case in used])
    weights, bias = fit_weights(evidence, faulty)
    rule = Rule(verdict, dict(zip(names, weights.tolist(), strict=True)), bias, 0.5)
    values = np.array([rule.probability(case.evidence) for case in used])
    decided = np.array([flags and bool(case.flagged_words) for case in used], bool)
    return dataclasses.replace(rule, threshold=balanced_threshold(values, faulty, decided))


def _cross_validated(cases: Sequence[Case]) -> Iterator[tuple[Case, dict[str, float], tuple[Rule, ...]]]:
    """Each example with rules that were fitted without it."""
    for fold in range(FOLDS):
        fitted = _fit([case for index, case in enumerate(cases) if index % FOLDS != fold])
        for case in cases[fold::FOLDS]:
            yield case, *fitted


def _error_rates(
    rule: Rule, tested: Iterable[tuple[Case, Mapping[str, float], Sequence[Rule]]]
) -> dict[str, Any] | None:
    """The error rates of a rule's verdict where its outputs alone are predicted; None: not to be measured."""
    counts = {(found, true): 0 for found in (True, False) for true in (True, False)}
    unflagged = 0
    for case, thresholds, rules in tested:
        if rule.verdict not in case.truth or not rule.weights.keys() <= case.evidence.keys():
            continue
        evidence = {name: case.evidence[name] for name in rule.weights}
        words = case.flagged_words if KEYWORDS in rule.outputs else ()
        finding = judge(rule.verdict, evidence, words, rules, thresholds)
        if finding is not None:
            counts[finding.verdict, case.truth[rule.verdict]] += 1
            unflagged += finding.verdict and KEYWORDS in rule.outputs and not words
    found, faulty = counts[True, True] + counts[True, False], counts[True, True] + counts[False, True]
    total = sum(counts.values())
    if not 0 < faulty < total:
        return None
    shares = {
        "precision": (counts[True, True], found),
        "recall": (counts[True, True], faulty),
        "false_positive_rate": (counts[True, False], total - faulty),
        "false_negative_rate": (counts[False, True], faulty),
    }
    rates: dict[str, Any] = {
        "verdict": rule.verdict,
        "outputs": list(rule.outputs),
        "examples": total,
        "faulty": faulty,
        "found": found,
    }
    if KEYWORDS in rule.outputs:
        rates["found_without_flagged_word"] = unflagged
    for name in RATES:
        hits, count = shares[name]
        rates[name] = [round(v, 4) for v in (hits / count, *wilson_interval(hits, count))] if count else None
    return rates
