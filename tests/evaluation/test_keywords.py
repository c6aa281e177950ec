import math

import numpy as np
import pytest
import sklearn.metrics

from richhf.data.words import mark_misaligned, read_marks
from richhf.evaluation import flag_metrics, keyword_metrics
from richhf.evaluation.keywords import count_marks


def pooled(predicted, target):
    return keyword_metrics(predicted, target)["pooled"]


def keyword_counts(predicted, target):
    return count_marks(read_marks(predicted), read_marks(target))


def test_both_conventions_by_hand():
    target = ["a yellow_0 cat_0 sits", "two dogs", "a red_0 hat"]
    predicted = ["a yellow_0 cat sits_0", "two dogs_0", "a red_0 hat"]
    metrics = keyword_metrics(predicted, target)
    # Flagged: yellow, sits, dogs, red; misaligned: yellow, cat, red.
    assert metrics["pooled"] == pytest.approx({"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7})
    # Samples: (1/2, 1/2, 1/2), then a fully aligned prompt 0, then (1, 1, 1).
    assert metrics["per_sample"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5})


def test_perfect_prediction_reaches_1_pooled_but_not_per_sample():
    target = ["a red_0 hat", "two dogs", "one cat"]
    metrics = keyword_metrics(target, target)
    assert metrics["pooled"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert metrics["per_sample"] == pytest.approx({"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3})


def test_pooled_agrees_with_sklearn_over_the_flags_of_all_words():
    rng = np.random.default_rng(0)
    prompts = [" ".join(rng.choice(list("abcdef"), size=rng.integers(1, 12))) for _ in range(200)]
    flags = [rng.random((2, len(prompt.split()))) < 0.3 for prompt in prompts]
    predicted, target = (
        [mark_misaligned(prompt, flag[side].tolist()) for prompt, flag in zip(prompts, flags, strict=True)]
        for side in (0, 1)
    )
    y_pred, y_true = np.concatenate(flags, axis=1)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        y_true, y_pred, average="binary"
    )
    assert pooled(predicted, target) == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_per_sample_agrees_with_sklearn_over_sets_of_words():
    rng = np.random.default_rng(1)
    words = list("abcdef")
    flags = rng.random((2, 100, 6)) < 0.4
    predicted, target = (
        [mark_misaligned(" ".join(words), row.tolist()) for row in flags[side]] for side in (0, 1)
    )
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        flags[1], flags[0], average="samples", zero_division=0
    )
    got = keyword_metrics(predicted, target)["per_sample"]
    assert got == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_flagging_the_other_of_two_equal_words_is_a_mistake_only_in_an_exact_copy():
    assert keyword_counts("a_0 cat and a dog", "a cat and a_0 dog") == (0, 1, 1)
    assert keyword_counts("a_0 cat and dog", "a cat and a_0 dog") == (1, 0, 0)


def test_repeated_words_count_as_often_as_they_occur():
    # The decoder fell into a loop: one hit, two false alarms.
    assert keyword_counts("red_0 red_0 red_0", "a red_0 hat_0") == (1, 2, 1)


def test_punctuation_does_not_separate_copies():
    assert keyword_counts('a "yellow_0", cat.', "a yellow_0 cat") == (1, 0, 0)


def test_nothing_flagged_or_nothing_misaligned_is_0_not_an_error():
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert pooled(["a red hat"], ["a red_0 hat"]) == nothing
    assert pooled(["a red_0 hat"], ["a red hat"]) == nothing
    assert keyword_metrics(["", ""], ["a hat", ""]) == {"pooled": nothing, "per_sample": nothing}


def test_no_samples_give_nan():
    metrics = keyword_metrics([], [])
    assert all(math.isnan(value) for part in metrics.values() for value in part.values())


@pytest.mark.parametrize(
    ("predicted", "target", "said"),
    [(["a"], ["a", "b"], "1 texts.*2 texts"), ("a_0", "a_0", "one text 'a_0'")],
)
def test_lists_that_do_not_match_are_explained(predicted, target, said):
    with pytest.raises(ValueError, match=said):
        keyword_metrics(predicted, target)


def test_flags_are_compared_as_marked_texts_are():
    prompts = ["a yellow cat sits", "two dogs", "a red hat"]
    predicted = [(False, True, False, True), (False, True), (False, True, None)]
    target = [(False, True, True, False), (False, False), (False, True, False)]
    texts = [
        [mark_misaligned(prompt, [bool(f) for f in row]) for prompt, row in zip(prompts, flags, strict=True)]
        for flags in (predicted, target)
    ]
    assert flag_metrics(prompts, predicted, target) == keyword_metrics(*texts)


def test_a_word_that_the_target_does_not_cover_counts_in_neither_convention():
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert flag_metrics(["a hat"], [(False, True)], [(False, None)]) == {
        "pooled": nothing,
        "per_sample": nothing,
    }
    perfect = flag_metrics(["a red hat"], [(False, True, True)], [(False, True, None)])
    assert perfect["pooled"]["f1"] == perfect["per_sample"]["f1"] == 1


def test_a_word_that_the_prediction_does_not_cover_is_a_miss():
    assert flag_metrics(["a red hat"], [(None, True, None)], [(False, True, True)])[
        "pooled"
    ] == pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3})


def test_prompts_tell_a_suffix_of_their_own_from_a_mark():
    """Without them `frame_0` is taken for a marked word."""
    prompts, texts = ["frame_0 of a red cat"], ["frame_0 of a red_0 cat"]
    wrong = ["frame_0 of a red cat"]
    assert keyword_metrics(wrong, texts, prompts)["pooled"]["f1"] == 0
    assert keyword_metrics(texts, texts, prompts)["pooled"]["f1"] == 1
    assert keyword_metrics(wrong, texts)["pooled"]["precision"] == 1
