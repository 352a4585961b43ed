"""The page of a run that continues, restarts, crashes or moves while or before it is open."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from browsing import Browser
from pages import HOSTILE, data_of, lines_of
from run_pages import READY, RUNS, run, shown, train_on

from gantrain.report.pages import training_page
from gantrain.report.pages.page import read_status, seconds_of, write_data


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
    assert browser.run("return chart.isConnected")  # It is not redrawn either.
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
    browser.loaded()
    report.open(60, done=60, total=200, unit="step")  # from a checkpoint
    assert max(line["step"] for line in lines_of(RUNS / "run", "losses")) == 60
    assert [line["step"] for line in lines_of(RUNS / "run", "images")] == [20, 40, 60]
    browser.until("document.querySelector('#samples input').max === '2'")
    browser.until("document.querySelector('#share').textContent === '30 %'")
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
    browser.loaded()
    again = run(steps=0)
    browser.until("document.querySelector('#samples').hidden && document.querySelector('#through').hidden")
    train_on(again, 0, 60)
    browser.until(f"!document.querySelector('#samples').hidden && {slider}.max === '2'")
    assert browser.find("#samples output").text == "60"
    now = [image.get_attribute("src") for image in browser.find_all("#samples figure img, .film img")]
    assert len(now) == 1 + 2 * 5
    assert before.isdisjoint(now)  # The browser has cached the old images under the old addresses.
    browser.find("#samples button.image").click()
    assert browser.run(f"return {enlarged}.src") in now
    again.close("done", 60)
    browser.check()


def test_a_reopened_page_is_not_a_cached_one(browser: Browser, serve) -> None:
    def age() -> None:  # With only this header, browsers cache for a tenth of the age.
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


def test_a_resumed_run_ran_for_all_its_sessions_without_pauses(browser: Browser, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    for seconds in (100, 7000):
        report = run(steps=0)
        now[0] += seconds
        report.close("stopped: by hand", 100)
    status = data_of(RUNS / "run", "status")
    data = {**status, "paused": 400.0}
    write_data(RUNS / "run", "status", data)
    assert read_status(RUNS / "run")["ran"] == 100.0
    assert seconds_of(read_status(RUNS / "run")) == 6700.0
    browser.open(RUNS / "run" / "index.html")
    browser.until("document.querySelector('#facts dt')")
    assert shown(browser, "ran for") == "1 h 52 min"


def test_evaluations_that_cannot_be_read_are_reported(capsys) -> None:
    (RUNS / "run").mkdir(parents=True)
    os.mkfifo(RUNS / "run/evaluations.jsonl")
    run().close("done", 100)
    assert read_status(RUNS / "run")["state"] == "done"
    assert "evaluations.jsonl" in capsys.readouterr().err


def test_a_page_that_could_not_be_opened_is_completed_later(monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training_page, "list_results", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        report = run()
    report.close("done", 100)
    assert read_status(RUNS / "run")["state"] == "done"
