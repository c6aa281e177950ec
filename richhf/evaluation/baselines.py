"""What a number is worth: predict-the-mean and flag-every-word below, the noise ceiling above."""

import itertools
from collections.abc import Iterable

import numpy as np

from richhf.data.records import Record
from richhf.data.targets import TargetVocabulary
from richhf.evaluation.arrays import FeedbackArrays, records_to_arrays
from richhf.evaluation.evaluate import FeedbackAccumulator
from richhf.evaluation.heatmaps import resize_maps
from richhf.evaluation.values import Measure, measure_maps
from richhf.feedback import HEATMAPS, SCORES

_BATCH = 32


class MeanFeedback:
    """The mean scores and maps of a split, usually the training split, summed up batch by batch.

    As a prediction it flags no keyword, so that its precision, recall and F1 are 0, and as a constant it
    has no PLCC or SRCC.
    """

    def __init__(self):
        self._scores = np.zeros(len(SCORES))
        self._score_count = np.zeros(len(SCORES))
        self._maps: np.ndarray | None = None
        self._map_count = np.zeros(len(HEATMAPS))

    def add(self, arrays: FeedbackArrays) -> None:
        """Adds the valid labels of a batch; maps of another size than the first batch's are resized to it."""
        valid = arrays.score_valid
        self._scores += np.where(valid, arrays.scores, 0.0).sum(axis=0)
        self._score_count += valid.sum(axis=0)
        if self._maps is None:
            self._maps = np.zeros(arrays.heatmaps.shape[1:])
        for i, name in enumerate(HEATMAPS):
            maps = arrays.unit_heatmaps(name)[arrays.heatmap_valid[:, i]]
            self._maps[i] += resize_maps(maps, self._maps.shape[1:]).sum(axis=0, dtype=np.float64)
        self._map_count += arrays.heatmap_valid.sum(axis=0)

    def predict(self, target: FeedbackArrays) -> FeedbackArrays:
        """Predicts the mean for every image of `target`, of which only prompts and names are read.

        Raises:
          ValueError: nothing was added.
        """
        if self._maps is None:
            raise ValueError("The mean of nothing: add the training split's labels to MeanFeedback first.")
        n = len(target)
        scores = (self._scores / np.maximum(self._score_count, 1)).astype(np.float32)
        maps = (self._maps / np.maximum(self._map_count, 1)[:, None, None]).astype(np.float32)
        return FeedbackArrays(
            scores=np.broadcast_to(scores, (n, *scores.shape)),
            heatmaps=np.broadcast_to(maps, (n, *maps.shape)),
            keywords=list(target.prompts),
            flags=[(False,) * len(flags) for flags in target.flags],
            prompts=target.prompts,
            filenames=target.filenames,
            keyword_valid=target.keyword_valid,
        )


def mean_baseline(train: FeedbackArrays | Iterable[FeedbackArrays], target: FeedbackArrays) -> FeedbackArrays:
    """Predictions for `target` by the mean of `train`, given whole or in batches."""
    mean = MeanFeedback()
    for batch in [train] if isinstance(train, FeedbackArrays) else train:
        mean.add(batch)
    return mean.predict(target)


def noise_ceiling(
    truth: Iterable[Record],
    labels: Iterable[Record],
    *,
    num_examples: int | None = None,
    measure: Measure = measure_maps,
    vocabulary: TargetVocabulary | None = None,
) -> dict:
    """What the noiseless truth scores against the annotators' labels.

    A yardstick rather than a bound: the truth has hard edges, and a map that is blurred as annotators scatter
    their points can come closer to what they mark, by MSE, KLD and AUC-Judd above all.

    Args:
      truth: noiseless records; a prompt missing there is taken from the labels.
      labels: the records that models are evaluated on, in the same order.
      num_examples: compare only so many, from the start; all if None.
      measure: how maps are compared.
      vocabulary: of the models to compare with. Words that it cannot read are left out.

    Returns:
      Metrics as of `evaluate_feedback`.

    Raises:
      ValueError: the two are not about the same images in the same order, or there are none.
    """
    accumulator = FeedbackAccumulator()
    pairs = itertools.islice(itertools.zip_longest(truth, labels), num_examples)
    while batch := list(itertools.islice(pairs, _BATCH)):
        if None in batch[-1]:
            short = "truth" if batch[-1][0] is None else "labels"
            raise ValueError(f"There are fewer records in the {short} than in the other: make the set again.")
        ideal, noisy = zip(*batch, strict=True)
        predicted = records_to_arrays(ideal, prompts=[record.prompt for record in noisy])
        target = records_to_arrays(noisy, vocabulary=vocabulary)
        accumulator.add(predicted, target, np.asarray(measure(predicted.heatmaps, target.heatmaps)))
    return accumulator.result()
