"""New folders of images: resumption after interruptions, and outputs that are refused."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import contents, files, no_leftovers, noise, prepare, save
from warm import Warm

from gantrain.cli.main import main
from gantrain.data.tools import prepare as module
from gantrain.runtime.directories import resumable_dir


def test_an_interrupted_command_resumes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(60):
        save(f"in/{number:02}.png", noise(number))
    assert prepare("resize", "in", "expected", "size=4") == 0
    monkeypatch.setattr("gantrain.runtime.parallel.MAX_THREADS", 1)
    written: list[str] = []

    def write(path: Path, image: np.ndarray) -> Path:
        written.append(path.name)
        if len(written) == 25:
            path.write_bytes(b"half an image")
            raise KeyboardInterrupt
        return real(path, image)

    real = module.write_pixels
    monkeypatch.setattr(module, "write_pixels", write)
    assert prepare("resize", "in", "out", "size=4") == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not Path("out").exists()
    assert prepare("resize", "in", "out", "size=4") == 0
    assert len(written) == 60 + 1  # The interrupted one was repeated.
    assert contents("out") == contents("expected")
    assert no_leftovers()


def interrupted(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Run a command and interrupt it before the finished folder is moved."""
    with monkeypatch.context() as patch:
        replace = Path.replace

        def stop(self: Path, target: Any) -> Path:
            if self.name == "whole":
                raise KeyboardInterrupt
            return replace(self, target)

        patch.setattr(Path, "replace", stop)
        assert prepare(*words) == 130


@pytest.mark.parametrize("seconds", [10, -(10**6)])
def test_files_with_other_or_missing_sources_are_not_reused(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        save(f"in/{number}.png", noise(number))
    interrupted(monkeypatch, "resize", "in", "out", "size=4")
    Path("in/0.png").unlink()
    changed = save("in/1.png", noise(50))
    later = changed.stat().st_mtime + seconds
    os.utime(changed, (later, later))
    assert prepare("resize", "in", "out", "size=4") == 0
    assert prepare("resize", "in", "expected", "size=4") == 0
    assert contents("out") == contents("expected")
    assert files("out") == {"1.png", "2.png"}


def test_another_command_does_not_resume_unfinished_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/0.png", noise(0))
    interrupted(monkeypatch, "resize", "in", "out", "size=4")
    capsys.readouterr()
    for other in (["resize", "in", "out", "size=5"], ["edges", "in", "out"]):
        assert prepare(*other) == 2
        message = capsys.readouterr().err
        for part in (".out-unfinished", "another command", "finish that, or remove it"):
            assert part in message
    assert prepare("resize", "in", "out", "size=4") == 0


def test_only_one_process_at_a_time_writes_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    with resumable_dir(Path("out"), [Path("in")], "something else"):
        made = Path(".out-unfinished/whole/0.png")
        save(made, noise(1))
        assert prepare("resize", "in", "out", "size=4") == 2
        message = capsys.readouterr().err
        for part in ("another process", "out: ", "wait for it, or give another folder"):
            assert part in message
        assert made.is_file()
    assert files("out") == {"0.png"}
    assert no_leftovers()


def test_a_killed_command_resumes(warm: Warm) -> None:
    for number in range(200):
        save(f"in/{number:03}.png", noise(number, 64, 64))
    assert prepare("resize", "in", "expected", "size=32") == 0
    words = ["data", "prepare", "resize", "in", "out", "size=32"]
    process = warm.popen(["-m", "gantrain", *words])
    while process.poll() is None and not any(Path(".out-unfinished").glob("whole/1*.png")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    if not Path("out").exists():
        assert main(words) == 0
    assert contents("out") == contents("expected")
    assert no_leftovers()


def test_another_folder_with_this_temporary_name_is_left_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    save(".out-unfinished/mine.png", noise(1))
    assert prepare("resize", "in", "out", "size=4") == 2
    assert ".out-unfinished contains the unfinished work of another command" in capsys.readouterr().err
    assert (files(".out-unfinished") - {"made_by"}) == {"mine.png"}


def test_names_that_end_with_an_added_suffix_are_distinct() -> None:
    for name in ("a.jpg", "a.png.jpg", "a.npy.bmp"):
        save(f"in/{name}", noise(len(name)))
    assert prepare("resize", "in", "out", "size=4") == 0
    assert files("out") == {"a.png", "a.png.png", "a.npy.png"}


def test_a_link_is_not_replaced_by_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    Path("empty").mkdir()
    for name, goal in (("link", "empty"), ("dangling", "nowhere")):
        Path(name).symlink_to(goal)
        assert prepare("resize", "in", name, "size=4") == 2
        assert f"{name} already exists: give another folder, or remove it" in capsys.readouterr().err
    assert no_leftovers()


def test_only_an_empty_folder_is_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    save("out/mine.png", noise(1))
    Path("empty").mkdir()
    Path("file").write_text("mine")
    for words in (["resize", "in"], ["edges", "in"], ["split", "in"], ["split_pairs", "in"], ["pairs", "in", "in"]):
        for out in ("out", "file"):
            assert prepare(*words, out) == 2
            assert f"{out} already exists: give another folder, or remove it first" in capsys.readouterr().err
    assert files("out") == {"mine.png"}
    assert prepare("resize", "in", "empty", "size=4") == 0
    assert files("empty") == {"0.png"}
    assert no_leftovers()


def test_the_output_must_not_be_inside_the_input(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    assert prepare("resize", "in", "in/small") == 2
    assert "in/small is inside in, which is read" in capsys.readouterr().err
    assert files("in") == {"0.png"}


def test_inputs_are_left_unchanged() -> None:
    for number in range(10):
        save(f"in/{number}.png", noise(number))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()}
    for number, words in enumerate(
        [["resize", "in"], ["edges", "in"], ["split", "in"], ["split_pairs", "in"], ["pairs", "in", "in"]]
    ):
        assert prepare(*words, f"out{number}") == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()} == before


def test_unreadable_images_and_missing_folders_are_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    assert prepare("resize", "in", "out") == 2
    assert prepare("resize", "nowhere", "out") == 2
    Path("in/broken.png").write_bytes(b"no image")
    assert prepare("resize", "in", "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "no image in in (looked for" in lines[0]
    assert "no folder nowhere" in lines[1]
    assert lines[2].startswith("gantrain: can't read the image in/broken.png: ")
    assert not Path("out").exists()
