"""``gantrain data check``: what it finds in data sets with one fault each, what it counts, and how it ends."""

from __future__ import annotations

import os
import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.images.headers import Header, read_header
from gantrain.data.images.sources import Encoded, Source
from gantrain.data.tools.checking import findings_in, in_bytes, summarise
from gantrain.data.tools.inspect import Part, Wanted
from gantrain.training.build import STREAM_KEYS, build_dataset

SMALL = ["data.load_size=8", "data.crop_size=8"]


def save(
    path: str | Path, seed: int = 0, *, size: tuple[int, int] = (10, 12), channels: int = 3, depth: Any = np.uint8
) -> Path:
    """An image of noise; (H, W)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, channels) if channels > 1 else size
    largest = np.iinfo(depth).max
    pixels = np.random.default_rng(seed).integers(0, largest, shape, depth, endpoint=True)
    Image.fromarray(pixels).save(path)
    return path


def two_domains(root: str = "set", count: int = 3, **keys: Any) -> None:
    """Images without any fault."""
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        for index in range(count):
            save(f"{root}/{folder}/{index}.png", 100 * number + index, **keys)


Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """``check("data=single", ...)`` gives the exit status and what was printed."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["data", "check", *words])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def row(printed: str, name: str) -> list[str]:
    """The cells of a line of the table."""
    line = next(line for line in printed.splitlines() if line.startswith(f"{name}  "))
    return re.split(r"  +", line)[1:]


def findings(printed: str) -> dict[str, list[str]]:
    """What is listed under each finding."""
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        if line.startswith(("would stop training: ", "warning: ")):
            found[line] = []
        elif line.startswith("  ") and found:
            found[list(found)[-1]].append(line.strip())
    return found


def test_a_data_set_without_fault_is_counted_and_measured(check: Check) -> None:
    two_domains()
    save("set/trainA/wide.png", 50, size=(20, 40))
    save("set/testB/9.png", 51, size=(10, 16))
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 0
    assert findings(printed) == {}
    assert printed.splitlines()[0].split() == ["train", "A", "train", "B", "test", "A", "test", "B"]
    assert row(printed, "images") == ["4", "3", "3", "4"]
    assert row(printed, "unreadable") == ["0", "0", "0", "0"]
    assert row(printed, "height") == ["10 .. 10 .. 20", "10", "10", "10"]
    assert row(printed, "width") == ["12 .. 12 .. 40", "12", "12", "12 .. 12 .. 16"]
    assert row(printed, "width / height") == ["1.2 .. 1.2 .. 2", "1.2", "1.2", "1.2 .. 1.2 .. 1.6"]
    assert row(printed, "sizes") == ["2 different", "all alike", "all alike", "2 different"]
    assert row(printed, "channels") == ["3"] * 4
    assert row(printed, "depth") == ["uint8"] * 4
    stored = sum(path.stat().st_size for path in Path("set/trainB").iterdir())
    assert row(printed, "stored")[1] == in_bytes(stored)
    # 8 x 8 x 3 bytes for each
    assert row(printed, "cached, disk or memory") == ["768 B", "576 B", "576 B", "768 B"]
    assert printed.endswith("page: results/data_unaligned/index.html\n")


def test_of_what_is_cached_each_mode_and_depth_has_its_size(check: Check) -> None:
    for number in range(2):
        save(f"gray/{number}.png", number, size=(16, 24), channels=1, depth=np.uint16)
    # a shorter side of 8 makes 8 x 12, of two bytes
    _, printed = check("data=single", "data.root=gray", "data.channels=1", *SMALL)
    assert row(printed, "cached, disk or memory") == ["384 B"]
    assert row(printed, "depth") == ["uint16"]
    # with a range, of four
    _, printed = check("data=single", "data.root=gray", "data.channels=1", "data.range=[0,4095]", *SMALL)
    assert row(printed, "cached, disk or memory") == ["768 B"]
    save("pairs/train/1.png", 0, size=(16, 32))
    # two halves of 8 x 8 x 3
    _, printed = check("data=aligned", "data.root=pairs", *SMALL)
    assert row(printed, "cached, disk or memory") == ["384 B"]
    # both of them in 8 x 8 x 3 and in 8 x 8 x 1, of which one half each is never seen
    _, printed = check("data=aligned", "data.root=pairs", "data.channels_b=1", *SMALL)
    assert row(printed, "cached, disk or memory") == ["512 B"]


def test_all_that_cannot_be_read_is_named(check: Check) -> None:
    two_domains()
    whole = save("set/whole.png", size=(64, 64)).read_bytes()
    Path("set/whole.png").unlink()
    for number in range(6):
        Path(f"set/trainA/broken{number}.jpg").write_bytes(b"no image")
    Path("set/trainB/0.png").write_bytes(b"")  # the first, from which the depth would be taken
    Path("set/testB/cut.png").write_bytes(whole[: len(whole) // 2])
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 1
    found = findings(printed)
    assert [line.partition(":")[0] for line in found] == ["would stop training"] * 3
    unreadable = [item for items in found.values() for item in items]
    assert unreadable[:6] == [
        f"can't read the image set/trainA/broken{number}.jpg: this is not an image, or its format is unknown"
        for number in range(6)
    ]
    assert unreadable[6] == "can't read the image set/trainB/0.png: the file is empty"
    assert unreadable[7].startswith("can't read the image set/testB/cut.png: ")
    assert row(printed, "unreadable") == ["6", "1", "0", "1"]


def test_quick_reads_headers_alone(check: Check) -> None:
    for number in range(150):
        save(f"set/{number:03}.png", number)
    whole = Path("set/001.png").read_bytes()
    Path("set/001.png").write_bytes(whole[:100])  # one that has no thumbnail
    Path("set/003.png").write_bytes(b"")
    status, printed = check("data=single", "data.root=set", "quick=true", *SMALL)
    assert status == 1
    assert row(printed, "unreadable") == ["1"]
    assert row(printed, "width") == ["12"]
    status, printed = check("data=single", "data.root=set", *SMALL)
    assert row(printed, "unreadable") == ["2"]


def test_of_gray_images_quick_says_nothing(check: Check) -> None:
    for number in range(3):
        save(f"set/{number}.png", number, channels=1)
    assert "in gray" in check("data=single", "data.root=set", *SMALL)[1]
    assert "in gray" not in check("data=single", "data.root=set", "quick=true", *SMALL)[1]


@pytest.mark.parametrize("data", ["single", "unaligned", "aligned"])
def test_only_what_training_would_draw_is_looked_at(data: str, check: Check) -> None:
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


def test_labels_follow_the_selection(check: Check) -> None:
    for number in range(10):
        save(f"set/{'cat' if number < 6 else 'dog'}/{number}.png", number)
    _, printed = check("data=single", "data.root=set", "data.max_size=7", *SMALL)
    assert "classes, train: cat 6, dog 1\n" in printed
    assert check("data=single", "data.root=set", "data.labelled=3", *SMALL)[0] == 0
    status, printed = check("data=single", "data.root=set/cat", "data.labelled=3", *SMALL)
    assert status == 1
    assert "would stop training: data.labelled=3: this data set has no labels" in findings(printed)


def test_images_left_out_by_training_do_not_stop_it_if_they_are_few(check: Check) -> None:
    for number in range(20):
        save(f"set/{number}.png", number)
    Path("set/broken.png").write_bytes(b"")
    words = ["data=single", "data.root=set", *SMALL]
    assert check(*words)[0] == 1
    status, printed = check(*words, "data.on_error=skip")
    assert status == 0
    assert "warning: train: images that can't be read, or not as the others: 1" in findings(printed)
    for name in ("second", "third"):  # more than one in ten
        Path(f"set/{name}.png").write_bytes(b"")
    assert check(*words, "data.on_error=skip")[0] == 1


def test_bad_images_of_both_domains_count_together_as_in_training(check: Check) -> None:
    two_domains(count=20)
    words = ["data=unaligned", "data.root=set", "data.on_error=skip", *SMALL]
    for name in ("trainA/3", "trainB/7"):
        Path(f"set/{name}.png").write_bytes(b"")
    assert check(*words)[0] == 0
    Path("set/trainB/9.png").write_bytes(b"")
    status, printed = check(*words)
    assert status == 1
    assert [line.partition(":")[0] for line in findings(printed)] == ["would stop training"] * 2


def test_too_many_bad_images_on_end_stop_training_though_they_are_few(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gantrain.data.tools.checking.MAX_CONSECUTIVE_ERRORS", 3)
    for number in range(40):
        save(f"set/{number:02}.png", number)
    words = ["data=single", "data.root=set", "data.on_error=skip", *SMALL]
    for number, status in ((10, 0), (11, 0), (13, 0), (12, 1)):
        Path(f"set/{number}.png").write_bytes(b"")
        assert check(*words)[0] == status


def test_bad_test_images_are_left_out_as_long_as_one_is_good(check: Check) -> None:
    two_domains()
    words = ["data=unaligned", "data.root=set", "data.on_error=skip", *SMALL]
    for number, status in ((0, 0), (1, 0), (2, 1)):
        Path(f"set/testA/{number}.png").write_bytes(b"")
        assert check(*words)[0] == status


def test_images_without_a_partner_are_all_named(check: Check) -> None:
    for name in ("a0", "a1", "a2", "a3", "a4", "a5", "a6", "both"):
        save(f"set/trainA/{name}.png", hash(name) % 1000)
    for name in ("both", "b0"):
        save(f"set/trainB/{name}.png", 1000 + hash(name) % 1000)
    status, printed = check("data=aligned", "data.root=set", *SMALL)
    assert status == 1
    found = findings(printed)
    assert found["would stop training: images without a partner of the same name, suffix aside: 8"] == [
        *(f"set/trainA/a{number}.png" for number in range(7)),
        "set/trainB/b0.png",
    ]
    assert row(printed, "images") == ["8", "2"]


def test_images_of_one_name_but_for_the_suffix_are_named(check: Check) -> None:
    for name in ("A/1.png", "A/1.bmp", "B/1.png"):
        save(f"set/{name}", len(name))
    status, printed = check("data=aligned", "data.root=set", *SMALL)
    assert status == 1
    line = "would stop training: images of the same name but for the suffix: 1"
    assert findings(printed)[line] == ["set/A/1.bmp and set/A/1.png"]


def test_what_cannot_be_halved_is_named(check: Check) -> None:
    for number, width in enumerate((16, 17, 16, 19)):
        save(f"set/train/{number}.png", number, size=(8, width))
    status, printed = check("data=aligned", "data.root=set", *SMALL)
    assert status == 1
    assert findings(printed)["would stop training: train A | B: images that can't be cut: 2"] == [
        "set/train/1.png is 17 pixels wide, which can't be halved into A and B",
        "set/train/3.png is 19 pixels wide, which can't be halved into A and B",
    ]


def test_pairs_that_would_come_out_at_different_sizes_are_named(check: Check) -> None:
    for number in range(3):
        save(f"set/A/{number}.png", number)
        save(f"set/B/{number}.png", 10 + number, size=(10, 12 + 6 * (number == 1)))
    words = ["data=aligned", "data.root=set", *SMALL]
    assert check(*words)[0] == 0
    status, printed = check(*words, "data.preprocess=scale_shortside_and_crop")
    assert status == 1
    found = findings(printed)
    line = "train: pairs scaled to different sizes, which data.preprocess=resize_and_crop would make alike: 1"
    assert found[f"would stop training: {line}"] == ["set/A/1.png [8, 10] and set/B/1.png [8, 14]"]
    # as any other that no batch can be made of
    status, printed = check(*words, "data.preprocess=scale_shortside_and_crop", "data.on_error=skip")
    assert status == 0
    assert f"warning: {line}" in findings(printed)


def test_what_is_smaller_than_the_crop_stops_training_only_where_it_is_not_made_larger(check: Check) -> None:
    save("set/0.png", 0, size=(8, 8))
    save("set/1.png", 1, size=(6, 12))
    words = ["data=single", "data.root=set", *SMALL]
    status, printed = check(*words, "data.preprocess=crop")
    assert status == 1
    (complaint,) = findings(printed)["would stop training: train: images that can't be cut: 1"]
    assert complaint.startswith("set/1.png ([6, 12] pixels) is smaller than data.crop_size ([8, 8])")
    status, printed = check(*words)
    assert status == 0
    line = "warning: train: images smaller than data.crop_size, which are made larger: 1"
    assert findings(printed)[line] == ["set/1.png"]


def test_images_of_unlike_sizes_stop_training_unless_each_is_a_batch(check: Check) -> None:
    for number in range(3):
        save(f"set/{number}.png", number, size=(8, 12 + 8 * (number == 1)))
    words = ["data=single", "data.root=set", *SMALL]
    assert check(*words, "data.batch_size=2")[0] == 0  # all are cut
    words.append("data.preprocess=none")
    assert check(*words, "data.batch_size=1")[0] == 0
    for more in ([], ["data.on_error=skip"], ["quick=true"]):
        status, printed = check(*words, "data.batch_size=2", *more)
        assert status == 1
        line = "would stop training: train: images are scaled to 2 unlike sizes, and batches are of 2: take a "
        assert findings(printed)[f"{line}data.preprocess that crops, or data.batch_size=1"] == [
            "[8, 12]: 2",
            "[8, 20]: 1",
        ]


@pytest.mark.parametrize("data", ["single", "unaligned"])
def test_a_cache_beyond_its_limit_stops_training_if_it_was_asked_for(data: str, check: Check) -> None:
    two_domains()  # 8 x 8 x 3 bytes each
    words = [f"data={data}", "data.root=" + ("set/trainA" if data == "single" else "set"), *SMALL, "data.batch_size=1"]
    words += ["data.preprocess=resize_and_crop"]
    needed = 576 if data == "single" else 1152
    for mode in ("disk", "memory"):
        assert check(*words, f"data.cache={mode}", f"data.cache_limit={needed / 1e9}")[0] == 0
        status, printed = check(*words, f"data.cache={mode}", "data.cache_limit=5e-7")
        assert status == 1
        size = "576 B" if data == "single" else "1.15 KB"
        line = f"would stop training: data.cache={mode} takes {size}, and data.cache_limit is 5e-07 GB: "
        assert f"{line}raise it to 1, or set data.cache=off" in findings(printed)
    for mode in ("auto", "off"):
        assert check(*words, f"data.cache={mode}", "data.cache_limit=5e-7")[0] == 0


def test_copies_are_found_within_a_set_between_domains_and_between_training_and_test(check: Check) -> None:
    two_domains()
    for source, copy in (
        ("trainA/0", "trainA/c"),
        ("trainA/1", "trainB/c"),
        ("trainB/2", "testB/c"),
        ("testA/0", "testB/d"),
    ):
        Path(f"set/{copy}.png").write_bytes(Path(f"set/{source}.png").read_bytes())
    for name in ("x", "y"):
        Path(f"set/trainA/{name}.png").write_bytes(b"")  # empty files are no copies
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 1
    assert {line: items for line, items in findings(printed).items() if line.startswith("warning")} == {
        "warning: files of training that are in the test phase too: 1": ["set/trainB/2.png = set/testB/c.png"],
        "warning: files that are in both domains: 2": [
            "set/trainA/1.png = set/trainB/c.png",
            "set/testA/0.png = set/testB/d.png",
        ],
        "warning: files that are there more than once: 1": ["set/trainA/0.png = set/trainA/c.png"],
    }


def test_colour_in_gray_sets_and_gray_in_colour_sets_is_found_by_the_pixels(check: Check) -> None:
    for name, gray in (("0", False), ("1", True), ("2", False)):
        save(f"set/{name}.png", int(name))
        if gray:
            Image.open(f"set/{name}.png").convert("L").convert("RGB").save(f"set/{name}.png")
    save("set/3.png", 3, channels=1)
    words = ["data=single", "data.root=set", *SMALL]
    status, printed = check(*words)
    assert status == 0
    line = "warning: train: images in gray, in a colour set: 2"
    assert findings(printed)[line] == ["set/1.png", "set/3.png"]
    _, printed = check(*words, "data.channels=1")
    assert findings(printed)["warning: train: images in colour, in a gray set: 2"] == ["set/0.png", "set/2.png"]
    assert row(printed, "channels") == ["3 (3), 1 (1)"]


def test_depths_that_do_not_fit_and_a_missing_range_are_found(check: Check) -> None:
    save("set/0.png", 0, channels=1)
    save("set/1.png", 1, channels=1, depth=np.uint16)
    words = ["data=single", "data.root=set", "data.channels=1", *SMALL]
    status, printed = check(*words)
    assert status == 1
    found = findings(printed)
    assert found["would stop training: train: images that can't be read, or not as the others: 1"] == [
        "set/1.png has a depth of uint16, and the first image of uint8: give data.depth=uint16"
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


def test_the_depth_is_that_of_the_first_image_that_can_be_read(check: Check) -> None:
    for number in range(1, 3):
        save(f"set/{number}.png", number, channels=1, depth=np.uint16)
    Path("set/0.png").write_bytes(b"")
    status, printed = check("data=single", "data.root=set", "data.channels=1", *SMALL)
    assert status == 1
    (items,) = (items for line, items in findings(printed).items() if "can't be read" in line)
    assert items == ["can't read the image set/0.png: the file is empty"]


def test_classes_are_counted_and_a_rare_one_is_mentioned(check: Check) -> None:
    for phase, counts in (("train", {"cat": 20, "dog": 2}), ("test", {"cat": 1, "dog": 2})):
        for name, count in counts.items():
            for number in range(count):
                save(f"set/{phase}/{name}/{number}.png", hash((phase, name, number)) % 10**6)
    status, printed = check("data=single", "data.root=set", *SMALL)
    assert status == 0
    assert "classes, train: cat 20, dog 2\nclasses, test: cat 1, dog 2\n" in printed
    assert findings(printed) == {"warning: train: 20 images of cat, 2 of dog": []}


def test_an_empty_phase_stops_training(check: Check) -> None:
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


def test_missing_test_images_and_files_of_other_kinds_are_mentioned(check: Check) -> None:
    save("set/A/1.png", 1)
    save("set/B/1.png", 2)
    for name in ("A/1.gif", "A/2.gif", "B/notes.txt", "B/.hidden"):
        Path(f"set/{name}").write_bytes(b"x")
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 0
    assert list(findings(printed)) == [
        "warning: there are no other images to test on: pages will show training images",
        "warning: files that are not read, for their extensions: .gif (2), .txt (1)",
    ]


def test_warnings_are_cut_on_the_terminal_and_listed_on_the_page(check: Check) -> None:
    for number in range(15):
        save(f"set/{number:02}.png", number, size=(6, 6))
    _, printed = check("data=single", "data.root=set", *SMALL)
    (items,) = (items for line, items in findings(printed).items() if "made larger" in line)
    assert items == [*(f"set/{number:02}.png" for number in range(10)), "... (more on the page)"]
    page = Path("results/data_single/index.html").read_text()
    assert all(f"<li>set/{number:02}.png</li>" in page for number in range(15))


def test_the_page_shows_up_to_a_hundred_thumbnails_of_each_part_and_pairs_together(check: Check) -> None:
    for number in range(130):
        save(f"set/A/{number:03}.png", number, size=(8, 16))
        save(f"set/B/{number:03}.png", 1000 + number, size=(300, 100))
    check("data=aligned", "data.root=set", "out=page", "data.preprocess=resize_and_crop", *SMALL)
    page = Path("page/index.html").read_text()
    figures = re.findall(r"<figure>(.*?)</figure>", page, flags=re.DOTALL)
    assert len(figures) == 100
    shown = [re.findall(r'src="([^"]+)"', each) for each in figures]
    assert all(len(pair) == 2 for pair in shown)
    with Image.open(Path("page") / shown[-1][0]) as a, Image.open(Path("page") / shown[-1][1]) as b:
        assert (a.size, b.size) == ((16, 8), (43, 128))
        np.testing.assert_array_equal(np.asarray(a), np.asarray(Image.open("set/A/129.png")))
    assert 'title="129.png"' in figures[-1]
    check("data=unaligned", "data.root=set", "out=page", *SMALL)
    page = Path("page/index.html").read_text()
    assert len(re.findall("<figure>", page)) == 200
    assert {f"page/{place}" for place in re.findall(r'<img[^>]* src="([^"]+)"', page)} == {
        str(path) for path in Path("page/images").iterdir()
    }


@pytest.mark.parametrize("data", ["digits", "edges2digits"])
def test_shipped_data_is_without_fault(data: str, check: Check) -> None:
    status, printed = check(f"data={data}", "quick=true")
    assert status == 0
    assert row(printed, "images") == ["4,500", "500"]
    assert "would stop" not in printed
    assert Path(f"results/data_{data}/index.html").is_file()
    assert not Path("checkpoints").exists()


def test_keys_are_composed_and_checked_as_in_training(check: Check) -> None:
    two_domains()
    assert check("model=cyclegan", "data=unaligned", "data.root=set", "trainer.steps=5", *SMALL)[0] == 0
    for words, complaint in (
        (["data=unaligned"], "data.root is missing"),
        (["data=unalinged", "data.root=set"], "no such data; did you mean 'unaligned'?"),
        (["data=unaligned", "data.root=nowhere"], "data.root: there is no folder nowhere"),
        (["data=unaligned", "data.root=set", "data.crop_sze=8"], "did you mean 'data.crop_size'?"),
        (["data=unaligned", "data.root=set", "quick=maybe"], "quick: expected true or false, got 'maybe'"),
        (["data=unaligned", "data.root=set", "data.on_error=ignore"], "data.on_error: expected one of 'raise', 'skip'"),
        (["data=unaligned", "data.root=set", "data.batch_size=0"], "data.batch_size: expected a whole number"),
        (["data=unaligned", "data.root=set", "data.cache=maybe"], "data.cache: expected one of 'auto', 'disk'"),
        (["data=unaligned", "data.root=set", "data.max_size=0"], "data.max_size: expected a whole number"),
        ([], "say which data"),
    ):
        status, printed = check(*words)
        assert status == 2
        assert complaint in printed
        assert len(printed.splitlines()) == 1
    status, printed = check("data=unaligned", "data.root=set", "data.load_size=8", "data.crop_size=16")
    assert status == 1
    assert any("data.crop_size (16) must not exceed data.load_size (8)" in line for line in findings(printed))


def test_the_page_goes_nowhere_among_other_things(check: Check) -> None:
    two_domains()
    mine = save("mine/images/thumbnail_0_0.png", 99)
    Path("mine/notes.txt").touch()
    words = ["data=unaligned", "data.root=set", *SMALL]
    for out, complaint in (
        ("set/page", "out=set/page lies in data.root (set): give out=FOLDER outside"),
        ("set", "out=set lies in data.root (set): give out=FOLDER outside"),
        ("mine", "out=mine holds other things: give another folder"),
        ("mine/notes.txt", "out=mine/notes.txt holds other things: give another folder"),
    ):
        status, printed = check(*words, f"out={out}")
        assert (status, printed) == (2, f"gantrain: {complaint}\n")
    assert mine.is_file()
    assert check(*words, "out=page")[0] == check(*words, "out=page")[0] == 0


def test_links_that_lead_nowhere_are_named(check: Check) -> None:
    save("set/0.png", 0)
    Path("set/1.png").symlink_to("nowhere.png")
    _, printed = check("data=single", "data.root=set", *SMALL)
    assert findings(printed)["warning: links to files that are not there: 1"] == ["set/1.png"]


def test_names_that_are_no_text_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    save("set/0.png", 0)
    Path(os.fsdecode(b"set/a\nb\x1b[31m\xff.png")).write_bytes(b"")
    with open(1, "w", encoding="utf-8", errors="strict", closefd=False) as strict:
        monkeypatch.setattr(sys, "stdout", strict)
        assert main(["data", "check", "data=single", "data.root=set", *SMALL]) == 1
    out, _ = capfdbinary.readouterr()
    assert rb"  can't read the image set/a\nb\x1b[31m\udcff.png: the file is empty" in out.splitlines()


def test_nothing_is_changed_in_the_data_set(check: Check) -> None:
    two_domains()
    before = {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")}
    check("data=unaligned", "data.root=set", *SMALL)
    assert {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")} == before


class Endless(Source):
    """One image under many numbers."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        return str(index)

    def location(self, index: int) -> str:
        return str(index)

    def open(self, index: int) -> Encoded:
        return self.path

    def stamp(self) -> str:
        return ""


def test_memory_grows_by_few_bytes_with_every_image(tmp_path: Path) -> None:
    path = save(tmp_path / "1.png", size=(64, 64))
    wanted = (Wanted(3, "uint8", None, False, ""),)

    def peak(size: int) -> int:
        tracemalloc.start()
        summary = summarise(Part("train", "image", Endless(path, size), wanted), {}, quick=False)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert summary.sizes == {(64, 64): size}
        assert len(summary.thumbnails) == 100
        return used

    assert peak(2000) - peak(500) < 1500 * 1000  # 12,288 each, were they kept


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("1.png", "RGB", Header(10, 12, 3, "uint8")),
        ("1.png", "RGBA", Header(10, 12, 4, "uint8")),
        ("1.png", "P", Header(10, 12, 3, "uint8")),
        ("1.png", "1", Header(10, 12, 1, "uint8")),
        ("1.png", "I;16", Header(10, 12, 1, "uint16")),
        ("1.jpg", "CMYK", Header(10, 12, 4, "uint8")),
        ("1.tif", "F", Header(10, 12, 1, "float32")),
    ],
)
def test_headers_tell_size_channels_and_depth(tmp_path: Path, name: str, mode: str, expected: Header) -> None:
    Image.new(mode, (12, 10)).save(tmp_path / name)
    assert read_header(tmp_path / name, 3, "it") == expected
    assert read_header((tmp_path / name).read_bytes(), 3, "it") == expected


def test_headers_are_of_the_upright_image_and_of_either_order_of_an_array(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (12, 10)).save(tmp_path / "1.jpg", exif=turned)
    assert read_header(tmp_path / "1.jpg", 3, "it")[:2] == (12, 10)
    np.save(tmp_path / "1.npy", np.zeros((3, 10, 12), np.float64))
    assert read_header(tmp_path / "1.npy", 3, "it") == Header(10, 12, 3, "float32")
    assert read_header(tmp_path / "1.npy", 12, "it") == Header(3, 10, 12, "float32")


def test_no_finding_without_images() -> None:
    assert findings_in([], skips=False) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1234567, "1.23 MB"), (43e9, "43 GB")]
)
def test_bytes_are_said_in_units(count: int, text: str) -> None:
    assert in_bytes(int(count)) == text
