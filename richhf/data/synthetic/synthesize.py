"""Writing a synthetic set: record shards, their noiseless truth, vocabulary, lexicon and statistics.

OUT/train-00000-of-00024.tfrecord ...        RichHF-18K's records, with image and prompt
OUT/truth/train-00000-of-00024.tfrecord ...  the noiseless truth: the same records without slips or noise
OUT/truth/train-00000-of-00024.jsonl ...     by record: faults, true flags, the annotators' marks
OUT/vocabulary.model  OUT/lexicon.json  OUT/dataset_info.json
"""

import concurrent.futures
import contextlib
import itertools
import json
import multiprocessing.synchronize
import operator
import os
import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tqdm

from richhf.data import dataset_info
from richhf.data.dataset_info import sha256
from richhf.data.records import write_records
from richhf.data.synthetic.concepts import lexicon
from richhf.data.synthetic.sample import Sample, make_sample, pool
from richhf.data.synthetic.statistics import Summary, dataset_statistics
from richhf.data.synthetic.vocabulary import train_vocabulary
from richhf.data.workers import starting_workers, worker_context
from richhf.feedback import SPLITS

SHARD = 250
SIZES = (32, 1024)
PATCH = 8
"""Sides are multiples of it, as the patches of the models that train on the set need."""
FORMAT = 3
VOCABULARY, LEXICON, TRUTH = "vocabulary.model", "lexicon.json", "truth"


@dataclass(frozen=True)
class Shard(dataset_info.Shard):
    """A range of one split's examples and the files that hold it."""

    def records(self, out: pathlib.Path) -> pathlib.Path:
        """The annotated records."""
        return out / self.file

    def truth(self, out: pathlib.Path) -> pathlib.Path:
        """The same records without noise."""
        return out / TRUTH / self.file

    def summary(self, out: pathlib.Path) -> pathlib.Path:
        """One JSON line a record: `Sample.summary`."""
        return out / TRUTH / f"{self.name}.jsonl"

    def is_finished(self, out: pathlib.Path) -> bool:
        """Whether all its files are there; each appears only when it is complete."""
        return all(path(out).exists() for path in (self.records, self.truth, self.summary))


def synthesize(
    out: str | os.PathLike,
    *,
    train: int,
    dev: int,
    test: int,
    size: int,
    seed: int,
    workers: int | None = None,
) -> dict[str, Any]:
    """Makes a synthetic data set; run again after an interruption, it makes what is missing.

    The bytes written depend on the counts, the size and the seed only, not on `workers`. An unfinished set of
    another request in the same folder is replaced, and a line on stderr says so.

    Args:
      out: folder, made if need be; it is empty or holds (a part of) the same data set.
      train: number of training examples; likewise `dev` and `test`.
      dev: see `train`.
      test: see `train`.
      size: side of the square images in pixels, a multiple of 8 from 32 to 1024.
      seed: non-negative; another seed is another data set.
      workers: processes, at most one a shard; all cores by default.

    Returns:
      what `dataset_info.json` holds: the request, shares without fault, faults by kind, agreement, checksums.

    Raises:
      ValueError: numbers out of range (before anything is written), or `out` holds something else: another
        set that is finished, or files of another origin.
      OSError: the disk is full or not writable; finished shards stay, half-written files do not.
    """
    request = _checked(train=train, dev=dev, test=test, size=size, seed=seed)
    if workers is not None and _whole_number("workers", workers) < 1:
        raise ValueError(f"workers is {workers}; expected at least 1, or None for one a core")
    out = pathlib.Path(out)
    shards = list(list_shards(request["counts"]))
    with dataset_info.explain_failure(out):
        _remove_unfinished(out, request)
        info = dataset_info.claim(out, request, noun="synthetic set")
        for path in (out / TRUTH).glob(".*.tmp"):
            path.unlink(missing_ok=True)
        todo = [shard for shard in shards if not shard.is_finished(out)]
        whole = not todo and all((out / name).exists() for name in (VOCABULARY, LEXICON))
        if whole and info.get("complete"):
            return info
        _make_shards(out, todo, shards, request, workers)
        return _finish(out, shards, request)


def list_shards(counts: dict[str, int]) -> Iterator[Shard]:
    """Cuts every split into shards of 250 examples."""
    for split, count in counts.items():
        number = -(-count // SHARD)
        for index in range(number):
            yield Shard(split, index, number, index * SHARD, min((index + 1) * SHARD, count))


def _checked(*, size: int, seed: int, **counts: int) -> dict[str, Any]:
    size, seed = _whole_number("size", size), _whole_number("seed", seed)
    counts = {name: _whole_number(name, value) for name, value in counts.items()}
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name} is {value}; expected a number of examples, 0 or more")
    if not sum(counts.values()):
        raise ValueError("no examples asked for: train, dev and test are all 0")
    if not SIZES[0] <= size <= SIZES[1] or size % PATCH:
        near = min(max(round(size / PATCH) * PATCH, SIZES[0]), SIZES[1])
        raise ValueError(
            f"size is {size}; expected an image side from {SIZES[0]} to {SIZES[1]} pixels that is a "
            f"multiple of {PATCH}, such as {near}"
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    return {"format": FORMAT, "seed": seed, "size": size, "counts": {name: counts[name] for name in SPLITS}}


def _whole_number(name: str, value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} is {value!r}; expected a whole number")


def _remove_unfinished(out: pathlib.Path, request: dict[str, Any]) -> None:
    """Removes what an interrupted or failed call with another request left: no call could use it."""
    if not (out / dataset_info.INFO).is_file():
        return
    info = dataset_info.read_info(out)
    asked = {name: info.get(name) for name in request}
    if info.get("complete") is not False or asked == request or None in asked.values():
        return
    tqdm.tqdm.write(f"{out} held an unfinished synthetic set of another request; it is replaced", sys.stderr)
    left = [pathlib.Path(name) for name in (VOCABULARY, LEXICON, dataset_info.INFO)]
    for shard in list_shards(info["counts"]):
        left += [path(pathlib.Path()) for path in (shard.records, shard.truth, shard.summary)]
    for name in left:
        (out / name).unlink(missing_ok=True)
    for folder in (out, out / TRUTH):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (out / TRUTH).rmdir()


def _make_shards(
    out: pathlib.Path, todo: list[Shard], shards: list[Shard], request: dict[str, Any], workers: int | None
) -> None:
    workers = min(workers or os.cpu_count() or 1, max(len(todo), 1))
    seed, size = request["seed"], request["size"]
    total = sum(shard.stop - shard.start for shard in shards)
    missing = sum(shard.stop - shard.start for shard in todo)
    with tqdm.tqdm(total=total, initial=total - missing, unit=" images", desc="synthesize") as bar:
        if workers == 1:
            for shard in todo:
                samples = []
                for sample in make_samples(shard, seed, size):
                    samples.append(sample)
                    bar.update()
                write_shard(out, shard, samples)
            return
        context = worker_context()
        stop = context.Event()
        with concurrent.futures.ProcessPoolExecutor(workers, context, _heed, (stop,)) as executor:
            try:
                with starting_workers():
                    waiting = {executor.submit(_make_shard, shard, seed, size): shard for shard in todo}
                for future in concurrent.futures.as_completed(waiting):
                    shard = waiting.pop(future)
                    write_shard(out, shard, future.result())
                    bar.update(shard.stop - shard.start)
            except BaseException:
                stop.set()
                executor.shutdown(cancel_futures=True)
                raise


def make_samples(shard: Shard, seed: int, size: int) -> Iterator[Sample]:
    """Makes the examples of a shard, one after the other."""
    people = pool(seed)
    for index in range(shard.start, shard.stop):
        yield make_sample(seed, shard.split, index, size=size, people=people)


_stop: multiprocessing.synchronize.Event


def _heed(stop: multiprocessing.synchronize.Event) -> None:
    """Prepares a worker; its parent sets `stop` to end it."""
    global _stop
    _stop = stop


def _make_shard(shard: Shard, seed: int, size: int) -> list[Sample]:
    """A worker's job; unfinished when it is told to stop, but then nobody reads the result."""
    return list(itertools.takewhile(lambda _: not _stop.is_set(), make_samples(shard, seed, size)))


def write_shard(out: pathlib.Path, shard: Shard, samples: list[Sample]) -> None:
    """Writes a shard's files, the records last: where they stand, the rest does too."""
    lines = "".join(json.dumps(sample.summary()) + "\n" for sample in samples)
    dataset_info.write_text(shard.summary(out), lines)
    write_records(shard.truth(out), (sample.truth for sample in samples))
    write_records(shard.records(out), (sample.record for sample in samples))


def _finish(out: pathlib.Path, shards: list[Shard], request: dict[str, Any]) -> dict[str, Any]:
    """Vocabulary, lexicon and statistics, from the summaries of finished shards."""
    summaries: list[Summary] = []
    for shard in shards:
        with shard.summary(out).open(encoding="utf-8") as lines:
            summaries += [{**json.loads(line), "split": shard.split} for line in lines]
    training = [summary for summary in summaries if summary["split"] == SPLITS[0]]
    train_vocabulary(
        out / VOCABULARY,
        [summary["prompt"] for summary in training],
        [summary["misaligned"] for summary in training],
    )
    dataset_info.write_json(out / LEXICON, lexicon())
    files = [path for shard in shards for path in (shard.records(out), shard.truth(out))]
    info = {
        **request,
        "complete": True,
        **dataset_statistics(summaries, str(out / VOCABULARY)),
        "sha256": {str(path.relative_to(out)): sha256(path) for path in [*files, out / VOCABULARY]},
    }
    dataset_info.write_info(out, info)
    return info
