"""The page of a run: facts, configuration and images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import NARROW, WIDE, Browser
from conftest import TINY
from run_pages import READY, RUNS, run, shown

from gantrain.cli.main import main
from gantrain.report.pages.training_page import configuration


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_disk_and_from_a_server(size, scheme, browser: Browser, serve) -> None:
    run().close("done", 100)
    address = serve(RUNS)
    for page in (RUNS / "run" / "index.html", f"{address}/run/index.html"):
        browser.open(page, size=size, scheme=scheme)
        browser.until(READY)
        browser.check(host=address.removeprefix("http://") if isinstance(page, str) else "")
        assert browser.find("#pill").text == "done"
        assert shown(browser, "step") == "100"
        assert shown(browser, "g_class") == "1"
        assert len(browser.find_all("#facts dt")) == len({dt.text for dt in browser.find_all("#facts dt")})
        titles = [caption.text for caption in browser.find_all(".chart figcaption")]
        speed = ["images per second", "waiting for data (fraction of the time)"]
        assert titles == ["generator", "discriminator", "learning rate", *speed]
        assert [mark.text for mark in browser.find_all("pre mark")] == ["lambda_l1: 100.0"]
        assert "1,234,567" in browser.find(".scroll:not(:has(.film)) table").text
        ground = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) < 300) == (scheme == "dark")


def marked(page: Path) -> list[str]:
    """The marked lines of the configuration on a page."""
    _, _, text = page.read_text().partition("<h2>Configuration</h2>")
    return re.findall(r"<mark>(.*?)</mark>", text.partition("</pre>")[0])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["model=dcgan", "seed=0", "schedule=default", "optimizer.lr=2e-3"], []),  # the defaults
        (["optimizer.lr=1e-3", "model.label_smoothing=0.25"], ["label_smoothing: 0.25", "lr: 0.001"]),
        (["experiment=cgan_mnist", "data=digits"], ["hidden: 1200", "dropout: 0.5"]),
    ],
)
def test_the_configuration_marks_what_differs_from_the_defaults(typed: list[str], expected: list[str]) -> None:
    width = [] if typed[0].startswith("experiment=") else ["network.width=4"]  # It has a width of its own.
    tiny = [override for override in TINY if not override.startswith(("network.", "metrics"))]
    tiny.append("metrics.samples=20")
    assert main(["train", *tiny, *width, "trainer.steps=1", *typed]) == 0
    (page,) = Path("checkpoints").glob("*/index.html")
    found = marked(page)
    usual = ["width: 4"] * len(width) + [
        "batch_size: 4",
        "load_size: 16",
        "accelerator: cpu",
        "steps: 1",
        "samples: 20",
    ]
    assert found[0] == "Marked"
    assert {*usual, *expected} <= set(found)
    if not typed[0].startswith("experiment="):
        assert {*found[1:]} == {*usual, *expected}


def test_the_configuration_marks_nothing_without_differences() -> None:
    config = {"seed": 1, "optimizer": {"lr": 1e-3}}
    for defaults, expected in ((None, ""), (config, "All values are the defaults of this model and data set.")):
        hint, text = configuration(config, defaults)
        assert hint.render(pretty=False) == f'<p class="hint">{expected}</p>'
        assert "<mark>" not in text.render()


def test_samples_have_a_slider_can_be_played_and_enlarged(browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    run().close("done", 100)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)
    source = "document.querySelector('#samples figure img').getAttribute('src').split('?')[0]"
    name = "images/step_{}_real_a-fake_b-real_b.png"
    assert browser.run(f"return {source}") == name.format(100)
    browser.find("#samples input").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert browser.run(f"return {source}") == name.format(60)
    assert browser.find("#samples output").text == "60"
    browser.run(
        "window.seen = []; new MutationObserver(() => seen.push(" + source + "))"
        ".observe(document.querySelector('#samples figure img'), { attributes: true, attributeFilter: ['src'] })"
    )
    browser.find("#samples input").send_keys(Keys.HOME)
    browser.find("#samples button").click()  # play
    browser.until("seen.length === 5")
    assert browser.run("return seen") == [name.format(step) for step in (20, 40, 60, 80, 100)]
    browser.until("document.querySelector('#samples button').textContent.includes('play')")
    browser.find("#samples button.image").click()
    enlarged = "document.querySelector('dialog[open] img')?.getAttribute('src').split('?')[0]"
    browser.until(f"{enlarged} === arguments[0]", name.format(100))
    browser.keys(Keys.ARROW_LEFT)
    browser.until(f"{enlarged} === arguments[0]", name.format(80))
    browser.keys(Keys.HOME)
    browser.until(f"{enlarged} === arguments[0]", name.format(20))
    browser.keys(Keys.ESCAPE)
    browser.until("!document.querySelector('dialog[open]')")
    assert browser.run(f"return {source}") == name.format(20)  # the last image shown
    browser.check()


def test_a_note_leads_to_the_help_beside_the_page(browser: Browser) -> None:
    report = run()
    report.notes(50, ["mode collapse: generated images are alike", "something new"])
    report.close("done", 100)
    browser.open(RUNS / "run" / "index.html", size=NARROW, scheme="dark")
    browser.until(READY)
    assert [len(note.find_elements("css selector", "a")) for note in browser.find_all("#notes li")] == [1, 0]
    browser.find("#notes a").click()
    browser.until("document.querySelector(':target')?.textContent === 'All samples are alike'")
    browser.check()


def test_every_preview_image_has_a_row_over_time(browser: Browser) -> None:
    from io import BytesIO

    from PIL import Image

    run().close("done", 100)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)
    assert [head.text for head in browser.find_all(".film th")] == [
        "real_a",
        "step 20",
        "step 40",
        "step 60",
        "step 80",
        "step 100",
        "real_b",
    ]
    tiles = browser.find_all(".film .tile")
    assert len(tiles) == 2 * 7
    browser.run("arguments[0].scrollIntoView({ block: 'center' })", tiles[0])
    browser.until("[...document.querySelectorAll('.film img')].every((image) => image.complete && image.naturalWidth)")
    expected = [(0, 0, 100), *((1, 0, step) for step in (20, 40, 60, 80, 100)), (2, 0, 100)]
    expected += [(kind, 1, step) for kind, _, step in expected]
    for tile, (kind, row, step) in zip(tiles, expected, strict=True):
        image = Image.open(BytesIO(tile.screenshot_as_png)).convert("RGB")
        wanted = (kind / 2 * 255, row / 2 * 255, step / 100 * 255)
        for place in ((2, 2), (image.width // 2, image.height // 2), (image.width - 3, image.height - 3)):
            assert image.getpixel(place) == pytest.approx(wanted, abs=2)
    browser.check()
