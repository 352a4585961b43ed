"""The page of a run, in a browser: what it shows, and that it can be used."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import NARROW, WIDE, Browser
from conftest import TINY
from pages import HOSTILE, data_of, lines_of

from gantrain.cli.main import main
from gantrain.report import Report
from gantrain.report.pages.training_page import configuration

KINDS = ["real_a", "fake_b", "real_b"]
RUNS = Path("runs")


def colours(step: int, rows: int = 2) -> dict[str, torch.Tensor]:
    """Images of one colour each: red says the kind, green the row, blue the step."""
    values = torch.empty(len(KINDS), rows, 3, 8, 8)
    for kind in range(len(KINDS)):
        for row in range(rows):
            values[kind, row] = torch.tensor([kind / 2, row / 2, step / 100])[:, None, None]
    return dict(zip(KINDS, values * 2 - 1, strict=True))


def run(name: str = "run", *, steps: int = 100, total: int = 200, every: int = 20, **keys: Any) -> Report:
    """A run that has logged every tenth step, as far as ``steps``."""
    config = {"model": {"name": "pix2pix", "lambda_l1": 100.0}, "data": {"mode": "edges", "root": HOSTILE}, "seed": 0}
    given: dict[str, Any] = {
        "command": "gantrain train model=pix2pix",
        "config": config,
        "columns": None,
        "loggers": {},
        "advice": lambda: "",
        "active": True,
        "home": RUNS,
        "defaults": {**config, "model": {"name": "pix2pix", "lambda_l1": 10.0}},
        "facts": {"seed": "0"},
        "networks": {"generator": 1234567},
    }
    report = Report(RUNS / name, **given | keys)
    report.open(0, done=0, total=total, unit="step")
    train_on(report, 0, steps, every)
    return report


def train_on(report: Report, start: int, end: int, every: int = 20) -> None:
    for step in range(start + 10, end + 1, 10):
        report.advance(step)
        losses = {"g_gan": 1 + step / 100, "g_l1": 100 / step, "d_real": 0.5, "lr_generator": 2e-4}
        report.log(step=step, epoch=step / 50, images=step * 4, losses=losses, waited=0.0)
        if step % every == 0:
            report.images(step, colours(step))


def shown(browser: Browser, fact: str) -> str:
    script = """return [...document.querySelectorAll("#facts dt")].find((dt) => dt.textContent === arguments[0])
        ?.nextElementSibling?.textContent"""
    return str(browser.run(script, fact))


READY = "document.querySelectorAll('.chart').length && !document.querySelector('#samples').hidden"


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
        assert shown(browser, "g_l1") == "1"
        assert len(browser.find_all("#facts dt")) == len({dt.text for dt in browser.find_all("#facts dt")})
        titles = [caption.text for caption in browser.find_all(".chart figcaption")]
        speed = ["images per second", "waiting for data (fraction of the time)"]
        assert titles == ["generator", "discriminator", "learning rate", *speed]
        assert [mark.text for mark in browser.find_all("pre mark")] == ["lambda_l1: 100.0"]
        assert "1,234,567" in browser.find(".scroll:not(:has(.film)) table").text
        ground = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) < 300) == (scheme == "dark")


def marked(page: Path) -> list[str]:
    """What is marked in the configuration on a page."""
    _, _, text = page.read_text().partition("<h2>Configuration</h2>")
    return re.findall(r"<mark>(.*?)</mark>", text.partition("</pre>")[0])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["model=dcgan", "seed=0", "schedule=constant", "optimizer.lr=2e-3"], []),  # the defaults
        (["optimizer.lr=1e-3", "model.label_smoothing=0.25"], ["label_smoothing: 0.25", "lr: 0.001"]),
        (["experiment=cgan_mnist", "data=digits"], ["hidden: 1200", "dropout: 0.5"]),
    ],
)
def test_the_configuration_marks_what_differs_from_the_defaults(typed: list[str], expected: list[str]) -> None:
    assert main(["train", *TINY, "trainer.steps=1", *typed]) == 0
    (page,) = Path("checkpoints").glob("*/index.html")
    found = marked(page)
    usual = ["width: 4", "batch_size: 4", "load_size: 16", "accelerator: cpu", "steps: 1"]
    assert found[0] == "Marked"
    assert {*usual, *expected} <= set(found)
    if not typed[0].startswith("experiment="):
        assert {*found[1:]} == {*usual, *expected}


def test_the_configuration_marks_nothing_without_differences() -> None:
    config = {"seed": 1, "optimizer": {"lr": 1e-3}}
    for defaults, said in ((None, ""), (config, "All values are the defaults of this model and data set.")):
        hint, text = configuration(config, defaults)
        assert hint.render(pretty=False) == f'<p class="hint">{said}</p>'
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


def test_curves_can_be_zoomed_smoothed_and_hidden(browser: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    run(steps=200).close("done", 200)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)

    def values(share: float) -> dict[str, str]:
        """What the legend of the first chart says at a place."""
        over = browser.find(".chart .u-over")
        offset = round((share - 0.5) * over.size["width"])
        chain = ActionChains(browser.driver).move_to_element(over).move_to_element_with_offset(over, offset, 0)
        chain.perform()
        rows = "[...document.querySelector('.chart').querySelectorAll('.u-legend tr:not([hidden])')]"
        cells = "['.u-label', '.u-value'].map((cell) => row.querySelector(cell).textContent)"
        return dict(browser.run(f"return {rows}.map((row) => {cells})"))

    assert values(0.0) == {"step": "10", "g_gan": "1.1", "g_l1": "10"}
    assert values(0.5)["step"] in ("100", "110")
    whole = browser.find("[aria-label='zoom out to the whole run']")
    assert not whole.is_enabled()
    over = browser.find(".chart .u-over")
    width = over.size["width"]
    browser.drag(over, (-width // 4, 0), (width // 4, 0))  # from a quarter to the half
    assert whole.is_enabled()
    first, last = int(values(0.01)["step"]), int(values(0.99)["step"])
    assert 50 <= first <= 70
    assert 100 <= last <= 120
    # the other charts show the same part
    browser.find("[aria-label='zoom out']").click()
    assert int(values(0.01)["step"]) < first
    ActionChains(browser.driver).move_to_element(over).double_click().perform()
    assert not whole.is_enabled()
    assert values(0.0)["step"] == "10"
    # a name hides its curve, by mouse and by keyboard
    name = browser.find_all(".chart .u-legend th")[1]
    name.click()
    assert name.get_attribute("aria-pressed") == "false"
    assert "u-off" in browser.run("return arguments[0].parentElement.className", name)
    name.send_keys(Keys.ENTER)
    assert name.get_attribute("aria-pressed") == "true"
    # smoothing: the first value stays, the second is their mean, more of the newer: (0.9 * 10 + 5) / 1.9
    browser.run(
        "const s = document.querySelector('#curves input[type=range]'); s.value = 0.9;"
        "s.dispatchEvent(new Event('input'))"
    )
    assert values(0.0)["g_l1"] == "10"
    assert float(values(0.053)["g_l1"]) == pytest.approx((0.9 * 10 + 5) / 1.9, rel=1e-3)
    browser.find("#curves input[type=checkbox]").click()
    assert values(0.0)["g_l1"] == "10"
    browser.run(
        "const s = document.querySelector('#curves select'); s.value = 'kimg'; s.dispatchEvent(new Event('change'))"
    )
    assert values(0.0)["kimg"] == "0.04"
    browser.check()


def test_the_zoomed_part_can_be_moved_without_a_mouse(browser: Browser) -> None:
    run(steps=200).close("done", 200)
    browser.open(RUNS / "run" / "index.html", size=NARROW)
    browser.until(READY)

    def press(label: str) -> None:
        browser.run("document.querySelector(`[aria-label='${arguments[0]}']`).click()", label)

    def ticks() -> str:
        # an image of the first chart, as uPlot writes its numbers into a canvas
        return str(browser.run("return document.querySelector('.chart canvas').toDataURL()"))

    assert not browser.find("[aria-label='later']").is_enabled()
    press("zoom in")  # 57.5 to 152.5
    middle = ticks()
    press("later")  # 105 to 200
    last = ticks()
    assert last != middle
    press("later")
    assert ticks() == last  # there is no more
    press("earlier")
    assert ticks() == middle
    press("zoom out to the whole run")
    assert not browser.find("[aria-label='earlier']").is_enabled()
    browser.check()


def test_a_log_scale_averages_values_that_it_can_not_show(browser: Browser) -> None:
    report = run(steps=0)
    for step in range(10, 50, 10):
        values = {"g": 4.0 if step % 20 else -1.0, "d": -1.0}
        report.log(step=step, epoch=1.0, images=step, losses=values, waited=0.0)
    report.close("done", 40)
    browser.open(RUNS / "run" / "index.html")
    browser.until("document.querySelectorAll('.chart').length > 1")
    hints = "[...document.querySelectorAll('.chart .hint')].slice(0, 2).map((hint) => hint.hidden)"
    assert browser.run(f"return {hints}") == [True, True]
    browser.run(
        "const s = document.querySelector('#curves input[type=range]'); s.value = 0.9;"
        "s.dispatchEvent(new Event('input')); document.querySelector('#curves input[type=checkbox]').click()"
    )
    assert browser.run(f"return {hints}") == [True, False]
    assert browser.find_all(".chart .hint")[1].text == "No value is above zero, so a log scale shows none."
    from selenium.webdriver.common.action_chains import ActionChains

    over = browser.find(".chart .u-over")
    ActionChains(browser.driver).move_to_element_with_offset(over, over.size["width"] // 2 - 1, 0).perform()
    last = browser.run("return document.querySelector('.chart .u-legend tr:nth-child(2) .u-value').textContent")
    weights = [0.9**3, 0.9**2, 0.9, 1]
    assert float(last) == pytest.approx(
        sum(w * v for w, v in zip(weights, (4, -1, 4, -1), strict=True)) / sum(weights), rel=1e-3
    )
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


def test_an_open_page_follows_the_run_and_stops_with_it(browser: Browser) -> None:
    report = run(steps=60)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)
    assert browser.find("#pill").text == "running"
    assert browser.find("#share").text == "30 %"
    # The user moves the slider and zooms.
    slider = "document.querySelector('#samples input')"
    browser.run(f"{slider}.value = 0; {slider}.dispatchEvent(new Event('input')); scrollTo(0, 300); window.mine = true")
    browser.run(
        "document.querySelector('[aria-label=\"zoom in\"]').click(); window.chart = document.querySelector('.chart')"
    )
    train_on(report, 60, 100)
    browser.until("document.querySelector('#share').textContent === '50 %'")
    browser.until(f"{slider}.max === '4'")
    assert shown(browser, "step") == "100"
    assert browser.run("return [window.mine, scrollY]") == [True, 300]  # not reloaded
    assert browser.run(f"return {slider}.value") == "0"
    assert browser.run("return chart.isConnected")  # nor drawn again
    assert browser.find("[aria-label='zoom out to the whole run']").is_enabled()
    report.close("stopped", 100)
    browser.until("document.querySelector('#pill').textContent === 'stopped'")
    facts = [fact.text for fact in browser.find_all("#facts dt") if fact.is_displayed()]
    assert ("running for" in facts, "ran for" in facts) == (False, True)
    browser.requests()
    # Longer than the time between two updates.
    browser.driver.execute_async_script("setTimeout(arguments[0], 4000)")
    assert browser.requests() == []
    browser.check()


def test_a_run_resumed_from_an_earlier_step_shows_no_later_ones(browser: Browser) -> None:
    report = run(steps=100)
    browser.open(RUNS / "run" / "index.html")
    browser.until(f"{READY} && document.querySelector('#samples input').max === '4'")
    report.open(60, done=60, total=200, unit="step")  # from a checkpoint
    assert max(line["step"] for line in lines_of(RUNS / "run", "losses")) == 60
    assert [line["step"] for line in lines_of(RUNS / "run", "images")] == [20, 40, 60]
    browser.until("document.querySelector('#samples input').max === '2'")
    assert browser.find("#share").text == "30 %"
    train_on(report, 60, 80)
    browser.until("document.querySelector('#samples input').max === '3'")
    assert [line["step"] for line in lines_of(RUNS / "run", "losses")] == list(range(10, 81, 10))
    report.close("done", 80)
    browser.check()


def test_the_log_of_an_earlier_version_is_shown(browser: Browser) -> None:
    run().close("done", 100)
    log = RUNS / "run" / "index_files" / "data" / "log_0.js"
    log.write_text(log.read_text().replace('line("images"', 'line("pictures"'))
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)
    browser.check()


def test_a_restarted_run_shows_only_its_own_images(browser: Browser) -> None:
    slider, enlarged = "document.querySelector('#samples input')", "document.querySelector('dialog[open] img')"
    run(steps=100)
    browser.open(RUNS / "run" / "index.html")
    browser.until(f"{READY} && {slider}.max === '4'")
    browser.run(f"{slider}.value = 3; {slider}.dispatchEvent(new Event('input'))")  # step 80
    before = {image.get_attribute("src") for image in browser.find_all("#samples figure img, .film img")}
    again = run(steps=0)
    browser.until("document.querySelector('#samples').hidden && document.querySelector('#through').hidden")
    train_on(again, 0, 60)
    browser.until(f"!document.querySelector('#samples').hidden && {slider}.max === '2'")
    assert browser.find("#samples output").text == "60"
    now = [image.get_attribute("src") for image in browser.find_all("#samples figure img, .film img")]
    assert len(now) == 1 + 2 * 5
    assert before.isdisjoint(now)  # by the old addresses the browser has the old images
    browser.find("#samples button.image").click()
    assert browser.run(f"return {enlarged}.src") in now
    again.close("done", 60)
    browser.check()


def test_a_reopened_page_is_not_a_cached_one(browser: Browser, serve) -> None:
    def age() -> None:  # a server that says no more than this lets browsers keep what they have for a tenth of it
        for path in RUNS.rglob("*"):
            os.utime(path, (time.time() - 36000,) * 2)

    report = run(steps=60)
    report.close("stopped", 60)
    address = serve(RUNS)
    age()
    browser.open(f"{address}/index.html")
    browser.until("document.querySelectorAll('.run').length === 1")
    browser.open(f"{address}/run/index.html")
    browser.until(f"{READY} && document.querySelector('#samples input').max === '2'")
    report = run(steps=100)
    report.close("done", 100)
    run("second").close("done", 100)
    browser.open(f"{address}/run/index.html")
    browser.until("document.querySelector('#samples input')?.max === '4'")
    assert browser.find("#pill").text == "done"
    browser.open(f"{address}/index.html")
    browser.until("document.querySelectorAll('.run').length === 2")
    browser.check(host=address.removeprefix("http://"))


def test_a_crash_shows_its_reason_and_a_killed_run_its_last_update(browser: Browser) -> None:
    report = run("crashed")
    with pytest.raises(ValueError, match="alert"), report:
        raise ValueError(f"it went wrong: {HOSTILE}")
    browser.open(RUNS / "crashed" / "index.html")
    browser.until(READY)
    assert browser.find("#pill").text == "crashed"
    assert browser.run("return document.querySelector('#reason').textContent") == f"it went wrong: {HOSTILE}"
    browser.check()

    run("killed")  # never closed
    status = data_of(RUNS / "killed", "status") | {"time": time.time() - 3600}
    place = RUNS / "killed" / "index_files" / "data" / "status.js"
    place.write_text(f'gantrain.data("status", {json.dumps(status)});\n')
    browser.open(RUNS / "killed" / "index.html")
    browser.until(READY)
    assert browser.find("#pill").text.startswith("no update since ")
    browser.check()
    # A run that often pauses for long may still be running.
    place.write_text(f'gantrain.data("status", {json.dumps(status | {"silence": 900.0})});\n')
    browser.until("document.querySelector('#pill').textContent === 'running'")


def test_a_run_folder_of_any_name_can_be_moved(browser: Browser, serve) -> None:
    run().close("done", 100)
    (RUNS / "run").rename(HOSTILE.replace("/", "_"))
    browser.open(Path(HOSTILE.replace("/", "_")) / "index.html")
    browser.until(READY)
    browser.check()


def test_a_curve_of_one_value_is_visible(browser: Browser) -> None:
    run(steps=20).close("done", 20)
    browser.open(RUNS / "run/index.html")
    browser.until(READY)
    coloured = browser.run(
        "return [...document.querySelectorAll('#curves canvas')].map((canvas) => {"
        "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        "let count = 0;"
        "for (let at = 0; at < data.length; at += 4) {"
        "const [red, green, blue, alpha] = data.slice(at, at + 4);"
        "count += alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 100;"
        "} return count; })"
    )
    assert coloured
    assert all(coloured)


def test_the_home_page_shows_every_run_newest_first(browser: Browser, serve) -> None:
    from selenium.webdriver.common.keys import Keys

    run("first").close("done", 100)
    strange = HOSTILE.replace("/", "_")
    (RUNS / "first").rename(RUNS / strange)
    with pytest.raises(ValueError, match="no"), run("second") as second:
        raise ValueError("no <b>luck</b>")
    (RUNS / "sweeps" / strange).mkdir(parents=True)
    (RUNS / "sweeps" / strange / "index.html").write_text("<link rel=icon href=data:,><title>a sweep</title>")
    second = run("third", config={"model": {"name": "dcgan"}, "data": {"mode": "digits"}})
    address = serve(RUNS)
    for page in (RUNS / "index.html", f"{address}/index.html"):
        for size in (WIDE, NARROW):
            browser.open(page, size=size, scheme="dark" if size == NARROW else "light")
            browser.until("document.querySelectorAll('.run').length === 3")
            browser.check(host=address.removeprefix("http://") if isinstance(page, str) else "")
    names = "[...document.querySelectorAll('.run:not([hidden]) a')].map((link) => link.textContent)"
    assert browser.run(f"return {names}") == ["third", "second", strange]
    assert [pill.text for pill in browser.find_all(".run .pill")] == ["running", "crashed", "done"]
    assert "no <b>luck</b>" in browser.find_all(".run")[1].text
    assert "dcgan · digits" in browser.find(".run").text
    browser.until("[...document.querySelectorAll('.run img')].every((image) => image.naturalWidth)")
    train_on(second, 100, 140)
    browser.until("document.querySelector('.run').textContent.includes('step 140')")
    browser.find("input[type=search]").send_keys("DCGAN")
    assert browser.run(f"return {names}") == ["third"]
    browser.find("input[type=search]").send_keys(*[Keys.BACKSPACE] * 5)
    browser.run("const s = document.querySelector('select'); s.value = 'done'; s.dispatchEvent(new Event('change'))")
    assert browser.run(f"return {names}") == [strange]
    browser.find("summary").click()
    browser.find("details a").click()
    browser.until("document.title === 'a sweep'")
    browser.driver.back()
    browser.until("document.querySelectorAll('.run').length === 3")
    browser.run("const s = document.querySelector('select'); s.value = 'done'; s.dispatchEvent(new Event('change'))")
    browser.find(".run:not([hidden]) a").click()
    browser.until(f"document.querySelector('#pill') && {READY}")
    browser.check(host=address.removeprefix("http://"))
    second.close("done", 140)
