"""Rules of the code base: which room imports which, sizes, docstrings, words, start-up time, and what is packaged."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType

from conftest import TINY
from warm import Warm

import gantrain
from gantrain.training.trainer import Trainer

PACKAGE = Path(gantrain.__file__).parent
ROOT = Path(__file__).parent.parent
# From the bottom up: each room imports only from itself and from the lines before its own, not from its neighbours.
FLOORS = [
    ["errors"],
    ["runtime"],
    ["config"],
    ["registry"],
    ["data", "networks", "optim"],
    ["report", "checkpoints"],
    ["models"],
    ["metrics"],
    ["training"],
    ["inference", "benchmarking"],
    ["exports"],
    ["sweeps", "papers", "migration"],
    ["train", "test"],
    ["evaluate", "export", "predict", "doctor", "benchmark"],
    ["cli"],
    ["api"],
    ["__init__", "__main__"],
]
LEVEL = {room: number for number, floor in enumerate(FLOORS) for room in floor}
# Words that a user of PyTorch would not expect.
UNWANTED_WORDS = [
    *("told", "nobody", "whoever", "sight", "from memory", "to the same bits", "what there is", "is had", "let go"),
    *("lost touch", "without a word"),
]


def files() -> list[Path]:
    # Where the package is installed, configs is a package in it; it contains no code.
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "configs")


def module(path: Path) -> str:
    """``gantrain.data.base`` of ``data/base.py``, and ``gantrain.data`` of ``data/__init__.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["gantrain", *(parts if parts[-1] != "__init__" else parts[:-1])])


MODULES = {module(path): path for path in files()}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth, and gantrain's modules whose names occur in strings."""
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
    """The modules of gantrain that one imports, without the packages that contain it (it reads data files there)."""
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
        assert len(list(folder.glob("*.py"))) <= (12 if folder == PACKAGE else 16), folder


def test_only_the_command_line_knows_hydra() -> None:
    knowing = [path for path in files() if any(name.split(".")[0] == "hydra" for name in imports(path))]
    assert knowing
    assert {path.parent.name for path in knowing} == {"cli"}


def test_torchvision_is_imported_only_where_it_is_used() -> None:
    users = [path.name for path in files() if any(name.split(".")[0] == "torchvision" for name in imports(path))]
    assert sorted(users) == ["deferred.py", "doctor.py", "inception.py", "lpips.py", "torchvision_sets.py"]


def test_functions_fit_on_a_screen() -> None:
    assert len(inspect.getsource(Trainer.fit).splitlines()) <= 40
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_files_stay_small() -> None:
    for path in files():
        assert len(path.read_text().splitlines()) <= 300, path


# ---- language


def public(parent: ModuleType | type, name: str) -> Iterator[tuple[str, object]]:
    """The public classes, functions, methods and properties that are defined in a module or class, by full name."""
    for key, value in vars(parent).items():
        if key.startswith("_") or key in parent.__dict__.get("__annotations__", {}):  # a field with its default
            continue
        function = inspect.unwrap(value.__func__) if isinstance(value, (classmethod, staticmethod)) else value
        if isinstance(parent, ModuleType) and getattr(function, "__module__", None) != parent.__name__:
            continue
        if inspect.isclass(function):
            yield f"{name}.{key}", function
            yield from public(function, f"{name}.{key}")
        elif inspect.isfunction(function) or isinstance(function, (property, cached_property)):
            yield f"{name}.{key}", getattr(parent, key)


def test_everything_public_has_a_docstring_of_its_own_or_inherits_one() -> None:
    everything: dict[str, object] = {}
    for name in MODULES.keys() - {"gantrain.__main__"}:
        module = importlib.import_module(name)
        everything |= {name: module, **dict(public(module, name))}
    assert len(everything) > 500
    missing = sorted(name for name, what in everything.items() if not inspect.getdoc(what))
    assert not missing


def test_no_file_contains_an_unwanted_word() -> None:
    unwanted = re.compile(rf"\b({'|'.join(UNWANTED_WORDS)})\b", re.IGNORECASE)
    texts = [*files(), *(ROOT / "configs").rglob("*.yaml")]
    texts += [path for path in (PACKAGE / "report/assets").glob("*") if path.suffix in (".css", ".html", ".js")]
    found = [
        f"{path}:{number}: {match[0]}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in unwanted.finditer(line)
    ]
    assert not found, "\n".join(found)


def test_names_of_tests_are_at_most_70_characters_long() -> None:
    trees = {path: ast.parse(path.read_text()) for path in Path(__file__).parent.rglob("test_*.py")}
    names = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > 70
    ]
    assert not names, "\n".join(names)


# ---- the command


def test_help_takes_little_time_and_no_torch() -> None:
    code = "import sys; from gantrain.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 0.5


def test_the_traceback_of_a_plugin_is_short(warm: Warm) -> None:
    Path("raising.py").write_text(
        "from gantrain.models.base import LatentGAN\n"
        "from gantrain.registry import MODELS\n"
        "@MODELS.register('raising')\n"
        "class Raising(LatentGAN):\n"
        "    'Raises.'\n"
        "    def train_step(self, batches, update):\n"
        "        raise RuntimeError('a mistake in a plug-in')\n"
    )
    ended = warm.run(["-m", "gantrain", "train", *TINY, "plugins=[raising]", "model.name=raising"])
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("RuntimeError: a mistake in a plug-in")
    frames = re.findall(r'^ +File "(.*)", line \d+, in (.*)$', ended.stderr, re.MULTILINE)
    assert frames.pop() == (str(Path("raising.py").absolute()), "train_step")
    own = [frame for frame in frames if Path(frame[0]).is_relative_to(PACKAGE)]
    assert 1 <= len(own) <= 10, own


def test_the_command_works_in_a_clone_without_an_installation_of_it() -> None:
    for folder in ("configs", "gantrain"):
        shutil.copytree(ROOT / folder, Path("clone", folder))
    command = [sys.executable, "-m", "gantrain", "train", "--cfg", "job"]
    result = subprocess.run(command, cwd="clone", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search("^name: null", result.stdout, re.MULTILINE)
    assert "name: dcgan" in result.stdout


# ---- distributions


BUILD = """
import os, sys, tarfile
from setuptools import build_meta
sdist = build_meta.build_sdist("dist")
build_meta.build_wheel("dist/from_clone")
tarfile.open(f"dist/{sdist}").extractall()
os.chdir(sdist.removesuffix(".tar.gz"))
build_meta.build_wheel("../dist/from_sdist")
"""
# The fork server has imported gantrain from elsewhere.
TRAIN = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "gantrain"]:
    del sys.modules[name]
sys.path.insert(0, sys.argv.pop(1))
from gantrain.cli.main import main
print(sys.modules["gantrain"].__file__)
sys.exit(main(sys.argv[1:]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    """The files of the package below a folder, as they are installed, by name."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.removeprefix("gantrain/"): path.read_bytes()
        for name, path in names.items()
        if name.startswith(("gantrain/", "configs/")) and "__pycache__" not in name
    }


def test_a_wheel_and_an_sdist_contain_everything_and_train(warm: Warm) -> None:
    clone = Path("clone")
    for name in ("configs", "gantrain"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, clone)
    expected = contents(clone)
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=clone, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for origin in ("from_clone", "from_sdist"):
        (wheel,) = (clone / "dist" / origin).glob("*.whl")
        install = ["-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", origin, str(wheel)]
        installed = subprocess.run([sys.executable, *install], capture_output=True, text=True, check=False)
        assert installed.returncode == 0, installed.stderr
        found = contents(Path(origin))
        assert found == expected
        trained = warm.run(["-c", TRAIN, str(Path(origin).absolute()), "train", *TINY, "trainer.steps=2", "name=run"])
        assert trained.returncode == 0, trained.stderr
        assert Path(trained.stdout.strip()).is_relative_to(Path(origin).absolute())
        assert Path("checkpoints/run/step_2.pt").exists()
        shutil.rmtree("checkpoints")


def test_the_picture_of_the_architecture_shows_the_rooms_of_today() -> None:
    script = runpy.run_path(str(ROOT / "scripts/draw_architecture.py"))
    drawn = script["draw"](script["layers"]())
    assert drawn == (ROOT / "docs/img/architecture.svg").read_text(encoding="utf-8"), "run scripts/draw_architecture.py"
    assert all(f">{room}<" in drawn or f">{room}.py<" in drawn for row in FLOORS[:-1] for room in row)
