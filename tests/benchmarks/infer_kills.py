"""Kills launch.infer at random moments by SIGKILL, in one process and in two, and compares what comes of it.

python tests/benchmarks/infer_kills.py OUT --kills 6 -- \
    --gin_file=gin/models/tiny_multi_head.gin --gin_file=gin/data/synthetic.gin \
    --gin_file=gin/runs/infer.gin --gin.MODEL_DIR=build/demo/multi_head-1650 \
    --gin.INPUT='build/demo/data/test-*' --gin.BATCH_SIZE=20 --gin.SHARD_SIZE=20

OUT/whole is made in one go; OUT/parts is killed and started again, then both must hold the same bytes.
"""

import argparse
import random
import socket
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("flags", nargs="+", help="of launch.infer, without OUTPUT_DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    start = time.monotonic()
    finish(begin(options.flags, options.out / "whole", 1))
    took = time.monotonic() - start
    print(f"in one go: {took:.0f} s, {shards(options.out / 'whole')} shards", flush=True)
    chance = random.Random(options.seed)
    for kill in range(options.kills):
        count = 1 + kill % 2
        running = begin(options.flags, options.out / "parts", count)
        until = shards(options.out / "parts") + chance.randrange(6)
        while shards(options.out / "parts") < until and all(one.poll() is None for one in running):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1))
        for process in running:
            process.kill()
            process.wait()
        left = len(list((options.out / "parts").glob(".shard-*")))
        print(
            f"kill {kill + 1} of {count} process(es): {shards(options.out / 'parts')} shards there, "
            f"{left} half made",
            flush=True,
        )
    finish(begin(options.flags, options.out / "parts", 1))
    whole, parts = (contents(options.out / name) for name in ("whole", "parts"))
    different = sorted(name for name in {**whole, **parts} if whole.get(name) != parts.get(name))
    print(f"{len(whole)} files; different: {', '.join(different[:5]) or 'none'}")
    return 1 if different else 0


def begin(flags: list[str], output: Path, count: int) -> list[subprocess.Popen]:
    """Starts launch.infer in some processes."""
    command = [sys.executable, "-m", "launch.infer", *flags, f"--gin.OUTPUT_DIR={output}"]
    several: list[list[str]] = [[]]
    if count > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"--coordinator_address=127.0.0.1:{free.getsockname()[1]}"
        several = [[address, f"--process_count={count}", f"--process_index={i}"] for i in range(count)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen([*command, *own], **quiet) for own in several]


def finish(running: list[subprocess.Popen]) -> None:
    """Waits for the processes.

    Raises:
      RuntimeError: one failed.
    """
    if any([process.wait() for process in running]):
        raise RuntimeError(f"launch.infer failed: {running[0].args}")


def shards(folder: Path) -> int:
    """How many shards there are."""
    return len(list(folder.glob("shard-*")))


def contents(folder: Path) -> dict[str, bytes | None]:
    """The files and folders under a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


if __name__ == "__main__":
    sys.exit(main())
