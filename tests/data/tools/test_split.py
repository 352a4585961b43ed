"""``gantrain data prepare split``: proportions, groups that stay together, and refused folders."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from image_folders import files, no_leftovers, noise, prepare, save
from PIL import Image


def phases_of(folder: str) -> dict[str, set[str]]:
    return {top.name: files(top) for top in Path(folder).iterdir()}


def test_split_copies_every_image_into_one_phase_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        save(f"in/{number}.png", noise(number))
    for out, seed in (("one", 0), ("same", 0), ("other", 1)):
        assert prepare("split", "in", out, "train=0.7", "val=0.1", "test=0.2", f"seed={seed}") == 0
    split = phases_of("one")
    assert {phase: len(names) for phase, names in split.items()} == {"train": 21, "val": 3, "test": 6}
    assert set.union(*split.values()) == files("in")
    assert phases_of("same") == split
    assert phases_of("other") != split
    assert all((Path("one/val") / name).read_bytes() == (Path("in") / name).read_bytes() for name in split["val"])
    assert not any(path.is_symlink() for path in Path("one").rglob("*"))


def test_an_added_file_changes_little_of_a_split() -> None:
    for number in range(30):
        save(f"in/{number}.png", noise(number))
    assert prepare("split", "in", "before") == 0
    save("in/30.png", noise(30))
    assert prepare("split", "in", "after") == 0
    before, after = phases_of("before"), phases_of("after")
    assert len(before["test"] & after["test"]) >= len(before["test"]) - 1


def test_hidden_files_are_not_split() -> None:
    for number, name in enumerate(("1", "2", "3", "4", "._1", ".hidden/5")):
        save(f"in/{name}.png", noise(number))
    assert prepare("split", "in", "out", "train=0.5", "val=0", "test=0.5") == 0
    assert sorted(path.stem for path in Path("out").rglob("*.png")) == ["1", "2", "3", "4"]


def test_every_class_is_split_in_the_same_proportions() -> None:
    for name, count in (("cat", 20), ("dog", 10)):
        for number in range(count):
            save(f"in/{name}/{number}.png", noise(100 * count + number))
    assert prepare("split", "in", "out") == 0
    counts = Counter((name.split("/")[0], name.split("/")[1]) for name in files("out"))
    assert counts == {
        **{("train", "cat"): 16, ("val", "cat"): 2, ("test", "cat"): 2},
        **{("train", "dog"): 8, ("val", "dog"): 1, ("test", "dog"): 1},
    }


@pytest.mark.parametrize("folders", ["A B", "a b", "trainA trainB", "train/A train/B"])
def test_pairs_in_two_folders_stay_together(folders: str) -> None:
    a, b = folders.split()
    for number in range(10):
        save(f"in/{a}/{number}.png", noise(number))
        save(f"in/{b}/{number}.bmp", noise(100 + number))
    assert prepare("split", "in", "out") == 0
    split = phases_of("out")
    assert {phase: len(names) for phase, names in split.items()} == {
        **{"trainA": 8, "trainB": 8, "valA": 1, "valB": 1, "testA": 1, "testB": 1}
    }
    for phase in ("train", "val", "test"):
        assert {name.split(".")[0] for name in split[f"{phase}A"]} == {
            name.split(".")[0] for name in split[f"{phase}B"]
        }


def test_two_domains_without_pairs_are_split_independently() -> None:
    for number in range(10):
        save(f"in/A/{number}.png", noise(number))
    for number in range(20):
        save(f"in/B/photo_{number}.png", noise(100 + number))
    assert prepare("split", "in", "out") == 0
    counts = {phase: len(names) for phase, names in phases_of("out").items()}
    assert counts == {"trainA": 8, "trainB": 16, "valA": 1, "valB": 2, "testA": 1, "testB": 2}


def test_folders_named_a_and_b_beside_others_are_classes() -> None:
    for name in "ABC":
        for number in range(10):
            save(f"in/{name}/{number}.png", noise(ord(name) * 100 + number))
    assert prepare("split", "in", "out") == 0
    assert set(phases_of("out")) == {"train", "val", "test"}
    assert "C" in {name.split("/")[0] for name in phases_of("out")["test"]}


def test_files_of_equal_content_stay_in_one_phase() -> None:
    for number in range(10):
        for copy in range(3):
            save(f"in/{number}_{copy}.png", noise(number))
    for seed in range(5):
        out = f"out{seed}"
        assert prepare("split", "in", out, "train=0.5", "val=0", "test=0.5", f"seed={seed}") == 0
        train, test = ({name.split("_")[0] for name in names} for names in phases_of(out).values())
        assert train
        assert test
        assert not train & test


def test_pairs_that_share_one_image_are_not_the_same() -> None:
    for number in range(10):
        save(f"in/A/{number}.png", noise(number))
        save(f"in/B/{number}.png", np.zeros((6, 8), np.uint8))  # Empty masks.
        for copy in (f"in/A/{number}_again.png", f"in/B/{number}_again.png"):
            save(copy, np.asarray(Image.open(copy.replace("_again", ""))))
    assert prepare("split", "in", "out") == 0
    split = phases_of("out")
    assert {phase: len(names) for phase, names in split.items()} == {
        **{"trainA": 16, "trainB": 16, "valA": 2, "valB": 2, "testA": 2, "testB": 2}
    }
    for names in split.values():  # Except for those with two identical files.
        assert {name.replace("_again", "") for name in names} == {name for name in names if "_again" not in name}


def test_copies_that_leave_a_phase_empty_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        save(f"in/{number}.png", noise(1))
    assert prepare("split", "in", "other", "train=0.5", "val=0", "test=0.5") == 2
    named = ", ".join(f"in/{number}.png" for number in range(5))
    message = capsys.readouterr().err
    assert message.startswith("gantrain: test=0.5 is too small for the 6 items in in; 6 are identical")
    assert message.endswith(f"{named} and 1 more\n")


def test_links_point_to_the_images() -> None:
    for number in range(10):
        save(f"in/{number}.png", noise(number))
    assert prepare("split", "in", "out", "links=true") == 0
    links = [path for path in Path("out").rglob("*.png") if path.is_symlink()]
    assert len(links) == 10
    assert {link.resolve() for link in links} == {path.resolve() for path in Path("in").iterdir()}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train=0.5"], "train=0.5 val=0.1 test=0.1: .* add up to 1"),
        (["train=1.5"], "train: .* at least 0 and at most 1, got 1.5"),
        (["train=0.98", "val=0.01", "test=0.01"], "val=0.01 is too small for the 3 items in in.*"),
        (["sed=1"], "sed=1: .* did you mean 'seed'.*"),
    ],
)
def test_impossible_splits_are_refused(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save(f"in/{number}.png", noise(number))
    assert prepare("split", "in", "out", *words) == 2
    assert re.fullmatch(f"gantrain: {complaint}\n", capsys.readouterr().err)
    assert not Path("out").exists()
    assert no_leftovers()


def test_a_folder_that_is_split_already_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for phase in ("trainA", "trainB", "testA", "testB"):
        save(f"in/{phase}/1.png", noise(0))
    assert prepare("split", "in", "out") == 2
    assert "in is split already, into train and test" in capsys.readouterr().err


def test_no_image_is_left_out_of_a_split(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("trainA/1", "trainB/2", "stray"):
        save(f"in/{name}.png", noise(0))
    assert prepare("split", "in", "out") == 2
    assert "in/stray.png is in none of in/trainA, in/trainB" in capsys.readouterr().err
