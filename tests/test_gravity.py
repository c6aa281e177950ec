"""The house stands by its imports: a room imports only from rooms below it, and inference stays light."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

import richhf

ROOT = pathlib.Path(__file__).resolve().parents[1]

# A room may import from itself and from the rooms named here (and from what those may import).
BELOW = {
    "interruption": set(),
    "atomic": {"interruption"},
    "quiet": set(),
    "feedback": {"atomic"},
    "data": {"feedback", "interruption"},
    "models": {"feedback"},
    "pretrained": {"models", "data"},
    "training": {"atomic"},
    "evaluation": {"data", "models"},
    "inference": {"evaluation", "pretrained", "training", "data", "models"},
    "cli": {"inference", "quiet"},
}
FOREIGN = {
    "interruption": {"jax", "flax", "tensorflow", "seqio", "gin", "clu"},
    "atomic": {"jax", "flax", "tensorflow", "seqio", "gin", "clu"},
    "quiet": {"jax", "flax", "tensorflow", "seqio", "gin", "clu"},
    "feedback": {"jax", "flax", "tensorflow", "seqio", "gin", "clu"},
    "models": {"tensorflow", "seqio", "gin", "clu", "tasks", "launch", "optax", "orbax"},
    "training": {"tensorflow", "seqio", "gin", "tasks", "launch"},
    "evaluation": {"gin", "tasks", "launch"},
    "inference": {"tensorflow", "seqio", "gin", "clu", "tasks", "launch"},
    "data": {"gin", "tasks", "launch"},
    "cli": {"gin", "tasks", "launch"},
}


def allowed_rooms(room: str) -> set[str]:
    """All rooms that `room` may import, itself included."""
    rooms, todo = {room}, list(BELOW[room])
    while todo:
        below = todo.pop()
        if below not in rooms:
            rooms.add(below)
            todo.extend(BELOW[below])
    return rooms


def imported_modules(path: pathlib.Path) -> set[str]:
    """Every absolute module name that a file imports, at the top or inside a function."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*prefix, *([node.module] if node.module else [])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def library_files() -> list[pathlib.Path]:
    return [p for p in sorted((ROOT / "richhf").rglob("*.py")) if p != ROOT / "richhf" / "__init__.py"]


@pytest.mark.parametrize("path", library_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_below(path):
    room = path.relative_to(ROOT / "richhf").with_suffix("").parts[0]
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "richhf" and len(parts) > 1:
            assert parts[1] in allowed_rooms(room), f"{room} imports {module}: not below it"
        assert parts[0] not in FOREIGN.get(room, set()), f"{room} imports {module}: kept out of that room"


def test_gin_is_imported_at_the_door_only():
    doors = ROOT / "launch"
    for path in [*ROOT.glob("richhf/**/*.py"), *ROOT.glob("tasks/**/*.py"), *doors.rglob("*.py")]:
        if any(module.split(".")[0] == "gin" for module in imported_modules(path)):
            assert path.is_relative_to(doors), f"{path.relative_to(ROOT)} imports gin"


def test_gin_folder_never_becomes_a_package():
    assert not (ROOT / "gin" / "__init__.py").exists(), "gin/__init__.py would hide the gin-config package"


def test_inference_imports_no_training_stack():
    modules = "richhf, richhf.data, richhf.models, richhf.evaluation, richhf.inference"
    code = f"import sys; import {modules}; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "jax" in loaded
    assert not {"tensorflow", "seqio", "gin", "tensorflow_datasets", "clu"} & set(loaded)


RECORD_COMMANDS = """
import sys
for name in ("tensorflow", "seqio", "gin", "tensorflow_datasets", "clu", "orbax", "optax", "pyarrow"):
    sys.modules[name] = None
from richhf.cli import main
sizes = ["--train", "3", "--dev", "1", "--test", "1", "--size", "32", "--workers", "1"]
assert main(["synthesize", "set", *sizes]) == 0
assert main(["inspect", "set", "--out", "sheet.png"]) == 0
"""


def test_records_are_made_and_inspected_without_the_training_stack(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", RECORD_COMMANDS]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "5 records in 3 files, 0 problems" in result.stdout
    assert (tmp_path / "sheet.png").is_file()


def test_no_message_names_a_package_that_no_registry_serves():
    for path in [*ROOT.glob("richhf/**/*.py"), *ROOT.glob("tasks/**/*.py"), *ROOT.glob("launch/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        found = re.search(r"pip install (-U )?['\"]?richhf", text)
        assert not found, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_the_public_names_and_the_version_are_those_stated():
    assert dir(richhf) == sorted(richhf.__all__)
    (version,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "richhf" / "__init__.py").read_text(), re.M)
    assert richhf.__version__ == version
    for name in richhf.__all__:
        assert getattr(richhf, name) is not None
