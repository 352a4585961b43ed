"""``gantrain data check``: its arguments, its output and its page."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from data_check import SMALL, check, findings, row, save, two_domains
from PIL import Image

from gantrain.cli.main import main


def test_warnings_are_abbreviated_on_the_terminal_not_on_the_page() -> None:
    for number in range(15):
        save(f"set/{number:02}.png", number, size=(6, 6))
    _, printed = check("data=single", "data.root=set", *SMALL)
    (items,) = (items for line, items in findings(printed).items() if "scaled up" in line)
    assert items == [*(f"set/{number:02}.png" for number in range(10)), "... (more on the page)"]
    page = Path("results/data_single/index.html").read_text()
    assert all(f"<li>set/{number:02}.png</li>" in page for number in range(15))


def test_the_page_shows_at_most_100_thumbnails_per_part() -> None:
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


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(("data", "counts"), [("digits", ["4,500", "500"]), ("edges2digits", ["20", "20"])])
def test_shipped_data_has_no_defects(data: str, counts: list[str]) -> None:
    status, printed = check(f"data={data}", "quick=true")
    assert status == 0
    assert row(printed, "images") == counts
    assert "would stop" not in printed
    assert Path(f"results/data_{data}/index.html").is_file()
    assert not Path("checkpoints").exists()


def test_keys_are_composed_and_checked_as_in_training() -> None:
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
        ([], "data is missing"),
    ):
        status, printed = check(*words)
        assert status == 2
        assert complaint in printed
        assert len(printed.splitlines()) == 1
    status, printed = check("data=unaligned", "data.root=set", "data.load_size=8", "data.crop_size=16")
    assert status == 1
    assert any("data.crop_size (16) must not exceed data.load_size (8)" in line for line in findings(printed))


def test_the_page_needs_a_folder_of_its_own() -> None:
    two_domains()
    mine = save("mine/images/thumbnail_0_0.png", 99)
    Path("mine/notes.txt").touch()
    words = ["data=unaligned", "data.root=set", *SMALL]
    for out, complaint in (
        ("set/page", "data.root (set): give out=FOLDER outside"),
        ("set", "data.root (set): give out=FOLDER outside"),
        ("mine", "other files: give another folder"),
        ("mine/notes.txt", "other files: give another folder"),
    ):
        status, printed = check(*words, f"out={out}")
        assert status == 2
        assert printed.startswith(f"gantrain: out={out} ")
        assert printed.endswith(f"{complaint}\n")
    assert mine.is_file()
    assert check(*words, "out=page")[0] == check(*words, "out=page")[0] == 0


def test_undecodable_names_are_printed_escaped(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    save("set/0.png", 0)
    Path(os.fsdecode(b"set/a\nb\x1b[31m\xff.png")).write_bytes(b"")
    with open(1, "w", encoding="utf-8", errors="strict", closefd=False) as strict:
        monkeypatch.setattr(sys, "stdout", strict)
        assert main(["data", "check", "data=single", "data.root=set", *SMALL]) == 1
    out, _ = capfdbinary.readouterr()
    assert rb"  can't read the image set/a\nb\x1b[31m\udcff.png: the file is empty" in out.splitlines()


def test_the_data_set_is_left_unchanged() -> None:
    two_domains()
    before = {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")}
    check("data=unaligned", "data.root=set", *SMALL)
    assert {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")} == before
