"""Rules of the house: rooms and the arrows between them, the size of the loop, what may not be imported where."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gantrain
from gantrain.training.trainer import Trainer

PACKAGE = Path(gantrain.__file__).parent
# from the ground up: each room imports only from itself and from those before it; what stands on one line knows nothing
# of its neighbours
FLOORS = [
    ["errors"],
    ["runtime"],
    ["config"],
    ["registry"],
    ["data", "networks", "optim"],
    ["report", "checkpoints"],
    ["models"],
    ["training"],
    ["inference"],
    ["sweeps"],
    ["train", "test"],
    ["cli"],
    ["__init__", "__main__"],
]
LEVEL = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def files() -> list[Path]:
    # installed, the configurations are a package in there, with no code
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "configs")


def module(path: Path) -> str:
    """``gantrain.data.base`` of ``data/base.py``, and ``gantrain.data`` of ``data/__init__.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["gantrain", *(parts if parts[-1] != "__init__" else parts[:-1])])


MODULES = {module(path): path for path in files()}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, and gantrain's own whose names stand in strings."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in whole}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in MODULES:
            found.add(node.value)
    return found


def below(name: str) -> set[str]:
    """The modules of gantrain that one imports; its own packages, which hold its data files, are none."""
    return {other for other in imports(MODULES[name]) & MODULES.keys() if not f"{name}.".startswith(f"{other}.")}


ARROWS = {name: below(name) for name in MODULES}


def room(name: str) -> str:
    return (name.split(".") + ["__init__"])[1]


def test_each_room_imports_only_from_those_below() -> None:
    checked = 0
    for name, others in ARROWS.items():
        for other in others:
            if room(name) != room(other):
                assert LEVEL[room(other)] < LEVEL[room(name)], f"{name} imports {other}"
                checked += 1
    assert checked > 50
    assert {room(name) for name in MODULES} == set(LEVEL)


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = dict(ARROWS)
    while left:
        free = [name for name, others in left.items() if not others & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in free}


def test_rooms_stay_small() -> None:
    for folder in {path.parent for path in files()}:
        assert len(list(folder.glob("*.py"))) <= (8 if folder == PACKAGE else 17), folder  # one is __init__.py


def test_only_the_command_line_knows_hydra() -> None:
    knowing = [path for path in files() if any(name.split(".")[0] == "hydra" for name in imports(path))]
    assert knowing
    assert {path.parent.name for path in knowing} == {"cli"}


def test_torchvision_is_imported_only_where_its_data_sets_are() -> None:
    users = [path.name for path in files() if any(name.split(".")[0] == "torchvision" for name in imports(path))]
    assert users == ["torchvision_sets.py"]


def test_functions_fit_on_a_screen() -> None:
    assert len(inspect.getsource(Trainer.fit).splitlines()) <= 40
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_no_file_is_two_ideas() -> None:
    for path in files():
        assert len(path.read_text().splitlines()) <= 300, path


def test_the_command_works_in_a_clone_without_an_installation_of_it(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    shutil.copytree(root / "configs", tmp_path / "clone" / "configs")
    shutil.copytree(root / "gantrain", tmp_path / "clone" / "gantrain")
    command = [sys.executable, "-m", "gantrain", "train", "--cfg", "job"]
    result = subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search("^name: null", result.stdout, re.MULTILINE)
    assert "name: dcgan" in result.stdout
