"""The curves on the page of a run."""

from __future__ import annotations

import pytest
from browsing import NARROW, Browser
from pages import HOSTILE
from run_pages import KINDS, READY, RUNS, colours, run, train_on


def test_curves_can_be_zoomed_smoothed_and_hidden(browser: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    run(steps=200).close("done", 200)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)

    def values(share: float) -> dict[str, str]:
        """The legend of the first chart at a position, from 0 to 1."""
        over = browser.find(".chart .u-over")
        offset = round((share - 0.5) * over.size["width"])
        chain = ActionChains(browser.driver, duration=0)
        chain.move_to_element(over).move_to_element_with_offset(over, offset, 0)
        chain.perform()
        rows = "[...document.querySelector('.chart').querySelectorAll('.u-legend tr:not([hidden])')]"
        cells = "['.u-label', '.u-value'].map((cell) => row.querySelector(cell).textContent)"
        return dict(browser.run(f"return {rows}.map((row) => {cells})"))

    assert values(0.0) == {"step": "10", "g_gan": "1.1", "g_class": "10"}
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
    # The other charts show the same range.
    browser.find("[aria-label='zoom out']").click()
    assert int(values(0.01)["step"]) < first
    ActionChains(browser.driver).move_to_element(over).double_click().perform()
    assert not whole.is_enabled()
    assert values(0.0)["step"] == "10"
    # A name hides its curve, by mouse and by keyboard.
    name = browser.find_all(".chart .u-legend th")[1]
    name.click()
    assert name.get_attribute("aria-pressed") == "false"
    assert "u-off" in browser.run("return arguments[0].parentElement.className", name)
    name.send_keys(Keys.ENTER)
    assert name.get_attribute("aria-pressed") == "true"
    # Smoothing: the first value is unchanged, the second is the weighted mean (0.9 * 10 + 5) / 1.9.
    browser.run(
        "const s = document.querySelector('#curves input[type=range]'); s.value = 0.9;"
        "s.dispatchEvent(new Event('input'))"
    )
    assert values(0.0)["g_class"] == "10"
    assert float(values(0.053)["g_class"]) == pytest.approx((0.9 * 10 + 5) / 1.9, rel=1e-3)
    browser.find("#curves input[type=checkbox]").click()
    assert values(0.0)["g_class"] == "10"
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
    assert ticks() == last  # This is the end.
    press("earlier")
    assert ticks() == middle
    press("zoom out to the whole run")
    assert not browser.find("[aria-label='earlier']").is_enabled()
    browser.check()


def test_a_log_scale_averages_values_that_it_cannot_show(browser: Browser) -> None:
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


def test_the_beginning_of_a_segment_is_marked_with_what_changed(browser: Browser) -> None:
    changes = {"optimizer.lr": [0.1, "<b>1</b>"], "trainer.steps": [60, 200]}
    segments = [
        {"step": 0, "command": "gantrain train model=pix2pix", "changes": {}},
        {"step": 60, "command": f"gantrain train resume={HOSTILE}", "changes": changes},
    ]
    report = run(steps=60)
    report.open(60, done=60, total=200, unit="step", segments=segments)
    train_on(report, 60, 100)
    report.close("done", 100)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)
    assert browser.find("#curves .marks").text == "from step 60: optimizer.lr: 0.1 → <b>1</b>, trainer.steps: 60 → 200"
    assert "gantrain train resume=" in browser.find("main").text
    browser.run(
        """window.texts = []; const draw = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
            window.texts.push(text);
            return draw.call(this, text, ...place);
        }"""
    )
    for axis in ("kimg", "step"):
        browser.run(
            "window.texts.length = 0; const chosen = document.querySelector('#curves select');"
            f"chosen.value = '{axis}'; chosen.dispatchEvent(new Event('change'))"
        )
        browser.until("window.texts.includes('trainer.steps: 60 → 200')")
    browser.check()


def test_a_curve_names_its_scale_and_captions_are_over_columns(browser: Browser) -> None:
    report = run(steps=0)
    for step, losses in ((10, {"g_l1": 0.2, "g_gan": 1.0}), (20, {"held_out_l1": 0.3})):
        report.log(step=step, epoch=1.0, images=step, losses=losses, waited=0.0)
    report.images(20, colours(20))
    report.close("done", 20)
    browser.open(RUNS / "run" / "index.html")
    browser.until(READY)
    charts = {chart.find_element("tag name", "figcaption").text: chart.text for chart in browser.find_all(".chart")}
    (text,) = [text for title, text in charts.items() if title == "L1 (values in [0, 1])"]
    assert "g_l1" in text
    assert "held_out_l1" in text
    places = "return [...document.querySelectorAll(arguments[0])].map((each) => each.getBoundingClientRect().toJSON())"
    (image,) = browser.run(places, ".frames img")
    captions = browser.run(places, ".frames figcaption span")
    assert [caption.text for caption in browser.find_all(".frames figcaption span")] == KINDS
    for number, caption in enumerate(captions):
        assert caption["bottom"] <= image["top"] + 1
        middle = (caption["left"] + caption["right"]) / 2
        assert middle == pytest.approx(image["left"] + image["width"] * (number + 0.5) / len(KINDS), abs=3)
    sections = [heading.text for heading in browser.find_all("h2")]
    assert sections.index("This run") < sections.index("Configuration")
