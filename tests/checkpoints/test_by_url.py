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
    assert train("trainer.steps=2", "name=third", url=url) == 0
    assert {path.parent.name for path in folder.rglob("step_2.pt")} == {"unsent", "third"}


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
    assert "nothing" not in words[0] or "https" not in message


@pytest.mark.parametrize("root", ["/gan", "/we[i]rd"])
def test_runs_are_found_whatever_the_url_and_they_are_called(root: str) -> None:
    for name in ("cyclegan_a", "gan", "sweeps/lr/gan"):
        fsspec.filesystem("memory").pipe(f"{root}/{name}/config.yaml", b"")
    assert by_url.names_at(f"memory:/{root}") == ["cyclegan_a", "gan", "sweeps/lr/gan"]


def test_runs_of_sweeps_and_of_names_of_other_folders_are_compared(capsys) -> None:
    at = "checkpoints_dir=memory://bucket/runs"
    assert train("trainer.steps=2") == 0
    files = fsspec.filesystem("memory")
    for name in ("sweeps/lr/low", "sweeps/lr/high"):
        files.copy("/bucket/runs/run", f"/bucket/runs/{name}", recursive=True)
    Path("run").mkdir()  # Another folder of this name, which is no run.
    folder = another_machine()
    assert main(["compare", "run", "low", at]) == 0
    assert not (folder / "sweeps/lr/high").exists()
    assert main(["compare", "lr", at]) == 0
    assert (folder / "sweeps/lr/high/losses.jsonl").exists()
    another_machine()
    assert main(["runs", at]) == 0
    assert capsys.readouterr().out.count("step 2") == 3


@pytest.mark.parametrize("words", [["test", "run=rum"], ["resume", "rum"], ["compare", "rum", "run"]])
def test_a_run_that_is_not_at_the_url_is_not_found(words: list[str], capsys) -> None:
    fsspec.filesystem("memory").pipe("/bucket/runs/run/config.yaml", b"")
    assert main([*words, "checkpoints_dir=memory://bucket/runs"]) == 2
    assert_mentions(capsys.readouterr().err.splitlines()[-1], "rum: no run", "memory://bucket/runs", "'run'")


def test_images_are_copied_once(monkeypatch) -> None:
    assert train("trainer.steps=2", "trainer.image_every=1") == 0
    another_machine()
    copied, get = [], fsspec.get_filesystem_class("memory").get_file

    def counted(files, source, target, **keys) -> None:
        copied.append(source)
        get(files, source, target, **keys)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "get_file", counted)
    for _ in range(2):
        assert main(["runs", "checkpoints_dir=memory://bucket/runs"]) == 0
    images = [path for path in copied if path.endswith(".png")]
    assert images
    assert sorted(set(images)) == sorted(images)
    assert copied.count("/bucket/runs/run/losses.jsonl") == 2


def test_making_room_deletes_nothing_at_the_url(monkeypatch) -> None:
    """A run that resumes would delete there what is not on this machine any more."""
    url = Path("bucket").absolute().as_uri()
    for name in ("first", "second"):
        assert train("trainer.steps=4", "trainer.keep=3", f"name={name}", url=url) == 0
    sizes = [path.stat().st_size for path in by_url.working_folder(url).rglob("first/*.pt")]
    monkeypatch.setattr(by_url, "LIMIT", sum(sizes) - 1)
    assert main(["predict", "run=second", "num=2", "out=made", f"checkpoints_dir={url}"]) == 0
    assert train("trainer.steps=6", "trainer.keep=3", "name=first", url=url) == 0
    assert {path.name for path in Path("bucket/first").glob("step_*.pt")} == {"step_2.pt", "step_4.pt", "step_6.pt"}


def test_a_run_that_was_killed_at_its_end_is_done_at_the_url() -> None:
    assert train("trainer.steps=2") == 0
    status = by_url.working_folder("memory://bucket/runs") / "run/index_files/data/status.js"
    files, copy = fsspec.filesystem("memory"), "/bucket/runs/run/index_files/data/status.js"
    assert '"done"' in status.read_text()
    status.write_text(status.read_text().replace('"done"', '"running"'))
    files.pipe(copy, status.read_bytes())
    assert train("trainer.steps=2") == 0
    assert '"done"' in files.cat(copy).decode()
