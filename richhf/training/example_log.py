"""Which examples each step took: a line a step in `examples-<process>.jsonl`, to compare runs by."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax

from richhf.atomic import atomic_path
from richhf.training.run_log import read_lines

PATTERN = "examples-*.jsonl"


class ExampleLog:
    """The ids of the examples that this process takes, by step.

    Args:
      model_dir: the run's folder.
      start_step: the step that training goes on from; lines of later steps are dropped, also in files of
        processes that there are no more.
    """

    def __init__(self, model_dir: str | os.PathLike, *, start_step: int = 0):
        index, count = jax.process_index(), jax.process_count()
        for path in Path(model_dir).glob(PATTERN):
            if int(path.stem.rpartition("-")[2]) % count == index:
                kept = [line for line in read_lines(path) if line["step"] <= start_step]
                with atomic_path(path) as temporary:
                    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._file = (Path(model_dir) / f"examples-{index}.jsonl").open("a", encoding="utf-8", buffering=1)

    def add(self, step: int, examples: Sequence[str]) -> None:
        """Adds a line."""
        self._file.write(json.dumps({"step": step, "examples": list(examples)}) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_examples(model_dir: str | os.PathLike) -> dict[int, list[str]]:
    """The ids of each step's examples, those of all processes, sorted."""
    steps: dict[int, list[str]] = {}
    for path in sorted(Path(model_dir).glob(PATTERN)):
        for line in read_lines(path):
            steps[line["step"]] = sorted(steps.get(line["step"], []) + line["examples"])
    return dict(sorted(steps.items()))
