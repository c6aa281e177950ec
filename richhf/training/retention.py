"""Which checkpoints are kept: the latest, and the best by a metric of their step's evaluation."""

import dataclasses
import math
from collections.abc import Mapping

from orbax.checkpoint.checkpoint_managers import preservation_policy


@dataclasses.dataclass(frozen=True)
class Best:
    """Which checkpoints are kept for how well their step did.

    Attributes:
      count: how many.
      metric: by which, as evaluations are logged: `eval/dev/loss`.
      mode: `min` where lower is better, `max` where higher is.
    """

    count: int = 0
    metric: str = "eval/dev/loss"
    mode: str = "min"

    def __post_init__(self):
        if self.mode not in ("min", "max"):
            raise ValueError(f"the mode of {self.metric} is {self.mode!r}; expected 'min' or 'max'.")
        if self.count < 0:
            raise ValueError(f"{self.count} best checkpoints cannot be kept; 0 keeps the latest alone.")

    def quality(self, metrics: Mapping[str, float]) -> float:
        """How good a checkpoint is, by its metrics; -inf where they do not say."""
        value = metrics.get(self.metric, math.nan)
        return (-value if self.mode == "min" else value) if math.isfinite(value) else -math.inf


def policy(keep: int, best: Best) -> preservation_policy.AnyPreservationPolicy:
    """Keeps the latest `keep` and the best `best.count`; of equally good ones the later."""
    latest = preservation_policy.LatestN(keep)
    if not best.count:
        return preservation_policy.AnyPreservationPolicy([latest])
    good = preservation_policy.BestN(
        get_metric_fn=best.quality, n=best.count, keep_checkpoints_without_metrics=False
    )
    return preservation_policy.AnyPreservationPolicy([latest, good])
