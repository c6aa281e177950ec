"""Models over a split: predictions batch by batch, metrics, baselines and a gallery.

`seqio.Evaluator` computes the same numbers (`tasks.metrics`), but holds every output of the split, maps too,
until the end: 2 MB an image at the real size. Here the values of an example are kept and its maps forgotten.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from richhf.data.prompts import PLAIN, in_form
from richhf.data.targets import TargetVocabulary, find_marks, read_flags
from richhf.evaluation.arrays import FeedbackArrays, readable_flags
from richhf.evaluation.baselines import MeanFeedback
from richhf.evaluation.bootstrap import bootstrap_intervals
from richhf.evaluation.evaluate import FeedbackAccumulator, summarise
from richhf.evaluation.gallery import Gallery, GalleryExample
from richhf.evaluation.keywords import flag_metrics
from richhf.evaluation.metrics_file import ceiling_share
from richhf.evaluation.values import ExampleValues, Measure, count_examples, measure_maps
from richhf.feedback import HEATMAPS, SCORES

Features = Mapping[str, np.ndarray]
Predict = Callable[[Features], Mapping[str, Any]]


@runtime_checkable
class EvaluationBatch(Protocol):
    """One batch of a split, all of one size; `richhf.data.datasets.EvalBatch` is one."""

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """Model features, as the feature converter names them."""

    @property
    def valid(self) -> int:
        """Number of examples; rows from there on are padding."""

    @property
    def filenames(self) -> Sequence[str]:
        """Names of the images, `valid` of them, as of the following three."""

    @property
    def prompts(self) -> Sequence[str]:
        """Plain prompts."""

    @property
    def keywords(self) -> Sequence[str]:
        """Marked prompts."""

    @property
    def keyword_valid(self) -> Sequence[bool]:
        """Whether the words have labels."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a model gives.

    Attributes:
      metrics: the content of `metrics.json`, see `richhf.evaluation.metrics_file`.
      values: the values of each example, in the order of the split.
      gallery: examples to show by kind, `best`, `worst` and `random`.
    """

    metrics: dict
    values: ExampleValues
    gallery: dict[str, list[GalleryExample]]


class Evaluator:
    """Evaluates models over one split, each in one pass and in the memory of two batches.

    The baseline is measured with the first and serves for all.

    Args:
      batches: gives the split from its start; every batch of one size, so that nothing is compiled twice.
      vocabulary: the model's, which reads keyword tokens. Words that it cannot read are left out of the
        metrics.
      prompt_form: how the model reads prompts (`richhf.data.prompts.PROMPT_FORMS`).
      mean: labels of the training split, for the predict-the-mean row.
      noise_ceiling: metrics of the noiseless truth, where there is one (`baselines.noise_ceiling`).
      num_examples: size of the split, for the progress bar.
      progress: whether to show one.
      measure: how the baseline's maps are compared.
      fetch: brings the predicted maps of a row [2 h w] to the host.
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[EvaluationBatch]],
        *,
        vocabulary: TargetVocabulary,
        mean: MeanFeedback,
        prompt_form: str = PLAIN,
        noise_ceiling: dict | None = None,
        num_examples: int | None = None,
        progress: bool = True,
        measure: Measure = measure_maps,
        fetch: Callable[[Any, int], np.ndarray] = lambda maps, row: np.asarray(maps[row]),
    ):
        self._batches, self._vocabulary, self._mean, self._ceiling = batches, vocabulary, mean, noise_ceiling
        self._num_examples, self._progress, self._form = num_examples, progress, prompt_form
        self._measure, self._fetch = measure, fetch
        self._baseline: dict | None = None

    def evaluate(
        self,
        predict: Predict,
        *,
        gallery: Gallery | None = None,
        on_values: Callable[[ExampleValues], None] | None = None,
        title: str = "evaluate",
    ) -> Evaluation:
        """Evaluates one model.

        Args:
          predict: model features to `heatmaps` [b 2 h w], which may stay on a device, `measured` f32 [b 2 m]
            (`measure_maps` of them), `scores` f32 [b 4] and `keyword_tokens` int32 [b k], as
            `model.predict_batch` gives them.
          gallery: collects examples; an empty `Gallery()` if None.
          on_values: called with the values of each batch, in order.
          title: of the progress bar.

        Returns:
          Metrics, values and gallery. They do not depend on the batch size, as far as the model's predictions
          do not.

        Raises:
          ValueError: the split is empty, or a prediction is not finite.
        """
        gallery = Gallery() if gallery is None else gallery
        model = FeedbackAccumulator()
        baseline = None if self._baseline else FeedbackAccumulator()
        with tqdm(total=self._num_examples, desc=title, unit=" images", disable=not self._progress) as bar:
            for batch, prediction in _predictions(predict, self._batches()):
                target = target_arrays(batch, self._vocabulary)
                predicted = predicted_arrays(prediction, target, self._vocabulary, self._form)
                measured = np.asarray(prediction["measured"])[: batch.valid]
                values = model.add(predicted, target, measured)
                images = np.asarray(batch.features["image"])[: batch.valid]
                maps = functools.partial(self._fetch, prediction["heatmaps"])
                gallery.add(images, predicted, target, values.quality(), maps)
                if baseline:
                    guess = self._mean.predict(target)
                    baseline.add(guess, target, np.asarray(self._measure(guess.heatmaps, target.heatmaps)))
                if on_values:
                    on_values(values)
                bar.update(batch.valid)
        values = model.values()
        if baseline:
            self._baseline = baseline.result()
        result = summarise(values)
        metrics: dict = {"model": result, "intervals": bootstrap_intervals(values)}
        metrics["mean_baseline"] = self._baseline
        if self._ceiling is not None:
            metrics["noise_ceiling"] = self._ceiling
            metrics["ceiling_share"] = ceiling_share(result, self._ceiling)
        metrics["flag_every_word"] = {"keywords": _flag_every_word(values)}
        metrics |= {"examples": len(values), "counts": count_examples(values)}
        return Evaluation(metrics=metrics, values=values, gallery=gallery.picks())


def target_arrays(batch: EvaluationBatch, vocabulary: TargetVocabulary | None = None) -> FeedbackArrays:
    """The labels of a batch, padding left out; kinds of labels that the batch lacks are not valid.

    Words that `vocabulary` cannot read have no flag.
    """
    n, features = batch.valid, batch.features
    side = features["image"].shape[1:3]
    missing = {
        "scores": np.zeros((n, len(SCORES)), np.float32),
        "score_weights": np.zeros((n, len(SCORES)), np.float32),
        "heatmaps": np.zeros((n, len(HEATMAPS), *side), np.uint8),
        "heatmap_weights": np.zeros((n, len(HEATMAPS)), np.float32),
    }
    labels = {name: np.asarray(features.get(name, absent))[:n] for name, absent in missing.items()}
    prompts, keywords = list(batch.prompts[:n]), list(batch.keywords[:n])
    return FeedbackArrays(
        scores=labels["scores"],
        heatmaps=labels["heatmaps"],
        keywords=keywords,
        prompts=prompts,
        flags=readable_flags(prompts, list(map(find_marks, prompts, keywords)), vocabulary),
        filenames=list(batch.filenames[:n]),
        keyword_valid=np.array(batch.keyword_valid[:n], bool),
        score_valid=labels["score_weights"] > 0,
        heatmap_valid=labels["heatmap_weights"] > 0,
    )


def predicted_arrays(
    prediction: Mapping[str, Any],
    target: FeedbackArrays,
    vocabulary: TargetVocabulary,
    prompt_form: str = PLAIN,
) -> FeedbackArrays:
    """The predictions for a batch, padding left out, with keywords read; maps stay where they are."""
    n = len(target)
    tokens = [row.tolist() for row in np.asarray(prediction["keyword_tokens"])[:n]]
    return FeedbackArrays(
        scores=np.asarray(prediction["scores"], np.float32)[:n],
        heatmaps=np.empty((n, len(HEATMAPS), 0, 0), np.float32),
        keywords=[vocabulary.decode(row) for row in tokens],
        flags=[
            read_flags(in_form(prompt, prompt_form), row, vocabulary)
            for prompt, row in zip(target.prompts, tokens, strict=True)
        ],
        prompts=target.prompts,
        filenames=target.filenames,
        keyword_valid=target.keyword_valid,
    )


def _predictions(
    predict: Predict, batches: Iterable[EvaluationBatch]
) -> Iterator[tuple[EvaluationBatch, Mapping[str, Any]]]:
    # One batch ahead: the device works on it while the host compares the one before.
    waiting = None
    for batch in batches:
        started = batch, predict(batch.features)
        if waiting is not None:
            yield waiting
        waiting = started
    if waiting is not None:
        yield waiting


def _flag_every_word(values: ExampleValues) -> dict:
    valid = np.flatnonzero(values.keyword_valid)
    true = [values.true_flags[i] for i in valid]
    metrics = flag_metrics([values.prompts[i] for i in valid], [(True,) * len(row) for row in true], true)
    return metrics if len(valid) else {name: dict.fromkeys(part) for name, part in metrics.items()}
