"""`metrics.json`: what every evaluation writes.

    {
      "model": R, "intervals": I, "mean_baseline": R,
      "noise_ceiling": R, "ceiling_share": R,     (only where the noiseless truth is known)
      "compare": {name: R},                       (only if other runs were compared)
      "flag_every_word": {"keywords": {...}},
      "examples": N, "counts": {...}, ...
    }

R is the result of `richhf.evaluation.evaluate_feedback`; I has its form, with a 95 % interval [low, high] in
place of each value (`richhf.evaluation.bootstrap`: 1000 resamples of the examples, seed 0). Undefined metrics
are null: the file is strict JSON.
"""

import json
import os
import pathlib
from collections.abc import Mapping

from richhf.atomic import atomic_path
from richhf.feedback import HEATMAPS, KEYWORDS, SCORES

_CHANCE = {"auc_judd": 0.5}
_LOWER_IS_BETTER = ("mse", "mse_empty", "kld")


def write_metrics(path: str | os.PathLike, metrics: Mapping) -> None:
    """Writes `metrics.json` under a temporary name and renames it.

    Raises:
      ValueError: a value is nan or infinite, which JSON cannot say; None stands for undefined.
    """
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_metrics(path: str | os.PathLike) -> dict:
    """Reads a `metrics.json`, or the one in a folder.

    Raises:
      ValueError: it is no such file.
      OSError: it cannot be read.
    """
    path = pathlib.Path(path)
    path = path / "metrics.json" if path.is_dir() else path
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"There is no {path}; evaluate that run first: python -m launch.eval.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); evaluate that run again.") from error
    result = metrics.get("model") if isinstance(metrics, dict) else None
    expected = {"scores": SCORES, "heatmaps": HEATMAPS, KEYWORDS: ("pooled", "per_sample")}
    for group, names in expected.items():
        found = result.get(group) if isinstance(result, dict) else None
        missing = [name for name in names if name not in (found or {})]
        if missing:
            raise ValueError(
                f"{path} has no {missing} under model/{group}: expected a metrics.json that an "
                "evaluation wrote."
            )
    return metrics


def read_comparisons(runs: Mapping[str, str | os.PathLike], *, split: str, examples: int) -> dict:
    """The model rows of other runs, for `compare`.

    Args:
      runs: by name, the path of their `metrics.json`.
      split: what this run is evaluated on; files that do not name theirs are taken.
      examples: how many it has.

    Raises:
      ValueError: a file is not readable as metrics, or was measured on another split or number of examples.
    """
    compare = {}
    for name, path in runs.items():
        other = read_metrics(path)
        found = other.get("examples"), other.get("split", split)
        if found != (examples, split):
            raise ValueError(
                f"{name!r} ({path}) was evaluated on {found[0]} examples of {found[1]}, this run on "
                f"{examples} of {split}: compare runs on one split, and evaluate both with one NUM_EXAMPLES."
            )
        compare[name] = other["model"]
    return compare


def ceiling_share(result: Mapping, ceiling: Mapping) -> dict:
    """How much of the way from chance to the ceiling a result has gone, metric by metric, in the shape of R.

    Chance is 0, and 0.5 for AUC-Judd. None where a metric is undefined, where the ceiling is not above
    chance, and for MSE and KLD, where lower is better and no value stands for chance.
    """
    shares: dict = {}
    for name, value in result.items():
        top = ceiling.get(name)
        if isinstance(value, Mapping):
            shares[name] = ceiling_share(value, top or {})
            continue
        chance = _CHANCE.get(name, 0.0)
        if value is None or top is None or name in _LOWER_IS_BETTER or top <= chance:
            shares[name] = None
        else:
            shares[name] = (value - chance) / (top - chance)
    return shares
