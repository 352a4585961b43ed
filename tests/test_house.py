"""Rules of the house: layers, the size of the loop, what may not be imported where."""

from __future__ import annotations

import ast
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import gantrain
from gantrain.trainer import Trainer

PACKAGE = Path(gantrain.__file__).parent
# each layer imports only from itself and from those before it
LAYERS = [
    {"registry", "seeding", "interruption", "distributed", "lock", "upgrades"},
    {
        "losses",
        "similarity",
        "networks",
        "data",
        "schedules",
        "watch",
        "optim",
        "report",
        "settings",
        "resume",
        "naming",
        "plugins",
    },
    {"checkpoint_file", "checkpoint", "objective", "crash"},
    {"models"},
    {"trainer", "dry_run"},
    {"build"},
    {"loading", "init_from", "sampling", "translating"},
    {"train", "test", "data_check", "data_commands", "gpus", "sweep", "summary", "compare"},
    {"cli", "cli_faults", "cli_flags", "cli_hydra", "cli_sweep"},
    {"__init__", "__main__"},
]
LEVEL = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files() -> list[Path]:
    # installed, the configurations are a package in there, with no code
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "configs")


def test_each_layer_imports_only_from_those_below() -> None:
    checked = 0
    for path in files():
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "gantrain" and len(parts) > 1 and parts[1] in LEVEL:
                assert LEVEL[parts[1]] <= LEVEL[room], f"{path.name} imports {module}"
                checked += 1
        assert room in LEVEL, f"{room} has no layer"
    assert checked > 50


def test_only_the_command_knows_hydra() -> None:
    assert [path.name for path in files() if any(m.split(".")[0] == "hydra" for m in imports(path))] == [
        "cli.py",
        "cli_hydra.py",
    ]


def test_torchvision_is_imported_only_where_its_data_sets_are() -> None:
    users = [path.name for path in files() if any(m.split(".")[0] == "torchvision" for m in imports(path))]
    assert users == ["torchvision_sets.py"]


def test_the_loop_fits_on_a_screen() -> None:
    assert len(inspect.getsource(Trainer.fit).splitlines()) <= 40


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
    assert "name: dcgan" in result.stdout
