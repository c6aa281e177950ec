"""Which examples to show: best, worst and random ones, kept while a split streams by."""

import dataclasses
import heapq
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from richhf.data.words import split_words
from richhf.evaluation.arrays import FeedbackArrays
from richhf.evaluation.heatmaps import resize_maps
from richhf.feedback import HEATMAPS, SCORES, Feedback

KINDS = ("best", "worst", "random")


@dataclasses.dataclass(frozen=True)
class GalleryExample:
    """One image with true and predicted feedback.

    Attributes:
      image: `[h w 3]` as the model saw it.
      truth: the labels; outputs that are unknown are absent.
      predicted: the prediction.
      filename: name of the image.
      quality: how good the prediction is, for order only (`ExampleValues.quality`).
    """

    image: UInt8[np.ndarray, "h w 3"]
    truth: Feedback
    predicted: Feedback
    filename: str
    quality: float


class Gallery:
    """Keeps a few examples of each kind; whatever the batches, the same ones for the same seed."""

    def __init__(self, *, best: int = 8, worst: int = 8, random: int = 8, seed: int = 0):
        """An empty gallery that will hold so many examples of each kind."""
        self._sizes = dict(zip(KINDS, (best, worst, random), strict=True))
        self._heaps: dict[str, list] = {kind: [] for kind in KINDS}
        self._rng = np.random.default_rng(seed)
        self._seen = 0

    def add(
        self,
        images: UInt8[np.ndarray, "b h w 3"],
        predicted: FeedbackArrays,
        target: FeedbackArrays,
        quality: np.ndarray,
        maps: Callable[[int], Float[np.ndarray, "2 h w"]] | None = None,
    ) -> None:
        """Looks at a batch.

        Args:
          images: as the model saw them.
          predicted: predictions.
          target: labels.
          quality: `[b]`, higher is better.
          maps: brings the predicted maps of a row; None: `predicted` has them.
        """
        for i in range(len(target)):
            keys = {"best": quality[i], "worst": -quality[i], "random": self._rng.random()}
            # Of equal ones the earlier stays: ranks are unique, so that a heap never compares examples.
            ranks = {kind: (float(key), -self._seen) for kind, key in keys.items()}
            self._seen += 1
            wanted = [kind for kind in KINDS if self._enters(kind, ranks[kind])]
            if wanted:
                one = predicted.select([i])
                if maps is not None:
                    one = dataclasses.replace(one, heatmaps=maps(i)[None])
                example = _example(images[i], one, target.select([i]), float(quality[i]))
                for kind in wanted:
                    heapq.heappush(self._heaps[kind], (ranks[kind], example))
                    if len(self._heaps[kind]) > self._sizes[kind]:
                        heapq.heappop(self._heaps[kind])

    def picks(self) -> dict[str, list[GalleryExample]]:
        """The examples by kind: best first, worst first, random ones in the order of the split."""
        picks = {
            kind: [example for _, example in sorted(heap, key=lambda entry: entry[0], reverse=True)]
            for kind, heap in self._heaps.items()
        }
        in_order = sorted(self._heaps["random"], key=lambda entry: -entry[0][1])
        return picks | {"random": [example for _, example in in_order]}

    def _enters(self, kind: str, rank: tuple[float, int]) -> bool:
        heap = self._heaps[kind]
        return len(heap) < self._sizes[kind] or (bool(heap) and rank > heap[0][0])


def arrays_to_feedback(
    arrays: FeedbackArrays, *, size: tuple[int, int], flags: tuple[bool | None, ...]
) -> Feedback:
    """A single example as a `Feedback`, its maps at the image's `size`; what is not valid is absent.

    Words whose flag is None are not covered.
    """
    (prompt,) = arrays.prompts
    return Feedback(
        prompt=prompt,
        scores={
            name: float(arrays.scores[0, j]) for j, name in enumerate(SCORES) if arrays.score_valid[0, j]
        },
        heatmaps={
            name: np.asarray(resize_maps(arrays.unit_heatmaps(name), size)[0])
            for j, name in enumerate(HEATMAPS)
            if arrays.heatmap_valid[0, j]
        },
        words=split_words(prompt),
        misaligned=tuple(map(bool, flags)),
        covered=tuple(flag is not None for flag in flags),
        image_size=size,
    )


def _example(
    image: np.ndarray, predicted: FeedbackArrays, target: FeedbackArrays, quality: float
) -> GalleryExample:
    size = image.shape[:2]
    true_flags = target.flags[0] if target.keyword_valid[0] else ()
    return GalleryExample(
        image=image.copy(),
        truth=arrays_to_feedback(target, size=size, flags=true_flags),
        predicted=arrays_to_feedback(predicted, size=size, flags=predicted.flags[0]),
        filename=target.filenames[0],
        quality=quality,
    )
