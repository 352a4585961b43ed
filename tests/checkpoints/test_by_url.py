"""Runs that are stored at a URL, with commands that take ``checkpoints_dir=URL``."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest
from conftest import TINY, assert_mentions, assert_same_bits

import gantrain
from gantrain.checkpoints import by_url
from gantrain.checkpoints.file import read
from gantrain.cli.main import main

RUN = ["name=run", "trainer.save_every=2", "trainer.log_every=1", "schedule=constant"]

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty bucket, ``memory://bucket``, and a cache of this machine, ``cache``."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    monkeypatch.setenv("GANTRAIN_CACHE", str(Path("cache").absolute()))
    by_url._announce.cache_clear()


def train(*words: str, url: str = "memory://bucket/runs") -> int:
    return main(["train", *TINY, *RUN, f"checkpoints_dir={url}", *words])


def another_machine() -> Path:
    """Remove what this machine has; returns where it works on the runs of the bucket."""
    shutil.rmtree("cache")
    return by_url.working_folder("memory://bucket/runs")


def test_a_run_at_a_url_resumes_on_another_machine_with_the_same_bits(capsys) -> None:
    assert main(["train", *TINY, *RUN, "trainer.steps=6"]) == 0
    assert train("trainer.steps=4") == 0
    folder = by_url.working_folder("memory://bucket/runs")
    assert f"Runs of memory://bucket/runs: this machine works on them in {folder}\n" in capsys.readouterr().err
    assert not Path("checkpoints", "run", "step_4.pt").samefile(folder / "run/step_4.pt")
    another_machine()
    assert train("trainer.steps=6") == 0
    assert "at step 4" in capsys.readouterr().err
    assert_same_bits(read(folder / "run/step_6.pt")["model"], read(Path("checkpoints/run/step_6.pt"))["model"])
    files = fsspec.filesystem("memory")
    assert files.size("/bucket/runs/run/step_6.pt") == (folder / "run/step_6.pt").stat().st_size

    another_machine()  # With its own command, another length, and by its name.
    assert main(["resume", "run", "checkpoints_dir=memory://bucket/runs", "trainer.steps=8"]) == 0
    assert files.exists("/bucket/runs/run/step_8.pt")


def test_commands_apply_runs_at_a_url_from_any_machine(capsys) -> None:
    at = "checkpoints_dir=memory://bucket/runs"
    assert train("trainer.steps=2") == 0
    assert train("trainer.steps=2", "name=other", "seed=1") == 0
    for words in (
        ["test", "run=run", "num=2"],
        ["evaluate", "run=[run]", "metrics=swd"],
        ["export", "run=run", "format=safetensors", "out=file.safetensors"],
    ):
        another_machine()
        capsys.readouterr()
        assert main([*words, at]) == 0, words
        assert "Copied the run from memory://bucket/runs/run" in capsys.readouterr().err
    folder = another_machine()
    assert main(["compare", at]) == 0
    assert Path("comparison/index.html").exists()
    assert main(["runs", at]) == 0
    assert_mentions(capsys.readouterr().out, "done", "step 2", "other")
    assert not [*folder.rglob("*.pt")]
    assert main(["runs", "remove", "run", at]) == 2
    assert_mentions(capsys.readouterr().err, at, "folder")


def test_a_newer_run_at_a_url_replaces_the_copy_of_this_machine() -> None:
    run = gantrain.train([*TINY, *RUN, "trainer.steps=2"], checkpoints_dir="memory://bucket/runs")
    assert run.folder == by_url.working_folder("memory://bucket/runs") / "run"
    shutil.copytree("cache", "old")
    assert train("trainer.steps=4") == 0
    shutil.rmtree("cache")
    shutil.move("old", "cache")
    assert main(["predict", "run=run", "num=2", "out=made", "checkpoints_dir=memory://bucket/runs"]) == 0
    assert (by_url.working_folder("memory://bucket/runs") / "run/step_4.pt").exists()


def test_checkpoints_that_are_at_the_url_make_room_for_others(monkeypatch) -> None:
    url = Path("bucket").absolute().as_uri()
    folder = by_url.working_folder(url)
    for name in ("first", "unsent", "second"):
        assert train("trainer.steps=2", f"name={name}", url=url) == 0
    Path("bucket/unsent/step_2.pt").unlink()
    monkeypatch.setattr(by_url, "LIMIT", 0)
    assert main(["predict", "run=second", "num=2", "out=made", f"checkpoints_dir={url}"]) == 0
    assert {path.parent.name for path in folder.rglob("step_2.pt")} == {"unsent", "second"}
    assert (folder / "first/losses.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "mentioned"),
    [
        (["checkpoints_dir=https://key:secret@host/runs"], ["checkpoints_dir=https://host/runs", "s3://"]),
        (["checkpoints_dir=memory://a", "trainer.mirror=memory://b"], ["trainer.mirror=memory://b", "memory://a"]),
        (["checkpoints_dir=nothing://a"], ["checkpoints_dir=nothing://a", "s3://"]),
    ],
)
def test_a_url_to_which_no_run_can_be_written_is_refused(words: list[str], mentioned: list[str], capsys) -> None:
    assert main(["train", *TINY, *words]) == 2
    message = capsys.readouterr().err
    assert_mentions(message, *mentioned)
    assert message.count("\n") == 1
