"""A real browser for tests: Debian's Chromium, driven by selenium, which can reach no host but this one.

Without it these tests skip; with ``GANTRAIN_REQUIRE_BROWSER`` set, they fail instead.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from needs import missing, needs

WIDE, NARROW = (1600, 1200), (400, 800)
# The seconds between the updates of a page are twentieths of seconds.
FAST = """const later = setTimeout;
window.setTimeout = (act, delay, ...more) => later(act, delay > 1000 ? delay / 20 : delay, ...more);"""


class Browser:
    """One window, which records requests and console messages.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path | str, *, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        """Open a page from disk, or by its address."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get("about:blank")
        self.messages()
        self.requests()
        self.driver.get(page if isinstance(page, str) else f"file://{quote(os.fsencode(page.resolve()))}")

    def run(self, script: str, *arguments: Any) -> Any:
        """The result of a script, after pending events."""
        self.settle()
        return self.driver.execute_script(script, *arguments)

    def settle(self) -> None:
        """Wait for pending events, such as that of a dialog that was closed."""
        self.driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => setTimeout(done))")

    def until(self, condition: str, *arguments: Any) -> Any:
        """Wait until an expression is true; its value. The timeout suits a slow machine."""
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, 60, poll_frequency=0.05)
        return wait.until(lambda driver: driver.execute_script(f"return {condition}", *arguments), condition)

    def loaded(self) -> None:
        """Wait until all images have loaded, those that load lazily too; call it before files are removed."""
        self.until("[...document.images].every((image) => image.complete || !image.src)")

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector."""
        from selenium.webdriver.common.by import By

        self.settle()
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[Any]:
        """Every element of a CSS selector."""
        from selenium.webdriver.common.by import By

        self.settle()
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def keys(self, *keys: str) -> None:
        """Send keys to the focused element."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def drag(self, element: Any, start: tuple[int, int], by: tuple[int, int]) -> None:
        """Drag with the mouse from a position in an element, relative to its centre."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=0).move_to_element_with_offset(element, *start).click_and_hold()
        chain.move_by_offset(by[0] // 2, by[1] // 2).move_by_offset(by[0] - by[0] // 2, by[1] - by[1] // 2)
        chain.release().perform()

    def messages(self) -> list[str]:
        """Console messages since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Requested addresses since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def check(self, *, host: str = "") -> None:
        """Check that there are no console messages, broken images, requests to other hosts or sideways scrolling."""
        self.until("document.readyState === 'complete'")
        self.until("[...document.images].every((image) => image.complete || image.loading === 'lazy')")
        broken = "[...document.images].filter((image) => image.complete && !image.naturalWidth && image.src)"
        assert self.run(f"return {broken}.map((image) => image.src)") == []
        assert self.messages() == []
        for address in self.requests():
            assert urlsplit(address).scheme in ("file", "http", "data", "about", "blob"), address
            assert urlsplit(address).netloc == host or urlsplit(address).scheme in ("data", "about", "blob"), address
        sides = self.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert sides[0] <= sides[1]


@pytest.fixture(scope="session")
def _window() -> Iterator[Browser]:
    needs("selenium")
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException

    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if absent := [name for name, path in programs.items() if path is None]:
        missing(f"{' and '.join(absent)} not found (apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    flags = ["headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars", "no-first-run"]
    flags += ["host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "disable-background-networking"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs["chromedriver"])))
    except WebDriverException as error:
        missing(f"Chromium does not start: {str(error).splitlines()[0]}")
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FAST})
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(_window: Browser) -> Browser:
    """The one window of this process."""
    return _window


@pytest.fixture
def serve() -> Iterator[Any]:
    """``serve(folder)`` serves a folder on this machine and returns the address."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    def start(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
