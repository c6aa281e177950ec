"""Fitting the rules of verdicts: weights of the evidence, and thresholds that balance both kinds of error."""

import numpy as np
from jaxtyping import Bool, Float

STEPS = 2000
DECAY = 1e-3


def fit_weights(
    evidence: Float[np.ndarray, "n k"], faulty: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], float]:
    """Fits a logistic regression with weights of 0 or more, as if half of the examples were faulty.

    Args:
        evidence: values that grow with the chance of a fault.
        faulty: whether each example has one; both occur.

    Returns:
        The weights and the bias.
    """
    mean, spread = evidence.mean(0), evidence.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    inputs = np.concatenate([(evidence - mean) / spread, np.ones((len(evidence), 1))], 1)
    share = np.where(faulty, 0.5 / faulty.sum(), 0.5 / (~faulty).sum())
    curvature = 0.25 * np.linalg.eigvalsh(inputs.T @ (inputs * share[:, None]))[-1] + DECAY
    decay = np.append(np.full(evidence.shape[1], DECAY), 0.0)
    lowest = np.append(np.zeros(evidence.shape[1]), -np.inf)
    weights = ahead = np.zeros(inputs.shape[1])
    momentum = 1.0
    for _ in range(STEPS):  # projected gradient descent with Nesterov's momentum
        error = 1 / (1 + np.exp(-np.clip(inputs @ ahead, -50, 50))) - faulty
        step = inputs.T @ (share * error) + decay * ahead
        previous, weights = weights, np.maximum(ahead - step / curvature, lowest)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = weights + (momentum - 1) / following * (weights - previous)
        momentum = following
    scaled = weights[:-1] / spread
    return scaled, float(weights[-1] - scaled @ mean)


def balanced_threshold(
    values: Float[np.ndarray, " n"],
    faulty: Bool[np.ndarray, " n"],
    decided: Bool[np.ndarray, " n"] | None = None,
) -> float:
    """Returns the threshold t in [0, 1] by which `values >= t` has the best balanced accuracy.

    Balanced accuracy weighs both error rates equally: 1 - (false positive rate + false negative rate) / 2.
    Of equally good thresholds the one in the middle of the widest gap is returned.

    Args:
        values: in [0, 1].
        faulty: whether each example has a fault; both occur.
        decided: examples that are found whatever the threshold is.
    """
    open_to = np.ones(len(values), bool) if decided is None else ~decided
    gain = np.where(faulty, 1 / faulty.sum(), -1 / (~faulty).sum())[open_to]
    order = np.argsort(-values[open_to], kind="stable")
    levels = values[open_to][order]
    bounds = np.concatenate([[1.0], levels, [0.0]])
    gains = np.concatenate([[0.0], np.cumsum(gain[order])])
    # Between equal values there is no threshold; above the first and below the last there may be one.
    gaps = bounds[:-1] - bounds[1:]
    gains = np.where((gaps > 0) | (np.arange(len(gaps)) == len(gaps) - 1), gains, -np.inf)
    best = np.flatnonzero(gains >= gains.max() - 1e-12)
    chosen = best[np.argmax(gaps[best])]
    return float(np.clip((bounds[chosen] + bounds[chosen + 1]) / 2, 0.0, 1.0))


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share, `hits` of `count` (at least 1)."""
    z = 1.959964
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))
