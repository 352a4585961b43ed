"""The parts of data sets that ``gantrain data check`` inspects, and the defects of their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_check import SMALL, check, findings, row, save, two_domains
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from gantrain.data.settings import STREAM_KEYS, build_dataset


@pytest.mark.parametrize("data", ["single", "unaligned", "aligned"])
def test_only_images_that_training_would_read_are_inspected(data: str) -> None:
    folders = [""] if data == "single" else ["A/", "B/"]
    for folder in folders:
        for number in range(40):
            save(f"set/{folder}{number:02}.png", 100 * len(folder) + number)
    selection = {"fraction": 0.25, "max_size": 8}
    words = [f"data={data}", "data.root=set", *SMALL, "seed=3", *(f"data.{key}={selection[key]}" for key in selection)]
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", words), resolve=True)
    keys = {key: value for key, value in config["data"].items() if key not in STREAM_KEYS}
    dataset = build_dataset(keys, phase="train", seed=3)
    drawn = {dataset.item(index, 0)["name"] for index in range(len(dataset))}
    assert len(drawn) == 8
    for path in Path("set").rglob("*.png"):
        if path.name not in drawn:
            path.write_bytes(b"")
    status, printed = check(*words)
    assert status == 0, printed
    assert row(printed, "images") == ["8 of 40"] * len(folders)
    assert row(printed, "unreadable") == ["0"] * len(folders)
    assert check(f"data={data}", "data.root=set", *SMALL)[0] == 1


def test_labels_follow_the_selection() -> None:
    for number in range(10):
        save(f"set/{'cat' if number < 6 else 'dog'}/{number}.png", number)
    _, printed = check("data=single", "data.root=set", "data.max_size=7", *SMALL)
    assert "classes, train: cat 6, dog 1\n" in printed
    assert check("data=single", "data.root=set", "data.labelled=3", *SMALL)[0] == 0
    status, printed = check("data=single", "data.root=set/cat", "data.labelled=3", *SMALL)
    assert status == 1
    assert "would stop training: data.labelled=3: this data set has no labels" in findings(printed)


def test_images_without_a_partner_are_all_named() -> None:
    for name in ("a0", "a1", "a2", "a3", "a4", "a5", "a6", "both"):
        save(f"set/trainA/{name}.png", hash(name) % 1000)
    for name in ("both", "b0"):
        save(f"set/trainB/{name}.png", 1000 + hash(name) % 1000)
    status, printed = check("data=aligned", "data.root=set", *SMALL)
    assert status == 1
    found = findings(printed)
    assert found["would stop training: images without a partner of the same name, ignoring suffixes: 8"] == [
        *(f"set/trainA/a{number}.png" for number in range(7)),
        "set/trainB/b0.png",
    ]
    assert row(printed, "images") == ["8", "2"]


def test_images_that_differ_only_in_their_suffixes_are_named() -> None:
    for name in ("A/1.png", "A/1.bmp", "B/1.png"):
        save(f"set/{name}", len(name))
    status, printed = check("data=aligned", "data.root=set", *SMALL)
    assert status == 1
    line = "would stop training: images that differ only in their suffixes: 1"
    assert findings(printed)[line] == ["set/A/1.bmp and set/A/1.png"]


def test_unsuitable_depths_and_a_missing_range_are_found() -> None:
    save("set/0.png", 0, channels=1)
    save("set/1.png", 1, channels=1, depth=np.uint16)
    words = ["data=single", "data.root=set", "data.channels=1", *SMALL]
    status, printed = check(*words)
    assert status == 1
    found = findings(printed)
    assert found["would stop training: train: images that can't be read or converted: 1"] == [
        "set/1.png has a depth of uint16, the first image of uint8: give data.depth=uint16"
    ]
    assert "warning: train: images of different depths: uint8 (1), uint16 (1)" in found
    assert check(*words, "data.depth=uint16")[0] == 0
    Path("floats").mkdir()
    np.save("floats/0.npy", np.linspace(0, 7, 100, dtype=np.float32).reshape(10, 10))
    words = ["data=single", "data.root=floats", "data.channels=1", *SMALL]
    status, printed = check(*words)
    assert status == 1
    assert any("floating-point images need data.range=[LOW,HIGH]" in line for line in findings(printed))
    assert check(*words, "data.range=[0,7]")[0] == 0


def test_the_depth_is_that_of_the_first_image_that_can_be_read() -> None:
    for number in range(1, 3):
        save(f"set/{number}.png", number, channels=1, depth=np.uint16)
    Path("set/0.png").write_bytes(b"")
    status, printed = check("data=single", "data.root=set", "data.channels=1", *SMALL)
    assert status == 1
    (items,) = (items for line, items in findings(printed).items() if "can't be read" in line)
    assert items == ["can't read the image set/0.png: the file is empty"]


def test_an_empty_phase_stops_training() -> None:
    two_domains()
    for path in Path("set/testB").iterdir():
        path.unlink()
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 1
    assert any(line.startswith("would stop training: data.root: no image in set/testB") for line in findings(printed))
    for path in Path("set/trainB").iterdir():
        path.unlink()
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 1
    assert any(line.startswith("would stop training: data.root: no image in set/trainB") for line in findings(printed))
    Path("empty").mkdir()
    status, printed = check("data=single", "data.root=empty", *SMALL)
    assert status == 2
    assert printed.startswith("gantrain: data.root: no image in empty")


def test_missing_test_images_and_other_files_are_reported() -> None:
    save("set/A/1.png", 1)
    save("set/B/1.png", 2)
    for name in ("A/1.xcf", "A/2.xcf", "B/notes.txt", "B/.hidden"):
        Path(f"set/{name}").write_bytes(b"x")
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 0
    assert list(findings(printed)) == [
        "warning: there are no other images to test on: pages will show training images",
        "warning: files that are not read because of their extensions: .xcf (2), .txt (1)",
    ]


def test_broken_links_are_named() -> None:
    save("set/0.png", 0)
    Path("set/1.png").symlink_to("nowhere.png")
    _, printed = check("data=single", "data.root=set", *SMALL)
    assert findings(printed)["warning: broken links: 1"] == ["set/1.png"]
