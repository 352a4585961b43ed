"""The page that runs a model in a browser: a real one draws on it, and gets what onnxruntime computes."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from browsing import NARROW, Browser
from exported import source_of
from needs import missing

from gantrain.data.base import ImageSpec
from gantrain.data.sets.digits import Digits
from gantrain.errors import ConfigError
from gantrain.exports import browser as runtime
from gantrain.exports.browser import MODULE, RUNTIME, WASM, BrowserRuntime
from gantrain.exports.html import HtmlFormat
from gantrain.exports.onnx_file import OnnxFormat
from gantrain.exports.source import Source

ORT = "GANTRAIN_TEST_ORT"  # The folder of the npm package onnxruntime-web, for the tests that need the real one.
GRAY = ImageSpec(height=32, width=32, channels={"a": 1, "b": 3}, depth={"a": "uint8", "b": "uint8"})
PAGE = Path("page.html")
WRITTEN: dict[str, bytes] = {}  # ONNX files by what they contain.


@pytest.fixture
def ort() -> str:
    """The real runtime."""
    folder = os.environ.get(ORT)
    if folder is None:
        missing(f"{ORT} does not name a folder with the npm package onnxruntime-web")
    return folder


@pytest.fixture
def fake_ort() -> str:
    """Files with the names of the runtime's."""
    folder = Path("fake/dist")
    folder.mkdir(parents=True)
    for name in (RUNTIME, MODULE, WASM):
        (folder / name).write_text(f"/* {name} */")
    return "fake"


@pytest.fixture(autouse=True)
def _models_are_exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages share the file of each model, which takes seconds to export."""
    write = OnnxFormat.write

    def remembered(self: OnnxFormat, sources: list[Source], path: Path) -> None:
        key = json.dumps({**sources[0].facts, "run": ""})
        if key not in WRITTEN:
            write(self, sources, path)
            WRITTEN[key] = path.read_bytes()
        path.write_bytes(WRITTEN[key])

    monkeypatch.setattr(OnnxFormat, "write", remembered)


def page_format(ort: str, images: Callable[[], Any] | None = None) -> HtmlFormat:
    def none() -> Any:
        raise ConfigError("no data")

    return HtmlFormat(half=False, opset=20, ort=ort, test_images=images or none)


def translator() -> Source:
    return source_of("pix2pix", "resnet", spec=GRAY, norm="batch")


def facts_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="facts"[^>]*>(.*?)</script>', page.read_text(), flags=re.DOTALL)
    assert found is not None
    facts: dict[str, Any] = json.loads(found[1])
    return facts


def session_of(page: Path, name: str) -> onnxruntime.InferenceSession:
    packed = re.search(rf'<script id="model-{name}"[^>]*>([^<]*)<', page.read_text())
    assert packed is not None
    return onnxruntime.InferenceSession(gzip.decompress(base64.b64decode(packed[1])))


def test_the_page_contains_the_model_which_is_compared(fake_ort: str) -> None:
    source = translator()
    written = page_format(fake_ort)
    written.write([source], PAGE)
    assert written.difference([source], PAGE) < 0.01
    text = PAGE.read_text()
    assert f"/* {RUNTIME} */" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert facts_of(PAGE)["models"][0] == {
        **{"name": "a_to_b", "text": "A to B", "channels": 1, "examples": []},
        **{"background": "#000000", "pen": "#ffffff"},
    }
    source.model.generator.requires_grad_(False)
    next(source.model.generator.parameters()).add_(1.0)
    assert written.difference([source], PAGE) > 1


def test_names_can_not_break_out_of_the_page(fake_ort: str) -> None:
    source = translator()
    source.facts["run"] = "</script><script>alert(1)</script>"
    page_format(fake_ort).write([source], PAGE)
    assert "<script>alert" not in PAGE.read_text()
    assert facts_of(PAGE)["run"] == source.facts["run"]


def test_test_images_are_shown_and_the_pen_contrasts_with_them(fake_ort: str) -> None:
    page_format(fake_ort, lambda: Digits(load_size=32, phase="test")).write([translator()], PAGE)
    (model,) = facts_of(PAGE)["models"]
    assert len(model["examples"]) == 6
    assert all(each.startswith("data:image/png;base64,") for each in model["examples"])
    assert model["background"] == "#000000"


def test_images_that_a_browser_can_not_show_are_refused(fake_ort: str) -> None:
    deep = ImageSpec(height=32, width=32, channels={"a": 1, "b": 2}, depth={"a": "uint8", "b": "uint8"})
    with pytest.raises(ConfigError, match="format=onnx"):
        page_format(fake_ort).write([source_of("pix2pix", "unet", spec=deep)], PAGE)


def test_a_missing_runtime_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRAIN_CACHE", str(Path.cwd() / "cache"))
    with pytest.raises(ConfigError, match="ort=nowhere"):
        BrowserRuntime.find("nowhere")
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="ort=FOLDER"):
        BrowserRuntime.find(None)
    monkeypatch.setattr(runtime.shutil, "which", lambda name: "npm")

    def fail(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "npm", stderr=b"npm error\nENOTFOUND\n")

    monkeypatch.setattr(runtime.subprocess, "run", fail)
    with pytest.raises(ConfigError, match="ENOTFOUND.*ort=FOLDER"):
        BrowserRuntime.find(None)


PIXELS = """const canvas = document.querySelector(arguments[0]);
return [canvas.width, canvas.height, ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""


def pixels(browser: Browser, selector: str) -> np.ndarray:
    """(height, width, 4) of a canvas."""
    width, height, *data = browser.run(PIXELS, selector)
    return np.array(data, dtype=np.uint8).reshape(height, width, 4)


def settled(browser: Browser, before: str | None) -> str:
    """Wait until another result is shown than the one that was counted ``before``."""
    browser.until("document.body.dataset.done && document.body.dataset.done !== arguments[0]", before)
    return str(browser.run("return document.body.dataset.done"))


def test_drawings_and_images_are_translated_as_by_onnxruntime(browser: Browser, ort: str) -> None:
    page_format(ort, lambda: Digits(load_size=32, phase="test")).write([translator()], PAGE)
    browser.open(PAGE, size=NARROW)
    done = settled(browser, None)
    empty = pixels(browser, "#output")
    canvas = browser.find("#input")
    browser.drag(canvas, (-30, -30), (50, 60))
    settled(browser, done)
    drawn, output = pixels(browser, "#input"), pixels(browser, "#output")
    assert drawn[..., 0].max() > 200
    assert (drawn[..., 0] > 0).sum() < 200
    assert not np.array_equal(output, empty)
    image = (drawn[..., :1].transpose(2, 0, 1)[None] / 127.5 - 1).astype(np.float32)
    (wanted,) = session_of(PAGE, "a_to_b").run(None, {"image": image})
    levels = ((wanted[0].clip(-1, 1) + 1) * 127.5).round().transpose(1, 2, 0)
    assert np.abs(levels - output[..., :3]).max() <= 2
    browser.find("#undo").click()
    browser.until("document.querySelector('#status').textContent.includes('32 × 32')")
    browser.find("#compare").click()
    assert browser.run("return document.querySelector('#pair').classList.contains('comparing')")
    # Another size, and an image.
    browser.run("document.querySelector('#size').value = 64; document.querySelector('#size').onchange()")
    browser.until("document.querySelector('#output').width === 64")
    done = settled(browser, done)
    assert pixels(browser, "#output").shape == (64, 64, 4)
    browser.find("#examples img").click()
    settled(browser, done)
    assert pixels(browser, "#input")[..., 0].max() > 200
    browser.check()


@pytest.mark.parametrize("model", ["cgan", "infogan"])
def test_seeds_classes_and_codes_change_the_generated_image(model: str, browser: Browser, ort: str) -> None:
    source = source_of(model, "dcgan")
    page_format(ort).write([source], PAGE)
    browser.open(PAGE, size=NARROW)
    done, shown = settled(browser, None), [pixels(browser, "#sample").tobytes()]
    own = "#class" if model == "cgan" else "#sliders select"
    for selector, value in (("#seed", 5), (own, 1), ("#sliders input", 1)):
        script = "const each = document.querySelector(arguments[0]); each.value = arguments[1];"
        browser.run(script + "(each.oninput || each.onchange)()", selector, str(value))
        done = settled(browser, done)
        shown.append(pixels(browser, "#sample").tobytes())
    assert len(set(shown)) == len(shown)
    browser.find("#walk").click()
    settled(browser, done)
    browser.find("#walk").click()
    browser.check()
