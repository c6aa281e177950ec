"""Interrupts a command at random times from its start to its end, by Ctrl-C and by SIGTERM.

python -m tests.benchmarks.interruptions OUT --images 60 --interrupts 60 --terms 20
python -m tests.benchmarks.interruptions OUT -- python -m richhf.cli synthesize {out} --train 3000

The command is `richhf predict` on a folder of examples unless one is given; `{out}` is its output. Each time
the exit status must be 130 or 143, stderr must end in one line of the command's and hold no traceback, and no
process may be left. Signals are counted from the moment at which the process handles them. Every tenth output
is then finished and compared with one that was never interrupted. Ends with 1 if anything was wrong.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--images", type=int, default=60, help="of the folder that is predicted on")
    parser.add_argument("--interrupts", type=int, default=60, help="how often SIGINT is sent")
    parser.add_argument("--terms", type=int, default=20, help="how often SIGTERM is sent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--until", type=float, help="seconds at most before a signal (default: the whole run)"
    )
    parser.add_argument("command", nargs="*", help="with {out} in it")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    command = options.command
    if not command:
        draw_images(options.out / "images", options.images)
        command = [sys.executable, "-m", "richhf.cli", "predict", "--folder", str(options.out / "images")]
        command += ["--out", "{out}"]
    whole = options.out / "whole"
    start = time.monotonic()
    subprocess.run(with_output(command, whole), check=True, capture_output=True)
    took = time.monotonic() - start
    print(f"in one go: {took:.1f} s", flush=True)
    chance = random.Random(options.seed)
    kinds = [signal.SIGINT] * options.interrupts + [signal.SIGTERM] * options.terms
    statuses: dict[signal.Signals, Counter[str]] = {signal.SIGINT: Counter(), signal.SIGTERM: Counter()}
    problems = 0
    for number, signum in enumerate(kinds):
        output = options.out / f"part-{number}"
        status = "finished"
        while status == "finished":  # before the signal: that is no interruption
            shutil.rmtree(output, ignore_errors=True)
            delay = chance.uniform(0, options.until or took)
            status, wrong, waited = interrupt(with_output(command, output), signum, delay)
        if number % 10 == 0 and not wrong:
            subprocess.run(with_output(command, output), check=True, capture_output=True)
            if contents(output) != contents(whole):
                wrong = "the finished output differs"
        statuses[signum][status] += 1
        problems += bool(wrong)
        print(f"{signum.name} after {delay:5.2f} s: {status} within {waited:.2f} s {wrong}", flush=True)
        shutil.rmtree(output, ignore_errors=True)
    for signum, counts in statuses.items():
        print(f"{signum.name}: {', '.join(f'{count} x {status}' for status, count in counts.items())}")
    print(f"wrong: {problems}")
    return 1 if problems else 0


def draw_images(folder: Path, count: int) -> None:
    """Writes some pictures of noise and a table of their prompts."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,prompt"]
    for index in range(count):
        values = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(values).resize((96, 80)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,a red circle above {index} blue squares")
    (folder / "prompts.csv").write_text("\n".join(lines) + "\n")


def with_output(command: list[str], output: Path) -> list[str]:
    """A command with its output's path in it."""
    return [part.replace("{out}", str(output)) for part in command]


def _group_ends(group: int, seconds: float = 5.0) -> bool:
    """Returns whether all processes of a group end within some seconds; a busy machine takes a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def interrupt(command: list[str], signum: signal.Signals, delay: float) -> tuple[str, str, float]:
    """Starts a command, sends a signal to it and its children, and says how it ended and what was wrong.

    Returns:
        The exit status or "finished", what was wrong or "", seconds from the signal to the end.
    """
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            taking_signals(command), stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        )
        wait_for_handler(process)
        time.sleep(delay)
        finished = process.poll() is not None
        sent = time.monotonic()
        if not finished:
            os.killpg(process.pid, signum)
        status = process.wait(timeout=60)
        waited = time.monotonic() - sent
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().replace("\r", "\n").splitlines()
    if finished:
        return "finished", "" if status == 0 else f"status {status}", waited
    wrong = []
    if status != 128 + signum:
        wrong.append(f"status {status}")
    ours = [line for line in lines if "run the same command again to resume" in line]
    # Besides progress bars nothing but this one line.
    others = [line for line in lines if line.strip() and line not in ours and "|" not in line]
    if len(ours) != 1 or ours[0] != lines[-1] or others:
        wrong.append(f"stderr: {lines[-5:]}")
    if not _group_ends(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
        wrong.append("a process is left")
    return str(status), "; ".join(wrong), waited


def taking_signals(command: list[str], sigint: str = "SIG_DFL") -> list[str]:
    """A command that does not ignore SIGINT, as a shell's background job and its children do."""
    code = f"import os, signal, sys; signal.signal(signal.SIGINT, signal.{sigint}); "
    return [sys.executable, "-S", "-c", f"{code}os.execvp(sys.argv[1], sys.argv[1:])", *command]


def wait_for_handler(process: subprocess.Popen) -> None:
    """Waits until a process handles SIGTERM by itself: before, no code of ours has run."""
    path, bit = Path(f"/proc/{process.pid}/status"), 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        caught = next(
            (line for line in path.read_text().splitlines() if line.startswith("SigCgt")), "SigCgt: 0"
        )
        if int(caught.split()[1], 16) & bit:
            return
        time.sleep(0.001)


def contents(folder: Path) -> dict[str, bytes]:
    """The files under a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    sys.exit(main())
