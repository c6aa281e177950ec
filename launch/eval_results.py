"""What an evaluation leaves behind: metrics, tables, a page, a line for each example, TensorBoard events."""

import contextlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from clu import metric_writers

from launch.checkpoint_source import run_folder, step_number
from launch.panels import gallery_panels
from richhf.atomic import atomic_path
from richhf.evaluation import (
    EXAMPLES_FILE,
    Evaluation,
    ExampleValues,
    example_lines,
    flatten_metrics,
    markdown_tables,
    read_metrics,
    text_tables,
    write_metrics,
)
from richhf.evaluation.steps import STEPS_TABLE, headline, write_steps
from richhf.evaluation.tables import Table
from richhf.feedback import SCORES
from richhf.inference import GalleryExample, write_report
from richhf.training.run_log import read_log

METRICS_FILE, TABLES, PAGE = "metrics.json", "metrics.md", "report.html"


class Results:
    """The files of an evaluation.

    Of one checkpoint, OUTPUT/{metrics.json,metrics.md,report.html,examples.jsonl}. Of several, those are in
    OUTPUT/step_<step>/, all but the last also in OUTPUT for the one evaluated last, with steps.jsonl and
    steps.md over all of them. TensorBoard events are in OUTPUT/eval_<split>/.

    Args:
      output_dir: OUTPUT.
      settings: what was evaluated; stands in metrics.json, and results of other settings are no results.
      several: whether of several checkpoints.
      title: the page's headline.
      primary: whether this process writes.
    """

    def __init__(
        self,
        output_dir: str,
        *,
        settings: Mapping[str, Any],
        several: bool,
        title: str,
        primary: bool = True,
    ):
        self._output, self._settings = Path(output_dir), dict(settings)
        self._several, self._title, self._primary = several, title, primary
        self._writer: Any = None

    def is_done(self, checkpoint: Path) -> bool:
        """Whether there are results of a checkpoint, made with these settings and since it was written."""
        try:
            file = self._folder(checkpoint) / METRICS_FILE
            return self._same_settings(read_metrics(file)) and (
                file.stat().st_mtime >= checkpoint.stat().st_mtime
            )
        except (ValueError, OSError):
            return False

    @contextlib.contextmanager
    def examples(self, checkpoint: Path) -> Iterator[Callable[[ExampleValues], None]]:
        """Gives what writes the lines of a batch's examples; the file appears when the block is done."""
        if not self._primary:
            yield lambda values: None
            return
        with (
            atomic_path(self._folder(checkpoint) / EXAMPLES_FILE) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            yield lambda values: file.writelines(example_lines(values))

    def write(self, checkpoint: Path, evaluation: Evaluation, also: Mapping[str, Any]) -> dict:
        """Writes and prints what was found of a checkpoint; returns the content of metrics.json."""
        step = step_number(checkpoint)
        metrics = evaluation.metrics | self._settings | {"step": step} | dict(also)
        if not self._primary:
            return metrics
        self._write_events(step, evaluation)
        folder = self._folder(checkpoint)
        self._write_page(folder / PAGE, checkpoint, evaluation, metrics)
        with atomic_path(folder / TABLES) as temporary:
            temporary.write_text(markdown_tables(metrics), encoding="utf-8")
        # The last: where it stands all of them do.
        write_metrics(folder / METRICS_FILE, metrics)
        if self._several:
            self._copy_to_top(folder)
            self._write_steps()
            print(f"step {step}  {headline(metrics['model'])}  {folder}", flush=True)
        else:
            print(text_tables(metrics))
            print(f"\n{folder / METRICS_FILE}\n{folder / PAGE}", flush=True)
        return metrics

    def close(self) -> None:
        """Prints what compares several checkpoints, and closes TensorBoard's file."""
        if self._writer:
            self._writer.close()
        if not (self._several and self._primary):
            return
        if done := self._done():
            # Killed between the step's files and their copies, an evaluation has left others there.
            last = max(done, key=lambda folder: done[folder]["step"])
            top = self._output / METRICS_FILE
            if not top.exists() or top.read_bytes() != (last / METRICS_FILE).read_bytes():
                self._copy_to_top(last)
        if table := self._write_steps():
            print(f"\n{table.text()}\n\n{self._output / STEPS_TABLE}", flush=True)

    def _copy_to_top(self, folder: Path) -> None:
        for name in (PAGE, TABLES, METRICS_FILE):
            with atomic_path(self._output / name) as temporary:
                shutil.copyfile(folder / name, temporary)

    def _done(self) -> dict[Path, dict]:
        """The metrics of the steps that have been evaluated with these settings, by their folders."""
        found = {}
        for file in self._output.glob(f"step_*/{METRICS_FILE}"):
            with contextlib.suppress(ValueError):
                found[file.parent] = read_metrics(file)
        return {folder: metrics for folder, metrics in found.items() if self._same_settings(metrics)}

    def _write_steps(self) -> Table | None:
        return write_steps(self._output, list(self._done().values()))

    def _folder(self, checkpoint: Path) -> Path:
        return self._output / f"step_{checkpoint.name}" if self._several else self._output

    def _same_settings(self, metrics: Mapping) -> bool:
        return all(metrics.get(name) == value for name, value in self._settings.items())

    def _write_events(self, step: int, evaluation: Evaluation) -> None:
        if self._writer is None:
            folder = self._output / f"eval_{self._settings['split']}"
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = metric_writers.SummaryWriter(str(folder))
        self._writer.write_scalars(step, flatten_metrics(evaluation.metrics["model"]))
        self._writer.write_images(step, gallery_panels(evaluation.gallery))
        self._writer.flush()

    def _write_page(self, path: Path, checkpoint: Path, evaluation: Evaluation, metrics: Mapping) -> None:
        values = evaluation.values
        known = ~np.isnan(values.true_scores)
        about = {name: metrics[name] for name in ("task", "split", "step")}
        write_report(
            path,
            title=self._title,
            metrics=metrics,
            curves=read_log(run_folder(checkpoint)),
            examples=[
                GalleryExample(e.image, e.truth, e.predicted, label=kind, note=e.filename)
                for kind, examples in evaluation.gallery.items()
                for e in examples
            ],
            points={
                name: (values.predicted_scores[known[:, i], i], values.true_scores[known[:, i], i])
                for i, name in enumerate(SCORES)
                if known[:, i].any()
            },
            extra={
                "checkpoint": checkpoint,
                **about,
                "command": f"python -m launch.eval {shlex.join(sys.argv[1:])}",
            },
        )
