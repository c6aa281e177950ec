"""How two values of feedback on one image differ."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Difference:
    """A prediction minus the truth.

    Attributes:
      scores: predicted minus true score, in [-1, 1].
      heatmaps: predicted minus true map, in [-1, 1].
      hits: indices of words misaligned in both.
      misses: indices of words misaligned in the truth alone.
      false_alarms: indices of words misaligned in the prediction alone.
    """

    scores: dict[str, float]
    heatmaps: dict[str, Float[np.ndarray, "h w"]]
    hits: tuple[int, ...]
    misses: tuple[int, ...]
    false_alarms: tuple[int, ...]
