"""From nothing to the first prediction, in a fresh process: import, load, compile and predict, predict again.

python -m tests.benchmarks.cold_start [--model NAME_OR_FOLDER] [--repeats N] [--outputs scores heatmaps]

Prints the median of each part over some fresh processes, in seconds, none of which finds anything compiled.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

PARTS = ("import", "load", "first prediction", "next prediction")
CODE = """
import json, sys, time
times = [time.perf_counter()]
import richhf
richhf.Predictor
times.append(time.perf_counter())
predictor = richhf.load(sys.argv[1])
times.append(time.perf_counter())
from PIL import Image
for _ in range(2):
    predictor(Image.new("RGB", (640, 480)), "two red squares above a blue circle", outputs=sys.argv[2:])
    times.append(time.perf_counter())
heavy = sorted({"tensorflow", "seqio", "gin", "orbax", "torch"} & set(sys.modules))
print(json.dumps({"times": [b - a for a, b in zip(times, times[1:])], "heavy": heavy}))
"""


def measure(model: str, outputs: list[str]) -> dict:
    """Times of the parts in one fresh process, and what it imported that it should not have."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", CODE, model, *outputs]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cold_start", description=__doc__)
    parser.add_argument("--model", default="synthetic-tiny", help="as richhf.load takes it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--outputs", nargs="+", default=["scores", "heatmaps", "keywords"])
    options = parser.parse_args()
    runs = [measure(options.model, options.outputs) for _ in range(options.repeats)]
    columns = list(zip(*(run["times"] for run in runs), strict=True))
    medians = [statistics.median(column) for column in columns]
    for name, value in zip(PARTS, medians, strict=True):
        print(f"{name:18} {value:8.3f} s")
    print(f"{'cold start':18} {statistics.median(sum(run['times'][:3]) for run in runs):8.3f} s")
    print("imported besides:", ", ".join(runs[0]["heavy"]) or "none of TensorFlow, SeqIO, gin, Orbax, torch")


if __name__ == "__main__":
    main()
