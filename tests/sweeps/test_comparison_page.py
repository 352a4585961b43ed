"""The page that compares runs, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import NARROW, WIDE, Browser
from pages import HOSTILE, data_of
from PIL import Image

from gantrain.report.pages.page import write_data
from gantrain.sweeps.comparison_page import MAX_POINTS, comparison_page
from gantrain.sweeps.summary import Run

SET = "const e = document.querySelector(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))"
SETTINGS = ["model", "optimizer.lr", "seed"]


def page(folder: Path = Path("out"), *, objective: str | None = "fid", count: int = 4, **others: Any) -> Path:
    """Runs that differ in three settings and have images at two steps; the last one has crashed."""
    rows: list[dict[str, Any]] = []
    runs: list[Run] = []
    for number in range(count):
        name = f"run {number}#%<b>" if number == 1 else f"run_{number}"
        place = Path("checkpoints") / name / "images"
        place.mkdir(parents=True, exist_ok=True)
        (place.parent / "index.html").touch()
        for step in (10, 20):
            Image.new("RGB", (16, 16), (number * 60, step * 10, 0)).save(place / f"step_{step}.png")
        Image.new("RGB", (16, 16), (number * 60, 0, 255)).save(place / "test.png")
        crashed = number == count - 1
        values = {"g": 1.0 + number, "fid": 50.0 - 10 * number}
        rows.append(
            {
                "run": name,
                "folder": f"../checkpoints/{name}",
                "status": "crashed" if crashed else "done",
                "message": HOSTILE if crashed else "",
                "step": 20,
                "seconds": 100.0 - number,
                "settings": {
                    "model": f"m{number % 2}",
                    "optimizer.lr": 10.0 ** -(number + 2),
                    "seed": number,
                    "clip": 1,
                    **{key: values[number] for key, values in others.get("settings", {}).items()},
                },
                "metrics": {} if crashed else {key: {"final": v, "best": v - 0.5} for key, v in values.items()},
            }
        )
        clock = [{"step": step, "epoch": step / 2, "kimg": step / 4} for step in range(1, 21)]
        run = Run(name, place.parent, "", "", settings={"objective.metric": objective})
        run.lines = [] if crashed else [{**now, "g": 1.0 + number + now["step"], "fid": 9.0} for now in clock]
        grid = {"columns": 1, "rows": 1, "width": 12, "height": 12, "gap": 2}
        run.images = [{"step": s, "what": "samples", "url": f"images/step_{s}.png", **grid} for s in (10, 20)]
        run.tested = others.get("tested", {"1.png": {"fake_b": "images/test.png"}})
        runs.append(run)
    record = {
        "name": f"all {HOSTILE}",
        "command": "gantrain train -m",
        "differ": [*SETTINGS, *others.get("settings", {})],
        "follow": ["clip"],
        "runs": rows,
    }
    folder.mkdir(exist_ok=True)
    return comparison_page(folder, record, runs, home=Path("nowhere"))


def column(browser: Browser, number: int) -> list[str]:
    return [cell.text.split("\n")[0] for cell in browser.find_all(f"#runs tbody tr > :nth-child({number})")]


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_layout_suits_every_screen(size: tuple[int, int], scheme: str, browser: Browser) -> None:
    browser.open(page(), size=size, scheme=scheme)
    browser.until("document.querySelectorAll('#samples img').length === 4")
    browser.check()


def test_runs_are_sorted_by_any_column(browser: Browser) -> None:
    browser.open(page())
    browser.until("document.querySelector('#runs th button')")
    heads = [head.text for head in browser.find_all("#runs th")]
    assert column(browser, 5) == ["m0", "m1", "m0", "m1"]
    place = heads.index("seed") + 1
    for expected in (["0", "1", "2", "3"], ["3", "2", "1", "0"]):
        browser.find(f"#runs th:nth-child({place}) button").click()
        assert column(browser, place) == expected
    place = next(n for n, head in enumerate(browser.find_all("#runs th"), 1) if head.text == "final fid")
    browser.find(f"#runs th:nth-child({place}) button").click()
    assert column(browser, place) == ["30", "40", "50", "–"]  # A run without the metric comes last.
    browser.open(page(Path("other"), settings={"data.mode": ["b", None, "a", None]}))
    browser.until("document.querySelector('#runs th button')")
    place = [head.text for head in browser.find_all("#runs th")].index("data.mode") + 1
    for expected in (["a", "b", "–", "–"], ["b", "a", "–", "–"]):
        browser.find(f"#runs th:nth-child({place}) button").click()
        assert column(browser, place) == expected
    browser.check()


def test_the_message_of_a_crash_is_shown_as_text(browser: Browser) -> None:
    browser.open(page())
    browser.until("document.querySelectorAll('#runs tbody tr').length === 4")
    cell = browser.find("#runs tbody tr:last-child td:nth-child(2)").text
    assert cell.startswith("crashed")
    assert '<script>alert(1)</script> "it\'s" 100%' in cell
    browser.check()


def test_columns_are_shown_and_hidden(browser: Browser) -> None:
    browser.open(page())
    browser.until("document.querySelector('#columns input')")
    follows, _, best = browser.find_all("#columns input")

    def heads() -> list[str]:
        return [head.text for head in browser.find_all("#runs th") if head.is_displayed()]

    assert "clip" not in heads()
    assert "best g" in heads()
    follows.click()
    best.click()
    assert "clip" in heads()
    assert "best g" not in heads()


def test_curves_of_all_runs_share_charts_and_zoom(browser: Browser) -> None:
    browser.open(page())
    browser.until("document.querySelectorAll('#curves .u-over').length === 2")
    names = [row.text.split(":")[0] for row in browser.find_all("#curves .chart:first-of-type .u-series th")]
    assert len([name for name in names if name.startswith("model")]) == 3  # The crashed run has none.
    over = browser.find("#curves .u-over")
    reset = browser.find("[aria-label='zoom out to the whole run']")
    assert not reset.is_enabled()
    browser.drag(over, (-40, 0), (80, 0))
    browser.until("!document.querySelector(\"[aria-label='zoom out to the whole run']\").disabled")
    browser.check()


def test_samples_are_of_the_same_step_and_can_be_enlarged(browser: Browser) -> None:
    browser.open(page())
    browser.until("document.querySelectorAll('#samples img').length === 4")
    sizes = [
        (each.get_dom_attribute("width"), each.get_dom_attribute("height")) for each in browser.find_all("#samples img")
    ]
    assert sizes == [("16", "16")] * 4  # Known before they are loaded, so that nothing moves.

    def shown() -> list[str]:
        images = "[...document.querySelectorAll('#samples img')]"
        return browser.run(f"return {images}.map((image) => image.getAttribute('src').split('?')[0])")

    assert all(source.endswith("step_20.png") for source in shown())
    browser.run(SET, "#samples input", "0", "input")
    assert all(source.endswith("step_10.png") for source in shown())
    browser.find("#samples button.image").click()
    browser.until("document.querySelector('dialog[open] img').complete")
    first = browser.find("dialog .title").text
    browser.keys("\ue014")  # arrow right
    assert browser.find("dialog .title").text != first
    browser.keys("\ue00c")  # escape
    browser.until("!document.querySelector('dialog[open]')")
    assert browser.run("return document.activeElement === document.querySelectorAll('#samples button.image')[1]")
    browser.run(SET, "#samples select", "tested fake_b", "change")
    assert all(source.endswith("test.png") for source in shown())
    browser.check()


def test_each_run_is_a_line_through_its_settings_and_a_metric(browser: Browser) -> None:
    browser.open(page())
    browser.until("document.querySelectorAll('#parallel polyline').length === 4")
    names = [element.text for element in browser.find_all("#parallel .name")]
    assert names == [*SETTINGS, "best fid"]
    points = [line.get_attribute("points").split() for line in browser.find_all("#parallel polyline")]
    assert [len(each) for each in points] == [4, 4, 4, 3]  # The crashed run has no metric.
    heights = [float(each[3].split(",")[1]) for each in points[:3]]
    assert heights[0] < heights[1] < heights[2]  # 49.5, 39.5, 29.5, from above
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    browser.run("document.querySelectorAll('#parallel polyline')[1].dispatchEvent(new Event('pointerenter'))")
    assert "best fid 39.5" in browser.find("#parallel output").text
    browser.check()


def test_parallel_lines_can_be_read_on_a_phone(browser: Browser) -> None:
    browser.open(
        page(settings={"optimizer.betas": [1, 2, 3, 4], "data.mode": [*"abcd"], "model.ema": [0, 1, 0, 1]}), size=NARROW
    )
    browser.until("document.querySelectorAll('#parallel polyline').length === 4")
    names = "[...document.querySelectorAll('#parallel .name')].map((text) => text.getBoundingClientRect())"
    boxes = browser.run(f"return {names}.map(({{ left, right, height }}) => [left, right, height])")
    assert all(height >= 11 for _, _, height in boxes)
    assert all(one[1] < other[0] for one, other in zip(boxes, boxes[1:], strict=False))
    browser.check()


def test_settings_that_are_lists_are_marked_once_for_each_value(browser: Browser) -> None:
    betas = [[0.5, 0.9], [0.9, 0.99], [0.5, 0.9], [0.9, 0.99]]
    browser.open(page(settings={"optimizer.betas": betas}))
    browser.until("document.querySelectorAll('#parallel polyline').length === 4")
    axis = "[...document.querySelectorAll('#parallel g')].find((g) => g.textContent.startsWith('optimizer.betas'))"
    marks = browser.run(f"return [...{axis}.querySelectorAll('text:not(.name)')].map((text) => text.textContent)")
    assert marks == ["[0.5,0.9]", "[0.9,0.99]"]
    heights = [line.get_attribute("points").split()[3].split(",")[1] for line in browser.find_all("#parallel polyline")]
    assert heights[0] == heights[2] != heights[1] == heights[3]


def test_test_images_are_listed_by_kind(browser: Browser) -> None:
    tested = {"a1.png": {"fake_b": "images/test.png"}, "b1.png": {"fake_a": "images/step_10.png"}}
    browser.open(page(tested=tested))
    browser.until("document.querySelectorAll('#samples img').length === 4")
    for kind, name, source in (("fake_a", "b1.png", "step_10.png"), ("fake_b", "a1.png", "test.png")):
        browser.run(SET, "#samples select", f"tested {kind}", "change")
        image = browser.find_all("#samples select")[1]
        assert [option.text for option in image.find_elements("tag name", "option")] == [name]
        sources = [
            each.get_attribute("src").split("?")[0] for each in browser.find_all("#samples figure:not([hidden]) img")
        ]
        assert len(sources) == 4
        assert all(each.endswith(source) for each in sources)
    browser.check()


def test_kinds_that_models_share_are_cut_out_of_their_images(browser: Browser) -> None:
    from io import BytesIO

    written = page(count=2)
    sets = [["real_a", "fake_b"], ["real_a", "rec_a", "fake_b"]]
    record = data_of("out", "comparison")
    for run, kinds in zip(record["runs"], sets, strict=True):
        # Each image has its own colour, for its kind and its number.
        colours = {kind: [(40 * row, 60 * number, 250) for row in (1, 2)] for number, kind in enumerate(kinds, 1)}
        made = Image.new("RGB", (len(kinds) * 18 + 2, 2 * 18 + 2))
        for number, kind in enumerate(kinds):
            for row in (0, 1):
                made.paste(colours[kind][row], (2 + number * 18, 2 + row * 18, 18 + number * 18, 18 + row * 18))
        made.save(Path("checkpoints", run["name"], "images/cut.png"))
        grid = {"columns": len(kinds), "rows": 2, "width": 16, "height": 16, "gap": 2}
        run["images"] = [{"step": 10, "what": "-".join(kinds), "kinds": kinds, "url": "images/cut.png", **grid}]
        run["wanted"] = colours
    write_data(Path("out"), "comparison", record)
    browser.open(written)
    browser.until("document.querySelectorAll('#samples .tile').length === 4")
    options = [option.text for option in browser.find("#samples select").find_elements("tag name", "option")]
    assert options == ["fake_b", "real_a", *("-".join(kinds) for kinds in sets), "test: fake_b"]
    browser.run("document.querySelector('#samples').scrollIntoView()")
    browser.until("[...document.querySelectorAll('#samples .tile img')].every((image) => image.naturalWidth)")
    for kind in ("fake_b", "real_a"):
        browser.run(SET, "#samples select", f"cut {kind}", "change")
        browser.until("[...document.querySelectorAll('#samples .tile img')].every((image) => image.naturalWidth)")
        for figure, run in zip(browser.find_all("#samples figure"), record["runs"], strict=True):
            for each, colour in zip(figure.find_elements("css selector", ".tile"), run["wanted"][kind], strict=True):
                shown = Image.open(BytesIO(each.screenshot_as_png)).convert("RGB")
                assert shown.getpixel((shown.width // 2, shown.height // 2)) == pytest.approx(colour, abs=3)
    browser.find("#samples button.image").click()
    browser.until("document.querySelectorAll('dialog[open] .tile').length === 2")
    browser.check()


def test_runs_are_labelled_by_their_settings(browser: Browser) -> None:
    choices = {"network.generator.name": ["unet", "resnet", "unet", "resnet"], "data.mode": [*"abcd"]}
    browser.open(page(settings=choices))
    browser.until("document.querySelectorAll('#samples figcaption').length === 4")
    assert browser.find("#samples figcaption").text.startswith("model m0, lr 0.01, seed 0, generator unet, data a:")


def test_the_page_works_from_a_server(browser: Browser, serve: Any) -> None:
    page()
    address = serve(Path())
    browser.open(f"{address}/out/index.html")
    browser.until("document.querySelectorAll('#samples img').length === 4")
    browser.check(host=address.removeprefix("http://"))


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    record = {"name": "x", "command": "", "differ": [], "follow": []}
    run = {"run": "a", "folder": "../a", "status": "done", "message": "", "step": 1, "seconds": 1.0, "settings": {}}
    run["metrics"] = {"g": {"final": 1.0, "best": 1.0}}
    lines = [{"step": n, "epoch": n / 2, "kimg": n, "g": float(n)} for n in range(10_001)]
    Path("out").mkdir()
    record["runs"] = [run]
    comparison_page(Path("out"), record, [Run("a", Path("a"), "done", "", lines=lines)], home=Path())
    curve = data_of("out", "comparison")["runs"][0]["curves"]["g"]
    assert MAX_POINTS / 2 < len(curve["step"]) <= MAX_POINTS + 1
    assert (curve["step"][0], curve["step"][-1]) == (0, 10_000)
    assert curve["value"][-1] == 10_000
