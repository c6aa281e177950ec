"""How fast `richhf prepare` reads Pick-a-Pic, and in how much memory.

    python -m tests.benchmarks.prepare --gigabytes 3 --folder /tmp/benchmark

Makes parquet files like Pick-a-Pic v1's (two JPEG of 512 x 512 a row, row groups of 100 rows, one image of 3
of 100 rows wanted) and labels, all of them `train`, runs the command as a user would, in a process of its
own, and prints rows and bytes a second, from its start to its end, and the peak memory of all its processes
together (resident, what they share counted in each; looked at 20 times a second; Linux only). The files were
written just before, so what fits into memory is read from there and not from the disk. They are made in a new
folder within --folder, at least one file of about 0.3 GB, and removed at the end with what the command made
of them.
"""

import argparse
import io
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from richhf.data.records import Record, encode_png, write_records
from richhf.feedback import HEATMAPS, SCORES

GROUP, GROUPS = 100, 12  # rows of a group, groups of a file
WANTED = 3  # of 100 rows
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("caption", "image_0_uid", "image_1_uid", "model_0", "model_1")),
        *((name, pa.binary()) for name in ("jpg_0", "jpg_1")),
        ("label_0", pa.float64()),
    ]
)


def make_pictures(rng: np.random.Generator) -> list[bytes]:
    """A few JPEG of 512 x 512, of about the size of a photograph."""
    pictures = []
    for quality in (88, 90, 92, 94):
        coarse = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((512, 512))
        pixels = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (512, 512, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        pictures.append(buffer.getvalue())
    return pictures


def with_comment(picture: bytes, comment: bytes) -> bytes:
    """Another file of the same picture."""
    return picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + picture[2:]


def make_source(folder: pathlib.Path, size: int) -> tuple[int, int]:
    """Writes at least `size` bytes of parquet and the labels; returns rows and bytes."""
    rng = np.random.default_rng(0)
    pictures, rows, written, wanted = make_pictures(rng), 0, 0, []
    (folder / "source").mkdir(parents=True)
    number = 0
    while written < size:
        path = folder / "source" / f"train-{number:05d}-of-00645.parquet"
        with pq.ParquetWriter(path, SCHEMA) as writer:
            for _ in range(GROUPS):
                group = [make_row(rng, pictures, rows + row) for row in range(GROUP)]
                wanted += [row["image_1_uid"] for row in group[:: GROUP // WANTED][:WANTED]]
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                rows += GROUP
        written += path.stat().st_size
        number += 1
    write_labels(folder / "labels", wanted, rng)
    return rows, written


def make_row(rng: np.random.Generator, pictures: list[bytes], number: int) -> dict[str, object]:
    """One row of two images."""
    images = [with_comment(pictures[rng.integers(len(pictures))], rng.bytes(2000)) for _ in range(2)]
    return {
        "caption": f"a photograph of number {number}",
        "image_0_uid": f"{number:08x}-0",
        "image_1_uid": f"{number:08x}-1",
        "model_0": "one",
        "model_1": "other",
        "jpg_0": images[0],
        "jpg_1": images[1],
        "label_0": 0.5,
    }


def write_labels(folder: pathlib.Path, uids: list[str], rng: np.random.Generator) -> None:
    """Writes `train.tfrecord`, in another order than the images have."""
    heatmap = np.zeros((512, 512), np.uint8)
    heatmap[100:200, 200:300] = 85
    heatmap = np.asarray(Image.open(io.BytesIO(encode_png(heatmap))))
    records = (
        Record(
            filename=f"train/{uids[number]}.png",
            scores=dict.fromkeys(SCORES, 0.5),
            heatmaps=dict.fromkeys(HEATMAPS, heatmap),
            labels=(1,) * 5,
        )
        for number in rng.permutation(len(uids))
    )
    write_records(folder / "train.tfrecord", records)


def run(command: list[str]) -> tuple[float, float, int]:
    """Runs a command.

    Returns:
        seconds, seconds of processor time, and the peak of the resident bytes of it and all its children.
    """
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, peak


def tree_memory(root: int) -> int:
    """Resident bytes of a process and its descendants; what they share counts once for each."""
    parents, resident = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            resident[int(path.name)] = int((path / "statm").read_text().split()[1]) * resource.getpagesize()
        except OSError:
            continue  # it has ended

    def belongs(process: int) -> bool:
        while process and process != root:
            process = parents.get(process, 0)
        return process == root

    return sum(size for process, size in resident.items() if belongs(process))


def main() -> None:
    """Makes the files, runs the command, prints figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=3.0, help="of parquet, at least (default 3)")
    parser.add_argument(
        "--folder", type=pathlib.Path, help="made if need be (default: the system's for such files)"
    )
    parser.add_argument("--workers", type=int, default=2, help="of the command (default 2)")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        rows, size = make_source(folder, round(arguments.gigabytes * 1e9))
        print(f"{size / 1e9:.2f} GB of parquet, {rows:,} rows", flush=True)
        command = [sys.executable, "-m", "richhf.cli", "prepare", "--richhf", str(folder / "labels")]
        command += ["--images", str(folder / "source"), "--out", str(folder / "out")]
        seconds, busy, peak = run([*command, "--workers", str(arguments.workers)])
        print(f"{seconds:.1f} s from start to end, {busy:.1f} s of processors, {arguments.workers} workers")
        print(
            f"{rows / seconds:,.0f} rows/s, {size / seconds / 1e6:,.0f} MB/s, peak memory {peak / 1e9:.2f} GB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
