"""Runs that are copied elsewhere, and resume from there where their folder is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest
from conftest import TINY, assert_same_bits, newest

from gantrain.checkpoints.mirror import Mirror
from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.errors import ConfigError

RUN = [
    "name=run",
    "trainer.save_every=2",
    "trainer.image_every=2",
    "trainer.keep=2",
    "trainer.log_every=1",
    "schedule=constant",
]


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    """An empty bucket, ``memory://bucket``."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


def test_a_run_resumes_from_its_mirror_on_a_machine_that_lacks_it(train, memory, capsys) -> None:
    whole = train("run", *RUN, "trainer.steps=9")
    lines = Path("checkpoints/run/losses.jsonl").read_text()
    shutil.rmtree("checkpoints")
    mirrored = [*RUN, "trainer.mirror=memory://bucket/runs"]
    train("run", *mirrored, "trainer.steps=6")
    names = {path.removeprefix("/bucket/runs/run/") for path in memory.find("/bucket/runs/run")}
    assert {"step_4.pt", "step_6.pt", "losses.jsonl", "config.yaml", "images/step_2_samples.png"} <= names
    assert not [name for name in names if name.startswith("step_2.") or "lock" in name]
    shutil.rmtree("checkpoints")
    capsys.readouterr()
    again = train("run", *mirrored, "trainer.steps=9")
    printed = capsys.readouterr().err
    assert "Copied the run from memory://bucket/runs/run" in printed
    assert "Resuming checkpoints/run at step 6" in printed
    for key in ("step", "position", "model", "updates"):
        assert_same_bits(again[key], whole[key], key)
    assert [line.split(', "seconds"')[0] for line in Path("checkpoints/run/losses.jsonl").read_text().splitlines()] == [
        line.split(', "seconds"')[0] for line in lines.splitlines()
    ]
    assert memory.exists("/bucket/runs/run/step_9.pt")
    assert not memory.exists("/bucket/runs/run/step_6.pt")


def test_starting_over_replaces_what_the_mirror_has(train, memory) -> None:
    mirrored = [*RUN, "trainer.mirror=memory://bucket"]
    train("run", *mirrored, "trainer.steps=6")
    memory.pipe("/bucket/run/best.pt", b"of the earlier run")
    shutil.rmtree("checkpoints")
    train("run", *mirrored, "trainer.steps=2", "seed=1", "resume=never")
    assert [path for path in memory.find("/bucket/run") if not path.endswith((".js", ".jsonl", ".yaml"))] == [
        "/bucket/run/images/step_2_samples.png",
        "/bucket/run/step_2.pt",
    ]


def test_a_run_continues_from_its_mirror_where_that_is_ahead(memory, tmp_path) -> None:
    (tmp_path / "step_2.pt").touch()
    memory.pipe({f"/bucket/[a]/run/{name}": b"other" for name in ("step_8.pt", "step_x.pt", "losses.jsonl")})
    checkpoints = Checkpoints(tmp_path, mirror=Mirror("memory://bucket/[a]", tmp_path, name="run", warn=print))
    assert checkpoints.fetch() == "Copied the run from memory://bucket/[a]/run"
    assert checkpoints.steps() == [2, 8]
    assert (tmp_path / "losses.jsonl").read_bytes() == b"other"
    (tmp_path / "losses.jsonl").write_bytes(b"this")
    assert checkpoints.fetch() is None
    assert (tmp_path / "losses.jsonl").read_bytes() == b"this"


def test_the_run_folder_is_no_mirror_of_itself(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"trainer\.mirror=.*link.* give another"):
        Mirror(f"{tmp_path}/link", tmp_path / "run", name="run", warn=print)


def test_a_mirror_that_fails_is_a_warning(train, capsys) -> None:
    Path("file").touch()
    train("run", *RUN, "trainer.mirror=file/mirror", "trainer.steps=2")
    assert newest("run")["step"] == 2
    assert "warning: trainer.mirror: can't write to file/mirror/run: " in capsys.readouterr().err

    Path("file").unlink()  # The run is finished, and the same command copies it.
    copy, times = Path("file/mirror/run/step_2.pt"), []
    for _ in range(2):
        train("run", *RUN, "trainer.mirror=file/mirror", "trainer.steps=2")
        times.append(copy.stat().st_mtime_ns)
    assert copy.stat().st_size == Path("checkpoints/run/step_2.pt").stat().st_size
    assert times[0] == times[1]  # It is copied once.


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nowhere://a", ["nowhere://", "s3://"]),
        ("s3://b/a", ["pip install 'gantrain[s3]'"]),
        ("zip://a", ["zip://a", "can't be opened"]),
    ],
)
def test_a_mirror_that_cannot_be_opened_is_refused(url: str, words: list[str], capsys) -> None:
    assert main(["train", *TINY, *RUN, f"trainer.mirror={url}", "trainer.steps=2"]) == 2
    printed = capsys.readouterr().err
    for word in ("trainer.mirror", *words):
        assert word in printed
    assert not list(Path().glob("checkpoints/run/*.pt"))


def test_a_file_has_its_name_only_when_it_is_whole(memory, monkeypatch, tmp_path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "step_1.pt").write_bytes(b"whole")
    seen, put = [], type(memory).put_file

    def interrupted(files, source, target, **keys) -> None:
        put(files, source, target, **keys)
        seen.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(memory), "put_file", interrupted)
    mirror = Mirror("memory://bucket", folder, name="run", warn=print)
    with pytest.raises(KeyboardInterrupt):
        mirror._send()
    assert seen
    monkeypatch.undo()
    shutil.rmtree(folder)
    assert not mirror.fetch(after=-1)
    assert not folder.exists()


def test_the_newest_checkpoint_is_fetched_first(memory, monkeypatch, tmp_path) -> None:
    memory.pipe({f"/bucket/run/{name}": b"x" for name in ("step_9.pt", "step_10.pt", "losses.jsonl")})
    get = type(memory).get_file

    def interrupted(files, source, target, **keys) -> None:
        if source.endswith("step_9.pt"):
            raise KeyboardInterrupt
        get(files, source, target, **keys)

    monkeypatch.setattr(type(memory), "get_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Mirror("memory://bucket", tmp_path, name="run", warn=print).fetch(after=-1)
    assert {path.name for path in tmp_path.iterdir()} == {"losses.jsonl", "step_10.pt"}
    resumed = Mirror("memory://bucket", tmp_path, name="run", warn=print)
    assert not resumed.fetch(after=10)
    resumed.complete()
    assert memory.exists("/bucket/run/step_9.pt")  # The only copy.
