"""Names with markup are shown as text: they run no script, and pages load nothing from other hosts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Browser
from PIL import Image

from gantrain.cli.main import main

IMAGE = "<img src=x onerror=window.pwned=1>"
LEAVES = "\"'><svg onload=window.pwned=1>&lt;b&gt;&amp;"  # Ends an attribute, then the tag.
PARTS = [IMAGE, LEAVES]
KEYS = ["data.load_size=16", "data.crop_size=16", "data.batch_size=4", "network.width=4", "trainer.accelerator=cpu"]


@pytest.fixture
def images(workplace: Path) -> Path:
    """A folder whose name, classes and files are markup."""
    folder = workplace / f"images {IMAGE}"
    for number, kind in enumerate(PARTS):
        (folder / kind).mkdir(parents=True)
        for other in range(3):
            Image.new("RGB", (16, 16), (90 * number, 40 * other, 0)).save(
                folder / kind / f"{other}{PARTS[other % 2]}.png"
            )
    return folder


def quoted(value: str) -> str:
    return "'" + value.replace("'", "\\'") + "'"


@pytest.fixture
def opened(browser: Browser) -> Callable[[Path], str]:
    """``opened(page)`` checks a page and returns its visible text."""

    def look(page: Path) -> str:
        browser.open(page)
        browser.check()
        assert browser.run("return window.pwned") is None
        assert browser.run("return document.querySelectorAll('[onerror],[onload]').length") == 0
        for script in browser.run("return [...document.scripts].map((script) => script.getAttribute('src'))"):
            assert re.fullmatch(r"index_files/[\w/.-]+\.js(\?\d+)?", script), script
        return str(browser.run("return document.body.innerText"))

    return look


def test_a_harmful_page_is_detected(browser: Browser, workplace: Path) -> None:
    Path("page.html").write_text(f"<body>{IMAGE}<img src='http://example.com/x.png'></body>")
    browser.open(Path("page.html"))
    assert browser.run("return window.pwned") == 1
    assert len(browser.messages()) == 2
    assert "http://example.com/x.png" in browser.requests()
    with pytest.raises(AssertionError):
        browser.check()


def test_the_page_of_a_run(opened: Callable[[Path], str], images: Path) -> None:
    typed = ["train", "model=cgan", "data=single", f"data.root={quoted(str(images))}", *KEYS, "name=run"]
    assert main([*typed, "trainer.steps=1", "trainer.log_every=1"]) == 0
    lines = Path("checkpoints/run/losses.jsonl")
    first = json.loads(lines.read_text().splitlines()[0])
    lines.write_text(
        json.dumps({**first, **dict.fromkeys(PARTS, 1.0)}) + "\n"
    )  # As in a run folder from somewhere else.
    assert main([*typed, "trainer.steps=2", "trainer.log_every=1"]) == 0
    page = opened(Path("checkpoints/run/index.html"))
    assert page.count(IMAGE) >= 3  # In the command, the configuration and a caption.
    assert LEAVES in page


def test_the_page_of_samples(opened: Callable[[Path], str], browser: Browser, images: Path) -> None:
    typed = ["train", "model=cgan", "data=single", f"data.root={quoted(str(images))}", *KEYS, "name=run"]
    assert main([*typed, "trainer.steps=1"]) == 0
    for number, name in enumerate(PARTS):
        place = shutil.copytree("checkpoints/run", f"checkpoints/{name}")
        run, out = f"run={quoted(str(place))}", f"out=out{number}"
        assert main(["test", run, "num=2", out, "accelerator=cpu"]) == 0
        page = opened(Path(f"out{number}/index.html"))
        assert name in browser.run("return document.title")
        assert name in page


@pytest.mark.usefixtures("few_digits")
def test_the_page_of_translations(opened: Callable[[Path], str], browser: Browser, images: Path) -> None:
    typed = ["model=pix2pix", "network.width=4", "trainer.accelerator=cpu", "trainer.steps=1", "name=run"]
    assert main(["train", *typed]) == 0
    data = ["data=single", f"data.root={quoted(str(images))}", "data.preprocess=resize_and_crop"]
    sizes = ["data.load_size=32", "data.crop_size=32"]
    assert main(["test", "run=checkpoints/run", *data, *sizes, "direction=a_to_b", "out=out", "accelerator=cpu"]) == 0
    page = opened(Path("out/index.html"))
    assert IMAGE in page
    assert LEAVES in page
    assert browser.run("return document.images.length") == 12


def test_the_page_of_a_data_set(opened: Callable[[Path], str], browser: Browser, images: Path) -> None:
    (images / IMAGE / f"broken{LEAVES}.png").write_bytes(b"no image")
    typed = ["data=single", f"data.root={quoted(str(images))}", "data.load_size=16", "data.crop_size=16"]
    assert main(["data", "check", *typed, "out=out"]) == 1
    page = opened(Path("out/index.html"))
    assert f"broken{LEAVES}.png" in page
    assert page.count(IMAGE) >= 2
    assert browser.run("return document.images.length") == 6
