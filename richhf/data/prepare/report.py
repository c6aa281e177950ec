"""What `richhf prepare` says at the end, from `dataset_info.json`."""

from collections.abc import Iterator, Mapping
from typing import Any

from richhf.data.prepare.problems import Kind, Problem

_SHOWN = 5  # problems of a kind and sizes listed before "and N more"


def format_report(info: Mapping[str, Any]) -> str:
    """Lays out `dataset_info.json` as lines of text."""
    return "\n".join(_lines(info))


def _lines(info: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'split':8}{'expected':>10}{'found':>10}{'written':>10}{'left out':>10}"
    for split, count in info["splits"].items():
        row = (count["expected"], count["found"], count["written"], sum(count["left_out"].values()))
        yield f"{split:8}" + "".join(f"{value:10,}" for value in row)
    source = info["source"]
    if table := source.get("table"):
        columns = " and ".join(f"{what} in column {name!r}" for what, name in source["columns"].items())
        yield f"\ntable     {table['name']}: {table['form']}; {columns}"
        yield from (f"          {remark}" for remark in table.get("remarks", ()))
    images = info["images"]
    if images["formats"]:
        formats = ", ".join(f"{count:,} {name}" for name, count in images["formats"].items())
        yield f"\nimages    {formats}; {images['converted']:,} converted to PNG"
        sizes = [f"{size} ({count:,})" for size, count in images["sizes"].items()]
        more = f" and {len(sizes) - _SHOWN:,} other sizes" if len(sizes) > _SHOWN else ""
        yield f"sizes     {', '.join(sizes[:_SHOWN])}{more}"
    problems = [Problem.from_json(value) for value in info["problems"]]
    for kind in Kind:
        if found := [f"  {problem.place}: {problem.detail}" for problem in problems if problem.kind == kind]:
            yield f"\n{kind}: {len(found):,}"
            yield from _shorten(found)


def _shorten(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"  ... and {more:,} more in dataset_info.json"] if more > 0 else lines
