"""Whatever the small files of runs and sweeps contain, no command that reads them ends in a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, inside
from pages import data_of

from gantrain.cli.main import main
from gantrain.config import side_files as side_files_module
from gantrain.report.pages.home_page import write_home
from gantrain.sweeps.compare import compare_sweep
from gantrain.sweeps.summary import metrics, read_run
from gantrain.sweeps.sweep import read_jobs

RUNS = Path("checkpoints")
ONE, SWEEP = RUNS / "one", RUNS / "sweeps" / "mine"
TRAIN = ["train", *TINY, "name=one", "logger=csv", "trainer.log_every=1", "trainer.image_every=1"]
SWEEP_COMMAND = ["train", "-m", *TINY, "hydra.sweep.dir=checkpoints/sweeps/mine", "seed=0,1", "trainer.steps=1"]

NESTED = "[" * 100_000
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 40))


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def with_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def with_text(change: Callable[[str], str]) -> Callable[[Path], None]:
    return with_bytes(lambda content: change(content.decode("latin-1")).encode("latin-1"))


WHOLE: dict[str, Callable[[Path], object]] = {
    "nothing": with_bytes(lambda _: b""),
    "half": with_bytes(lambda content: content[: len(content) // 2]),
    "zeros": with_bytes(lambda content: bytes(len(content))),
    "utf-16": with_text(lambda text: text.encode("utf-16").decode("latin-1")),
    "noise": with_bytes(lambda _: bytes(range(256)) * 9),
    "nested": with_text(lambda _: NESTED),
    "nested in an object": with_text(lambda _: f'gantrain.data("status", {{"a": {NESTED}}});'),
    "many digits": with_text(lambda text: re.sub("[0-9]+", "9" * 5000, text, count=3)),
    "hexadecimal": with_text(lambda text: re.sub(r": [0-9]+\n", f": 0x{'f' * 5000}\n", text, count=1)),
    "bomb": with_text(lambda _: BOMB),
    "bomb of merges": with_text(lambda _: MERGES),
    "tags": with_text(lambda _: "a: !!binary aGk=\nb: 2020-01-01\nc: !!set {x}\n? [1]\n: 2\n3: 4\n"),
    "python": with_text(lambda _: "a: !!python/object/apply:os.system [false]\n"),
    "list": with_text(lambda _: "[1, 2]"),
    "script of a list": with_text(lambda _: 'gantrain.data("status", [1]);'),
    "directory": as_directory,
    "pipe": as_pipe,
    "loop": as_loop,
}
SIDE_FILES = ("config.yaml", "*.jsonl", "*.csv", "data/*.js", "images/*.png", "files.txt", "jobs/*.json", "index.html")


def side_files(folder: Path) -> list[Path]:
    """What is read back of a run or a sweep."""
    return sorted({path for pattern in SIDE_FILES for path in folder.rglob(pattern) if path.is_file()})


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, which has been tested, and a sweep of two."""
    here = tmp_path_factory.mktemp("originals")
    with inside(here):
        assert main([*TRAIN, "trainer.steps=2"]) == 0
        assert main(["test", "run=checkpoints/one", "num=4"]) == 0
        assert main(SWEEP_COMMAND) == 0
    return here


@pytest.fixture
def runs(originals: Path) -> Path:
    shutil.copytree(originals / RUNS, RUNS)
    shutil.copytree(originals / ONE, "whole")
    return RUNS


@pytest.mark.parametrize("damage", ["half", "utf-16", "nested", "tags", "directory", "pipe"])
def test_a_damaged_file_leaves_all_commands_working(damage: str, runs: Path, capsys) -> None:
    for path in side_files(runs):
        WHOLE[damage](path)
    started = time.monotonic()
    allowed = (0, 1) if damage == "directory" else (0,)  # No file can replace a folder: that is one line and status 1.
    for command in (
        [*TRAIN, "trainer.steps=3"],
        ["test", "run=checkpoints/one", "num=4"],
        SWEEP_COMMAND,
        ["compare", "checkpoints", "out=side"],
    ):
        assert main(command) in allowed
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert damage == "directory" or "warning: logger" not in printed
    assert data_of(Path("side"), "comparison")["runs"]
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "name", ["config.yaml", "losses.jsonl", "speed.jsonl", "index_files/data/status.js", "images/step_1_samples.png"]
)
def test_a_damaged_file_is_named_and_costs_what_it_held(name: str, runs: Path, capsys) -> None:
    whole = read_run(ONE)
    lost = {"config.yaml": "settings", "losses.jsonl": "lines"}.get(name)
    for damage, apply in WHOLE.items():
        side_files_module._reported.clear()  # Otherwise each is reported once.
        shutil.rmtree(ONE)
        shutil.copytree(runs.parent / "whole", ONE)
        apply(ONE / name)
        write_home(RUNS)
        run = read_run(ONE)
        for part in ("settings", "lines"):
            assert part == lost or getattr(run, part) == getattr(whole, part), damage
        assert [image["url"] for image in run.images] == [image["url"] for image in whole.images], damage
        warnings = capsys.readouterr().err.splitlines()
        assert all(name in line and line.startswith("warning: ") for line in warnings), damage
        assert len(warnings) <= 1, damage
        assert warnings or damage in ("nothing", "half", "hexadecimal", "many digits"), damage


ODD = cycle((None, True, -1, 1e999, 10**30, "", "\0", "\ud800", "x" * 5000, [], {"x": {}}))


def changed(value: Any) -> Iterator[Any]:
    """Copies of a JSON value in which one part is missing, or each of the next four odd values."""
    yield from islice(ODD, 4)
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: other for name, other in value.items() if name != key}
            yield from ({**value, key: other} for other in changed(part))
    elif isinstance(value, list):
        for number, part in enumerate(value[:2]):
            yield value[:number] + value[number + 1 :]
            yield from ([*value[:number], other, *value[number + 1 :]] for other in changed(part))


def summarize() -> None:
    """What ``gantrain compare`` and the page of all runs read, of one run and of a sweep."""
    metrics(read_run(ONE))
    for job in read_jobs(SWEEP):
        read_run(SWEEP / str(job.get("folder", "")), job)
    write_home(RUNS)


@pytest.mark.parametrize(
    "path",
    [
        ONE / "index_files/data/status.js",
        *(ONE / f"results/test_2/index_files/data/{name}.js" for name in ("results",)),
        ONE / "losses.jsonl",
        ONE / "speed.jsonl",
        SWEEP / "jobs",
    ],
    ids=lambda path: path.name,
)
def test_every_part_of_a_file_may_have_another_type(path: Path, runs: Path) -> None:
    path = next(path.glob("*.json")) if path.is_dir() else path
    text = path.read_text()
    first = text.splitlines()[0] if path.suffix == ".jsonl" else text
    start, end = first.index("{"), first.rindex("}") + 1
    for number, value in enumerate(changed(json.loads(first[start:end]))):
        path.write_text(text[: text.index("{")] + json.dumps(value) + text[end:], errors="surrogatepass")
        summarize()
        if path.parent.name == "jobs" and number % 20 == 0:
            compare_sweep(SWEEP, RUNS)


def test_listed_results_outside_of_their_folder_are_not_removed(runs: Path) -> None:
    outside = Path("precious")
    outside.mkdir()
    (outside / "a.png").touch()
    results = ONE / "results/test_2"
    (results / "link").symlink_to(outside.absolute())
    names = ["link/a.png", "../../../../precious/a.png", str(outside.absolute() / "a.png"), "%00", "x" * 300, "samples"]
    (results / "files.txt").write_text("# gantrain test\n" + "".join(f"{name}\n" for name in names))
    assert main(["test", "run=checkpoints/one", "num=4"]) == 2  # Because of the link.
    (results / "link").unlink()
    assert main(["test", "run=checkpoints/one", "num=4"]) == 0
    assert (outside / "a.png").exists()
