"""The page of results, in a browser: filtered, sorted, compared, enlarged, and fast with very many images."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from browsing import NARROW, WIDE, Browser
from pages import HOSTILE
from PIL import Image

from gantrain.report.pages.results_page import Interpolation, Row, results_page

KINDS = ("real_a", "fake_b", "real_b")
FOLDER = Path("results")
NAMES = "[...document.querySelectorAll('.card .name')].map((name) => name.textContent)"


def translated(count: int) -> list[Row]:
    """Rows whose error falls and whose SSIM is highest in the middle; the first has a name of any characters."""
    rows = []
    for number in range(count):
        name = HOSTILE if number == 0 else f"some/{number:05}.png"
        images = {kind: FOLDER / kind / f"{name}.png" for kind in KINDS}
        metrics = {"L1": 1 / (number + 1), "SSIM": 1 - abs(number - count // 2) / count}
        rows.append(Row(name=name, images=images, size=(16, 12), metrics=metrics))
    for row in rows:
        for kind, path in row.images.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(image(KINDS.index(kind)), path)
    return rows


def image(shade: int) -> Path:
    """An image in one shade of gray."""
    path = FOLDER / f"{shade}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        Image.new("RGB", (16, 12), (100 * shade, 100 * shade, 100 * shade)).save(path)
    return path


def write(count: int = 120) -> Path:
    tables = {"a_to_b: real_a is the input, fake_b the output": translated(count)}
    results_page(FOLDER, name=HOSTILE, command=f"gantrain test {HOSTILE}", facts={HOSTILE: HOSTILE}, tables=tables)
    return FOLDER / "index.html"


def choose(browser: Browser, label: str, value: str) -> None:
    script = """const select = [...document.querySelectorAll("label")].find((label) =>
        label.firstChild.textContent === arguments[0]).querySelector("select");
        select.value = arguments[1]; select.dispatchEvent(new Event("change"))"""
    browser.run(script, label, value)


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_disk_and_from_a_server(size, scheme, browser: Browser, serve) -> None:
    page = write(5)
    address = serve(Path())
    for place in (page, f"{address}/results/index.html"):
        browser.open(place, size=size, scheme=scheme)
        browser.until("document.querySelectorAll('.card').length === 5")
        browser.check(host=address.removeprefix("http://") if isinstance(place, str) else "")
        assert browser.run(f"return {NAMES}") == [HOSTILE, *(f"some/0000{n}.png" for n in range(1, 5))]
        assert browser.run("return document.title") == " ".join(HOSTILE.split())
        assert browser.run("return document.querySelector('pre').textContent") == f"gantrain test {HOSTILE}"
        assert "L1 1 · SSIM 0.6" in browser.find(".card").text
        browser.until("[...document.querySelectorAll('.card img')].slice(0, 3).every((image) => image.naturalWidth)")


def test_rows_are_filtered_sorted_and_paged(browser: Browser) -> None:
    browser.open(write(120))
    browser.until("document.querySelectorAll('.card').length === 48")
    assert browser.find("[role=status]").text == "120 images"
    browser.find("[aria-label='next page']").click()
    assert browser.run(f"return {NAMES}")[0] == "some/00048.png"
    choose(browser, "page", "2")
    assert browser.run(f"return {NAMES}") == [f"some/{n:05}.png" for n in range(96, 120)]
    assert not browser.find("[aria-label='next page']").is_enabled()
    choose(browser, "sort", "0 best")  # L1
    assert browser.run(f"return {NAMES}")[:2] == ["some/00119.png", "some/00118.png"]
    choose(browser, "sort", "0 worst")
    assert browser.run(f"return {NAMES}")[:2] == [HOSTILE, "some/00001.png"]
    choose(browser, "sort", "1 best")  # SSIM
    assert browser.run(f"return {NAMES}")[0] == "some/00060.png"
    browser.find("input[type=search]").send_keys("some/0011")
    assert browser.find("[role=status]").text == "10 of 120 images"
    assert browser.run(f"return {NAMES}") == [f"some/0011{n}.png" for n in range(10)]  # nearest to the middle first
    browser.find("input[type=search]").send_keys("9.")
    assert browser.run(f"return {NAMES}") == ["some/00119.png"]
    browser.check()


def test_a_rewritten_page_shows_the_new_images(browser: Browser, serve) -> None:
    page = write(1)
    address = f"{serve(FOLDER)}/index.html"
    made = [path for path in FOLDER.rglob("*.png") if path.parent != FOLDER]
    for path in made:
        os.utime(path, (time.time() - 36000,) * 2)  # browsers then keep it for an hour
    sides = "[...document.querySelectorAll('.card img')].map((image) => image.naturalWidth)"
    browser.open(address)
    browser.until(f"{sides}.join() === '16,16,16'")
    for path in [*made, *FOLDER.glob("*.png")]:
        path.unlink(missing_ok=True)
    write(1)
    for path in made:
        path.unlink()
        Image.new("RGB", (24, 18)).save(path)
    assert page.exists()
    browser.open(address)
    browser.until(f"{sides}.join() === '24,24,24'")
    browser.check(host=address.split("/")[2])


def test_rows_can_be_enlarged_and_browsed_with_keys(browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(write(50))
    browser.until("document.querySelectorAll('.card').length === 48")
    choose(browser, "sort", "0 best")
    browser.find_all(".card button")[1].click()
    title = "document.querySelector('dialog[open] .title')?.textContent"
    browser.until(f"{title}?.startsWith('some/00049.png')")
    assert "(1 of 50)" in browser.run(f"return {title}")
    sources = "[...document.querySelectorAll('dialog img')].map((image) => image.getAttribute('src').split('?')[0])"
    assert browser.run(f"return {sources}") == [f"{kind}/some/00049.png.png" for kind in KINDS]
    browser.until("[...document.querySelectorAll('dialog img')].every((image) => image.naturalWidth === 16)")
    browser.keys(Keys.ARROW_RIGHT)
    assert browser.run(f"return {title}").startswith("some/00048.png")
    browser.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert browser.run(f"return {title}").startswith("some/00049.png")
    browser.keys(Keys.END)
    assert browser.run(f"return {title}").startswith(HOSTILE)
    browser.until("[...document.querySelectorAll('dialog img')].every((image) => image.naturalWidth === 16)")
    browser.find("dialog .bar button").click()  # before and after
    assert len(browser.find_all("dialog .compare img")) == 2
    browser.keys(Keys.ESCAPE)
    browser.until("!document.querySelector('dialog[open]')")
    assert browser.run(f"return {NAMES}") == ["some/00001.png", HOSTILE]  # the page of the last row shown
    focused = "document.activeElement.getAttribute('aria-label')"
    assert browser.run(f"return {focused}") == f"enlarge {KINDS[0]} of {HOSTILE}"  # and its image
    # On the same page nothing is rebuilt.
    card = browser.find_all(".card")[1]
    browser.keys(Keys.ENTER)
    browser.until(f"{title}?.startsWith(arguments[0])", HOSTILE)
    browser.keys(Keys.ESCAPE)
    browser.until("!document.querySelector('dialog[open]')")
    assert browser.run("return arguments[0].isConnected", card)
    assert browser.run(f"return {focused}") == f"enlarge {KINDS[0]} of {HOSTILE}"
    browser.check()


def test_before_and_after_are_compared_by_mouse_and_keys(browser: Browser) -> None:
    from io import BytesIO

    from selenium.webdriver.common.keys import Keys

    browser.open(write(3))
    browser.until("document.querySelectorAll('.card').length === 3")
    choose(browser, "show", "slider")
    browser.until("[...document.querySelectorAll('.compare img')].every((image) => image.naturalWidth)")
    assert len(browser.find_all(".compare")) == 3

    def seam(element: object) -> float:
        """The position at which the light image begins, as a fraction of the width."""
        shot = Image.open(BytesIO(element.screenshot_as_png)).convert("L")
        row = [shot.getpixel((x, shot.height - 8)) for x in range(shot.width)]
        assert set(row[4:12] + row[-12:-4]) <= {0, 100}
        return sum(value < 50 for value in row) / shot.width

    compare = browser.find(".compare")
    assert seam(compare) == pytest.approx(0.5, abs=0.03)
    width = compare.size["width"]
    browser.drag(compare, (0, 0), (width // 4, 0))
    assert seam(compare) == pytest.approx(0.75, abs=0.03)
    browser.find(".compare input").send_keys(*[Keys.ARROW_LEFT] * 20)  # by half a percent
    assert seam(compare) == pytest.approx(0.65, abs=0.03)
    assert seam(browser.find_all(".compare")[1]) == pytest.approx(0.5, abs=0.03)
    choose(browser, "after", "2")
    sources = [image.get_attribute("alt") for image in browser.find(".compare").find_elements("css selector", "img")]
    assert sources == [f"real_b of {HOSTILE}", f"real_a of {HOSTILE}"]
    browser.check()


def test_samples_have_a_row_for_each_class_and_interpolations(browser: Browser) -> None:
    from io import BytesIO

    rows = []
    for number in range(60):
        path = FOLDER / "samples" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(image(number // 30), path)
        rows.append(
            Row(name=path.stem, images={"sample": path}, size=(16, 12), label="<b>cat" if number < 30 else "dog")
        )
    canvas = Image.new("L", (4 * 10 + 2, 2 * 10 + 2))
    for row in range(2):
        for column in range(4):
            canvas.paste(10 + 60 * column + 20 * row, (2 + 10 * column, 2 + 10 * row, 10 + 10 * column, 10 + 10 * row))
    canvas.save(FOLDER / "ways.png")
    layout = {"columns": 4, "rows": 2, "width": 8, "height": 8, "gap": 2}
    interpolation = Interpolation(FOLDER / "ways.png", layout)
    grids = {"codes": image(1)}
    results_page(
        FOLDER, name="x", command="", facts={}, tables={"samples": rows}, interpolation=interpolation, images=grids
    )
    for size in (NARROW, WIDE):
        browser.open(FOLDER / "index.html", size=size)
        browser.until("document.querySelectorAll('.class').length === 2")
        browser.check()
    assert [head.text for head in browser.find_all(".class h3")] == ["<b>cat 30", "dog 30"]
    assert len(browser.find_all(".class .single")) == 60
    choose(browser, "class", "dog")
    assert [head.text for head in browser.find_all(".class h3")] == ["dog 30"]
    choose(browser, "show", "side")
    assert browser.find("[role=status]").text == "30 of 60 images"
    browser.find(".single button").click()
    browser.until("document.querySelector('dialog[open] .title')?.textContent === '00030 · class dog (1 of 30)'")
    browser.find("dialog [aria-label=close]").click()

    def shades() -> list[int]:
        shots = [Image.open(BytesIO(now.screenshot_as_png)).convert("L") for now in browser.find_all(".now")]
        return [shot.getpixel((shot.width // 2, shot.height // 2)) for shot in shots]

    slider = "document.querySelector('#interpolation input')"
    browser.run(f"{slider}.scrollIntoView()")
    browser.until("[...document.querySelectorAll('#interpolation img')].every((image) => image.naturalWidth)")
    assert shades() == pytest.approx([10, 30], abs=1)
    browser.run(f"{slider}.value = 2; {slider}.dispatchEvent(new Event('input'))")
    browser.until("[...document.querySelectorAll('#interpolation img')].every((image) => image.naturalWidth)")
    assert shades() == pytest.approx([130, 150], abs=1)
    browser.find(".grids button").click()
    browser.until("document.querySelector('dialog[open] .title')?.textContent === 'codes'")
    browser.check()


def test_of_ten_thousand_images_only_visible_ones_are_loaded(browser: Browser) -> None:
    browser.open(write(10_000))
    browser.until("document.querySelectorAll('.card').length === 48")
    browser.until("document.querySelector('.card img').naturalWidth === 16")
    asked = [address for address in browser.requests() if ".png" in address]
    assert 3 <= len(asked) <= 48 * 3
    assert browser.run("return document.querySelectorAll('*').length") < 2000
    assert browser.find("[role=status]").text == "10,000 images"
    choose(browser, "sort", "0 best")
    assert browser.run(f"return {NAMES}")[0] == "some/09999.png"
    browser.driver.execute_cdp_cmd("Performance.enable", {})
    metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    held = next(metric["value"] for metric in metrics if metric["name"] == "JSHeapUsedSize")
    assert held < 50e6
    assert sum(path.stat().st_size for path in FOLDER.glob("index*/**/*") if path.is_file()) < 3e6
    browser.check()
