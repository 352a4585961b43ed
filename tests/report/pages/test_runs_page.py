"""The page that lists all runs."""

from __future__ import annotations

import json
import shlex

import pytest
from browsing import NARROW, WIDE, Browser
from pages import HOSTILE
from run_pages import READY, RUNS, run, train_on

from gantrain.report.pages.home_page import write_home


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


def test_runs_of_a_sweep_are_grouped_and_runs_chosen_for_a_comparison(browser: Browser) -> None:
    for name in ("one", "two", "it's three"):
        run(name).close("done", 100)
    for name in ("one", "two"):
        (RUNS / f"sweeps/mine/jobs/{name}.json").parent.mkdir(parents=True, exist_ok=True)
        (RUNS / f"sweeps/mine/jobs/{name}.json").write_text("{}")
    (RUNS / "sweeps/mine/index.html").write_text("a page")
    write_home(RUNS)
    browser.open(RUNS / "index.html")
    browser.until("document.querySelectorAll('.run').length === 3")
    assert browser.find(".group summary").text == "sweep mine: 2 runs"
    assert browser.find(".group p a").get_attribute("href").endswith("/runs/sweeps/mine/index.html")
    names = "[...document.querySelectorAll(arguments[0])].map((link) => link.textContent)"
    assert browser.run(f"return {names}", ".group .run a") == ["two", "one"]
    assert browser.run(f"return {names}", "#runs > .runs .run a") == ["it's three"]
    boxes = {box.get_attribute("aria-label"): box for box in browser.find_all(".run input")}
    assert not browser.find("#chosen").is_displayed()
    boxes["compare one"].click()
    assert "two runs or more" in browser.find("#chosen").text
    boxes["compare it's three"].click()
    command = browser.find("#chosen code").text
    assert shlex.split(command) == ["gantrain", "compare", "runs/it's three", "runs/one"]
    browser.check()
    browser.find_all("#chosen button")[-1].click()
    assert not browser.find("#chosen").is_displayed()
    assert not any(box.is_selected() for box in boxes.values())


def test_the_home_page_executes_nothing_from_run_folders(browser: Browser) -> None:
    stranger = run("stranger")
    mine = run("mine")
    data = RUNS / "stranger/index_files/data/status.js"
    status = json.loads(data.read_text().partition(", ")[2].rpartition(")")[0])
    link = {"sweep": "x", "comparison": "javascript:window.pwned=1", "live": "../../stranger/index_files/data/status"}
    data.write_text(f"gantrain.data('status', {json.dumps({**status, **link})});")
    write_home(RUNS)
    data.write_text(f"window.pwned = 1;\n{data.read_text()}")
    browser.open(RUNS / "index.html")
    browser.until("document.querySelectorAll('.run').length === 2")
    train_on(mine, 100, 140)
    browser.until("document.querySelector('.run').textContent.includes('step 140')")
    assert browser.run("return window.pwned") is None
    assert browser.run("return document.querySelectorAll('[href^=javascript]').length") == 0
    mine.close("done", 140)
    stranger.close("done", 100)
    write_home(RUNS)
    assert list((RUNS / "index_files/data").glob("status_*.js")) == []
