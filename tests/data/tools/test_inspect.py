"""Inspections of single images by ``gantrain data check``."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from data_check import SMALL, check, findings, row, save, two_domains
from PIL import Image

from gantrain.data.images.reader import ImageReader
from gantrain.data.images.sources import EncodedImage, Source
from gantrain.data.tools.check import summarise
from gantrain.data.tools.inspect import Part


def test_unreadable_images_are_named() -> None:
    two_domains()
    whole = save("set/whole.png", size=(64, 64)).read_bytes()
    Path("set/whole.png").unlink()
    for number in range(6):
        Path(f"set/trainA/broken{number}.jpg").write_bytes(b"no image")
    Path("set/trainB/0.png").write_bytes(b"")  # The first image, which usually defines the depth.
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


def test_quick_reads_headers_alone() -> None:
    for number in range(150):
        save(f"set/{number:03}.png", number)
    whole = Path("set/001.png").read_bytes()
    Path("set/001.png").write_bytes(whole[:100])  # An image without thumbnail.
    Path("set/003.png").write_bytes(b"")
    status, printed = check("data=single", "data.root=set", "quick=true", *SMALL)
    assert status == 1
    assert row(printed, "unreadable") == ["1"]
    assert row(printed, "width") == ["12"]
    status, printed = check("data=single", "data.root=set", *SMALL)
    assert row(printed, "unreadable") == ["2"]


def test_quick_does_not_report_gray_images() -> None:
    for number in range(3):
        save(f"set/{number}.png", number, channels=1)
    assert "in gray, in a colour data set" in check("data=single", "data.root=set", *SMALL)[1]
    assert "in gray, in a colour data set" not in check("data=single", "data.root=set", "quick=true", *SMALL)[1]


def test_images_of_odd_width_are_named() -> None:
    for number, width in enumerate((16, 17, 16, 19)):
        save(f"set/train/{number}.png", number, size=(8, width))
    status, printed = check("data=aligned", "data.root=set", *SMALL)
    assert status == 1
    assert findings(printed)["would stop training: train A | B: images that can't be cropped: 2"] == [
        "set/train/1.png is 17 pixels wide, which can't be halved into A and B",
        "set/train/3.png is 19 pixels wide, which can't be halved into A and B",
    ]


def test_gray_and_colour_are_distinguished_by_pixels() -> None:
    for name, gray in (("0", False), ("1", True), ("2", False)):
        save(f"set/{name}.png", int(name))
        if gray:
            Image.open(f"set/{name}.png").convert("L").convert("RGB").save(f"set/{name}.png")
    save("set/3.png", 3, channels=1)
    words = ["data=single", "data.root=set", *SMALL]
    status, printed = check(*words)
    assert status == 0
    line = "warning: train: images in gray, in a colour data set: 2"
    assert findings(printed)[line] == ["set/1.png", "set/3.png"]
    _, printed = check(*words, "data.channels=1")
    assert findings(printed)["warning: train: images in colour, in a gray data set: 2"] == ["set/0.png", "set/2.png"]
    assert row(printed, "channels") == ["3 (3), 1 (1)"]


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

    def open(self, index: int) -> EncodedImage:
        return self.path

    def stamp(self) -> str:
        return ""


def test_memory_per_image_is_small(tmp_path: Path) -> None:
    path = save(tmp_path / "1.png", size=(64, 64))

    def peak(size: int) -> int:
        reader = ImageReader(Endless(path, size), channels=3, depth="uint8", value_range=None)
        tracemalloc.start()
        summary = summarise(Part("train", "image", (reader,)), quick=False)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert summary.sizes == {(64, 64): size}
        assert len(summary.thumbnails) == 100
        return used

    assert peak(800) - peak(200) < 600 * 1000  # It would be 12,288 bytes per image if they were stored.
