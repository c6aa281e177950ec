"""The house stands by its imports: a room imports only from rooms below it, and inference stays light."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# A room may import from itself and from the rooms named here (and from what those may import).
BELOW = {
    "interruption": set(),
    "atomic": {"interruption"},
    "quiet": set(),
    "feedback": {"atomic"},
    "data": {"feedback", "interruption"},
    "models": {"feedback"},
    "pretrained": {"models"},
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
