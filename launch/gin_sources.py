"""Which of the shipped gin files set a macro or configure a job, for messages about what is missing."""

import re
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "gin"
REQUIRED = "%gin.REQUIRED"
KINDS = ("models", "data")
"""Folders of gin files whose macros other files require."""
BEFORE = {"benchmark.gin": ("train.gin",)}
"""Runs that a file of a run takes its settings from."""


def where_from(names: Sequence[str]) -> str:
    """Returns where macros get their values, from files of a kind or as flags: `add ...; set ...`."""
    places: dict[str, list[str]] = {}
    for name in names:
        kinds = [kind for kind in KINDS if any(_sets(file, name) for file in _files(kind))]
        place = f"--gin_file=gin/{kinds[0]}/NAME.gin" if kinds else ""
        places.setdefault(place, []).append(name)
    flags = places.pop("", [])
    parts = [f"add {place} for {_listed(given)}" for place, given in sorted(places.items(), reverse=True)]
    parts += [f"set {_listed([f'--gin.{name}=VALUE' for name in flags])}"] if flags else []
    return "; ".join(parts)


def how_to_configure(job: str, macros: Sequence[str]) -> str:
    """Returns what to add for a job that no gin file configures.

    Args:
      job: the name of the job's function, `train_job`.
      macros: names of the macros that have a value or need none.
    """
    files = [file for file in _files("runs") if re.search(rf"^(\w+\.)?{job}\.", _text(file), re.MULTILINE)]
    # A file that others include comes first.
    files.sort(key=lambda file: (file.stem not in job, file.stem != "train", _text(file).count("include ")))
    if not files:
        return ""
    before = [FOLDER / "runs" / name for name in BEFORE.get(files[0].name, ())]
    required = re.findall(rf"^(\w+) = {REQUIRED}", "\n".join(map(_text, [*before, files[0]])), re.MULTILINE)
    missing = [name for name in required if name not in macros]
    add = _listed([f"--gin_file=gin/runs/{file.name}" for file in [*before, files[0]]])
    others = _listed([f"gin/runs/{file.name}" for file in files[1:]], "or")
    also = f" (or {others})" if others else ""
    needs = (
        f" {_listed(missing)} also {'needs' if len(missing) == 1 else 'need'} a value: {where_from(missing)}."
    )
    return f"Add {add}{also}.{needs if missing else ''}"


def _files(kind: str) -> list[Path]:
    return sorted((FOLDER / kind).glob("*.gin"))


def _text(file: Path) -> str:
    """A file's text with the files that it includes."""
    text = file.read_text(encoding="utf-8")
    included = re.findall(r'^include "gin/(.*)"', text, re.MULTILINE)
    return "\n".join([text, *(_text(FOLDER / name) for name in included)])


def _sets(file: Path, name: str) -> bool:
    values = re.findall(rf"^{name} = (.*)", _text(file), re.MULTILINE)
    return any(not value.startswith(REQUIRED) for value in values)


def _listed(names: Sequence[str], last: str = "and") -> str:
    return ", ".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} {last} {names[-1]}"
