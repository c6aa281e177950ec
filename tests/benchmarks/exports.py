"""Every format that a model is exported to: does it predict the same, how large is it, how fast is it?

python -m tests.benchmarks.exports [--model FOLDER] [--repeats 20]

Needs the extra `export`. Each format is written, then loaded by a fresh process that has no code of this
project (`native` has), one after the other. Prints a row a format: the largest difference of any
score or map value from the model's own on batches of one and three, whether all keyword tokens are equal,
megabytes on disk, and median milliseconds for a batch of one and of three.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import numpy as np

from richhf.inference.export import FORMATS
from richhf.inference.export_signature import ARRAYS, jax_predict, random_inputs
from richhf.inference.load import SHIPPED
from richhf.pretrained.native import NativeModel, read_model
from tests.inference.test_export import BATCHES, IMPORT, LOAD

LOAD_NATIVE = """
    from richhf.inference.export_signature import jax_predict
    from richhf.pretrained.native import read_model
    return jax_predict(read_model(folder))
"""
PROGRAM = """
import json, statistics, sys, time
from pathlib import Path
import numpy as np
import {imported}
def load(folder):
{load}
predict = load(Path(sys.argv[1]))
medians = []
for file in sys.argv[3:]:
    inputs = np.load(file)
    times = []
    for _ in range(2 + int(sys.argv[2])):
        start = time.perf_counter()
        found = [np.asarray(x) for x in predict(inputs["image"], inputs["tokens"])]
        times.append(time.perf_counter() - start)
    medians.append(1e3 * statistics.median(times[2:]))
    np.savez(file + ".found.npz", *found)
print(json.dumps(medians))
"""


def measure(native: NativeModel, name: str, root: pathlib.Path, repeats: int) -> str:
    """The row of one format."""
    folder = root / name
    folder.mkdir()
    FORMATS[name][0](folder, native)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    files = [str(root / f"{batch}.npz") for batch in BATCHES]
    load = textwrap.indent(textwrap.dedent(LOAD.get(name, LOAD_NATIVE)), "    ")
    program = PROGRAM.format(imported=IMPORT.get(name, "richhf"), load=load)
    command = [sys.executable, "-c", program, str(folder), str(repeats), *files]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    times = json.loads(done.stdout.splitlines()[-1])
    largest, same = 0.0, True
    for file, batch in zip(files, BATCHES, strict=True):
        with np.load(f"{file}.found.npz") as found:
            expected = jax_predict(native)(*random_inputs(native, batch, seed=batch))
            for i, array in enumerate(expected):
                difference = float(np.abs(found[f"arr_{i}"].astype(np.float64) - array).max())
                if ARRAYS[i] == "keyword_tokens":
                    same &= difference == 0
                else:
                    largest = max(largest, difference)
    equal = "yes" if same else "no"
    return f"| {name} | {largest:.1e} | {equal} | {size / 1e6:.1f} | " + " | ".join(f"{t:.1f}" for t in times)


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.exports", description=__doc__)
    parser.add_argument("--model", default=str(SHIPPED["synthetic-tiny"]), help="a native model folder")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    native = read_model(options.model)
    print(f"{len(os.sched_getaffinity(0))} cores\n")
    print("| format | largest difference | keywords equal | MB | batch of 1, ms | batch of 3, ms |")
    print("|---|--:|---|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for batch in BATCHES:
            image, tokens = random_inputs(native, batch, seed=batch)
            np.savez(root / f"{batch}.npz", image=image, tokens=tokens)
        for name in FORMATS:
            print(measure(native, name, root, options.repeats), "|", flush=True)


if __name__ == "__main__":
    main()
