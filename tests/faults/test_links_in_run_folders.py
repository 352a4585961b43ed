"""Links in the run folder of somebody else: nothing is written, truncated or deleted where they lead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY
from run_folders import job, make_run
from test_malicious_files import files

from gantrain.cli.main import main

STEP_2 = "trainer.steps=2"
DATA = "index_files/data"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step with samples and an export folder."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", *TINY, "trainer.steps=1", "name=run", f"checkpoints_dir={folder}"]) == 0
    assert main(["test", f"run={folder}/run", "num=2", "accelerator=cpu"]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path) -> Iterator[Path]:
    """A copy of the run, and a folder ``victim`` of the user, which stays as it is."""
    folder = Path("checkpoints/run").absolute()
    shutil.copytree(trained, folder)
    victim = Path("victim")
    (victim / "data").mkdir(parents=True)
    for name in ("step_1_samples.png", "log_0.js", "grid.png", "run.json", "page.js.1.tmp", "data/log_7.js", "a.txt"):
        (victim / name).write_text("precious")
    before = {path: digest for path, digest in files().items() if path.is_relative_to("victim")}
    yield folder
    assert {path: digest for path, digest in files().items() if path.is_relative_to("victim")} == before


def link(path: Path, target: str) -> None:
    """Replace what is at ``path`` by a link to something of the user."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(Path(target).absolute())


@pytest.mark.parametrize("target", ["victim", "victim/new"])
@pytest.mark.parametrize("name", ["results", "results/test_1", "results/test_1/samples", "results/test_1/index_files"])
def test_results_are_not_written_where_a_link_leads(run: Path, name: str, target: str, capsys) -> None:
    link(run / name, target)
    assert main(["test", "run=checkpoints/run", "num=1", "accelerator=cpu"]) == 2
    message = capsys.readouterr().err
    assert f"{name} is a symbolic link" in message
    assert "remove the link" in message


def test_the_list_of_results_is_not_written_where_a_link_leads(run: Path) -> None:
    link(run / DATA, "victim/data")
    assert main(["test", "run=checkpoints/run", "num=1", "accelerator=cpu", "out=mine"]) == 0


def test_results_elsewhere_do_not_follow_links_of_earlier_ones(run: Path, capsys) -> None:
    shutil.copytree(run / "results/test_1", "mine")
    link(Path("mine/samples"), "victim")
    assert main(["test", "run=checkpoints/run", "num=1", "accelerator=cpu", "out=mine"]) == 2
    assert "mine/samples is a symbolic link" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["images", "crash", "index_files", DATA, "results"])
def test_training_does_not_write_where_a_link_leads(run: Path, name: str, capsys) -> None:
    link(run / name, "victim")
    assert main(["train", *TINY, STEP_2, "name=run"]) == 2
    assert f"{name} is a symbolic link" in capsys.readouterr().err


def test_a_lock_that_is_a_link_is_refused(run: Path, capsys) -> None:
    link(run / ".lock", "victim/a.txt")
    assert main(["train", *TINY, STEP_2, "name=run"]) == 2
    assert ".lock" in capsys.readouterr().err


def test_files_elsewhere_with_hard_links_in_the_run_folder_are_unchanged(run: Path) -> None:
    (run / ".lock").hardlink_to("victim/a.txt")
    log = Path("log")
    log.write_bytes((run / "losses.jsonl").read_bytes())
    (run / "losses.jsonl").unlink()
    (run / "losses.jsonl").hardlink_to(log)
    before = log.read_bytes()
    assert main(["train", *TINY, STEP_2, "name=run"]) == 0
    assert log.read_bytes() == before


def test_links_in_place_of_files_are_replaced(run: Path) -> None:
    for name in ("images/step_2_samples.png", "step_2.tmp", "best.tmp", "losses.jsonl", "index.html", "config.yaml"):
        link(run / name, "victim/a.txt")
    assert main(["train", *TINY, STEP_2, "trainer.image_every=1", "name=run"]) == 0
    assert not any((run / name).is_symlink() for name in ("images/step_2_samples.png", "step_2.pt", "losses.jsonl"))


def test_links_inside_the_run_folder_are_harmless(run: Path) -> None:
    (run / "latest").symlink_to("results/test_1")
    assert main(["train", *TINY, STEP_2, "name=run"]) == 0


def test_exports_are_not_written_where_a_link_leads(run: Path, capsys) -> None:
    link(run / "exports", "victim")
    assert main(["export", "run=checkpoints/run", "format=safetensors"]) == 2
    assert "exports is a symbolic link" in capsys.readouterr().err


def test_pages_are_not_written_where_a_link_leads(run: Path, capsys) -> None:
    make_run("other")
    about = (run / DATA / "about.js").read_text()
    link(run / "index_files", "victim")
    (Path("victim/data/about.js")).write_text(about)
    try:
        assert main(["runs", "pages"]) == 0
    finally:
        Path("victim/data/about.js").unlink()
    assert "index_files: a symbolic link" in capsys.readouterr().err


def test_records_of_a_sweep_name_no_file_elsewhere(run: Path) -> None:
    record = job("one", folder="../../one")
    make_run("one")
    Path("checkpoints/sweeps/mine/jobs/one.json").write_text(json.dumps({**record, "run": "../../../../victim/run"}))
    assert main(["runs", "remove", "one", "--yes"]) == 0


def test_records_of_a_sweep_are_not_written_where_a_link_leads(run: Path, capsys) -> None:
    Path("checkpoints/sweeps/mine").mkdir(parents=True)
    link(Path("checkpoints/sweeps/mine/jobs"), "victim")
    argv = ["train", *TINY, "trainer.steps=1", "-m", "seed=1", "hydra.sweep.dir=checkpoints/sweeps/mine"]
    assert main(argv) == 2
    assert "jobs is a symbolic link" in capsys.readouterr().err
