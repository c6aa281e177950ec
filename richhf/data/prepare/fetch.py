"""Fetching images and prompts: each piece of the source by one process, into the spool."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import multiprocessing.synchronize
import pathlib
from collections.abc import Callable, Generator, Sequence

import tqdm

from richhf.data.prepare.files import stamp_files
from richhf.data.prepare.images import UnusableImage, check_image
from richhf.data.prepare.problems import Kind, Note, Problem
from richhf.data.prepare.source import Item, Piece, Source
from richhf.data.prepare.spool import PieceWriter, Spool, write_piece
from richhf.data.workers import starting_workers, worker_context


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Attributes:
        source: where images come from.
        wanted: their uids.
        spool: where they go.
        max_pixels: see `check_image`.
        reencode: see `check_image`.
    """

    source: Source
    wanted: frozenset[str]
    spool: pathlib.Path
    max_pixels: int
    reencode: bool

    def origin(self, piece: Piece) -> str:
        """What decides on what is fetched, beside the request: the wanted uids, and its files as they are."""
        return f"{self._checksum}-{stamp_files(self.source.root, self.source.files_of(piece))}"

    @functools.cached_property
    def _checksum(self) -> str:
        return hashlib.sha256(repr(sorted(self.wanted)).encode()).hexdigest()


class Stopped(Exception):
    """The worker was told to stop; its piece is not done."""


def fetch(job: Job, pieces: Sequence[Piece], workers: int, note: Note) -> None:
    """Fetches the pieces that are not in the spool yet, or were fetched from what has changed since.

    Args:
        job: what to fetch.
        pieces: all pieces of the source.
        workers: processes; 1 fetches in this one.
        note: told of the problems of each piece when it is done, also of those done before.

    Raises:
        OSError: if the source cannot be read or the spool be written, or a worker was killed.
    """
    spool = Spool(job.spool)
    done: list[Piece] = []
    todo: list[Piece] = []
    for piece in pieces:
        (done if spool.is_done(piece.key, job.origin(piece)) else todo).append(piece)
    found, size = 0, sum(piece.size for piece in pieces)
    initial = sum(piece.size for piece in done)
    with tqdm.tqdm(desc="fetch", total=size, initial=initial, unit="B", unit_scale=True, disable=None) as bar:

        def count(piece: Piece) -> None:
            nonlocal found
            entries, problems = spool.read_piece(piece.key)
            found += len(entries)
            for problem in problems:
                note(problem)
            bar.set_postfix(found=found, refresh=False)

        for piece in done:
            count(piece)
        run = _fetch_here if workers == 1 or len(todo) < 2 else _fetch_in_processes
        # Closed at once when a problem is raised: its processes end before the error is seen.
        with contextlib.closing(run(job, todo, workers)) as finished:
            for piece in finished:
                count(piece)
                bar.update(piece.size)


def fetch_piece(job: Job, piece: Piece, stopped: Callable[[], bool] = lambda: False) -> None:
    """Reads one piece, checks its images and prompts, and puts them into the spool.

    Raises:
        OSError: if the source cannot be read or the spool be written.
        Stopped: if `stopped` turns true on the way.
    """
    with write_piece(job.spool, piece.key, job.origin(piece)) as writer:
        for item in job.source.read(piece, job.wanted):
            if stopped():
                raise Stopped
            if isinstance(item, Problem):
                writer.note(item)
            else:
                _add(job, writer, item)


def _add(job: Job, writer: PieceWriter, item: Item) -> None:
    def note(kind: Kind, detail: str) -> None:
        writer.note(Problem(kind, item.file, item.index, detail, item.uid))

    if item.image is None:
        note(Kind.NO_IMAGE, item.detail)
    elif item.prompt is None or not item.prompt.strip() or not _is_text(item.prompt):
        found = "no UTF-8 text" if item.prompt is None else repr(item.prompt)[:80]
        note(Kind.NO_PROMPT, f"found {found}; expected a prompt, as UTF-8 text")
    else:
        try:
            image = check_image(item.image, max_pixels=job.max_pixels, reencode=job.reencode)
        except UnusableImage as error:
            note(error.kind, error.detail)
        else:
            writer.add(item.uid, item.file, item.index, item.prompt, image)


def _is_text(prompt: str) -> bool:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fetch_here(job: Job, todo: Sequence[Piece], workers: int) -> Generator[Piece, None, None]:
    for piece in todo:
        fetch_piece(job, piece)
        yield piece


def _fetch_in_processes(job: Job, todo: Sequence[Piece], workers: int) -> Generator[Piece, None, None]:
    """Yields pieces as they are done."""
    context = worker_context()
    stop = context.Event()
    workers = min(workers, len(todo))
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (job, stop)) as executor:
        try:
            with starting_workers():
                waiting = {executor.submit(_work, piece): piece for piece in todo}
            for future in concurrent.futures.as_completed(waiting):
                future.result()
                yield waiting.pop(future)
        except BaseException:
            stop.set()
            executor.shutdown(cancel_futures=True)
            raise


_job: Job
_stop: multiprocessing.synchronize.Event


def _start_worker(job: Job, stop: multiprocessing.synchronize.Event) -> None:
    """Prepares a worker; its parent sets `stop` to end it."""
    global _job, _stop
    _job, _stop = job, stop


def _work(piece: Piece) -> None:
    fetch_piece(_job, piece, _stop.is_set)
