"""How fast metrics are: AUC-Judd beside the loop over thresholds, and a whole test split.

python -m tests.benchmarks.metrics [--size 512] [--examples 955] [--maps 5]

The maps are drawn: a truth of three annotators' points, and a prediction of smooth spots, some of them there.
Prints the time of one AUC-Judd by the loop and by ours with the largest difference, then the time of every
metric of RichHF-18K's test split (955 examples of two maps, scores and keywords): on the host in float64, as
`evaluate_feedback` computes them, and compiled in float32, as `launch.eval` does.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from richhf.data.consolidation import points_to_heatmap
from richhf.evaluation import FeedbackArrays, auc_judd
from richhf.evaluation.evaluate import FeedbackAccumulator
from richhf.evaluation.values import measure_maps

BATCH = 32
PROMPT = "two red squares above a blue circle and a green star"


def draw_maps(rng: np.random.Generator, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted maps, float32, and true maps, uint8: both [n h w]."""
    predicted, true = np.empty((count, size, size), np.float32), np.empty((count, size, size), np.uint8)
    for i in range(count):
        points = rng.uniform(0.1, 0.9, (3, 2)) * size
        annotators = [points + rng.normal(0, size / 40, points.shape) for _ in range(3)]
        spots = [points_to_heatmap(list(map(tuple, annotator)), (size, size)) for annotator in annotators]
        true[i] = np.round(255 * np.mean(spots, axis=0))
        rows, columns = np.ogrid[:size, :size]
        found = np.concatenate([points[1:], rng.uniform(0, size, (1, 2))])
        distances = [((columns - x) ** 2 + (rows - y) ** 2) / (size / 15) ** 2 for x, y in found]
        smooth = np.max(np.exp(-np.stack(distances)), axis=0)
        predicted[i] = 0.95 * smooth + 0.05 * rng.uniform(size=(size, size))
    return predicted, true


def loop_auc_judd(pred: np.ndarray, true: np.ndarray) -> float:
    """AUC-Judd of one map by its definition: a pass over all pixels for each threshold."""
    positive = true > 0
    shares = [(0.0, 0.0)]
    for threshold in np.unique(pred[positive])[::-1]:
        above = pred >= threshold
        hits = np.count_nonzero(above & positive)
        alarms = np.count_nonzero(above) - hits
        shares.append((alarms / np.count_nonzero(~positive), hits / np.count_nonzero(positive)))
    x, y = np.array([*shares, (1.0, 1.0)]).T
    return float(np.trapezoid(y, x))


def compare_auc(predicted: np.ndarray, true: np.ndarray) -> None:
    """Prints the time of one map by both ways, and how far apart they are."""
    truths = true / np.float32(255)
    auc_judd(predicted[:1], truths[:1])
    seconds: dict[str, list[float]] = {"loop": [], "ours": []}
    differences = []
    for pred, truth in zip(predicted, truths, strict=True):
        start = time.perf_counter()
        expected = loop_auc_judd(pred, truth)
        middle = time.perf_counter()
        found = float(auc_judd(pred[None], truth[None])[0])
        seconds["loop"].append(middle - start)
        seconds["ours"].append(time.perf_counter() - middle)
        differences.append(abs(found - expected))
    loop, ours = (statistics.median(seconds[name]) for name in ("loop", "ours"))
    print(f"AUC-Judd of a map, the loop:  {1e3 * loop:9.1f} ms")
    print(f"AUC-Judd of a map, ours:      {1e3 * ours:9.1f} ms, {loop / ours:,.0f} times as fast")
    print(f"largest difference:           {max(differences):9.1e}")


def draw_feedback(rng: np.random.Generator, count: int, size: int) -> tuple[FeedbackArrays, FeedbackArrays]:
    """Predictions and targets of as many examples."""
    pairs = [draw_maps(rng, count, size) for _ in range(2)]
    names = [f"{i}.png" for i in range(count)]

    def feedback(maps: np.ndarray) -> FeedbackArrays:
        scores = rng.uniform(size=(count, 4)).astype(np.float32)
        words = PROMPT.split()
        flags = rng.uniform(size=(count, len(words))) < 0.2
        marked = [
            " ".join(word + "_0" * int(bad) for word, bad in zip(words, row, strict=True)) for row in flags
        ]
        return FeedbackArrays(scores, maps, marked, [PROMPT] * count, names, np.ones(count, bool))

    predicted, true = (np.stack(kind, axis=1) for kind in zip(*pairs, strict=True))
    return feedback(predicted), feedback(true)


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.metrics", description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="side of the maps")
    parser.add_argument("--examples", type=int, default=955)
    parser.add_argument("--maps", type=int, default=5, help="how many maps AUC-Judd is compared on")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    compare_auc(*draw_maps(rng, options.maps, options.size))

    # One batch of examples over and over: a whole split of maps is 5 GB, and drawing it no metric.
    predicted, target = draw_feedback(rng, BATCH, options.size)
    rounds, rest = divmod(options.examples, BATCH)
    pieces = [slice(None)] * rounds + [slice(rest)] * (rest > 0)
    measure = jax.jit(measure_maps)
    jax.block_until_ready(measure(predicted.heatmaps, target.heatmaps))
    for name, compiled in (("on the host, float64", False), ("compiled, float32", True)):
        start, metrics = time.perf_counter(), FeedbackAccumulator()
        for piece in pieces:
            given = predicted.select(piece), target.select(piece)
            numbers = measure(predicted.heatmaps, target.heatmaps) if compiled else None
            metrics.add(*given, np.asarray(numbers)[piece] if compiled else None)
        metrics.result()
        print(f"{options.examples} examples, {name}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
