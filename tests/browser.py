"""A real browser for pages: Debian's Chromium without a window, on files, with the network off.

Where there is none, tests that ask for it are skipped; with ``GANTRAIN_REQUIRE_BROWSER=1`` they fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-breakpad")
# every name leads nowhere, so that a page that asks for anything outside shows it and gets nothing
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--no-first-run")
WAIT = 60  # seconds for a page, on a machine that is busy


class Page:
    """What a page has become in the browser.

    Attributes:
        driver: selenium's, on the page.
        errors: What the console shows as an error.
        requested: The addresses that were asked for, the page's own first.
    """

    def __init__(self, driver: Any, errors: list[str], requested: list[str]) -> None:
        self.driver = driver
        self.errors = errors
        self.requested = requested

    @property
    def text(self) -> str:
        """What can be read."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def run(self, script: str) -> Any:
        """What a script of the test's returns."""
        return self.driver.execute_script(script)

    @property
    def broken_pictures(self) -> list[str]:
        """Addresses of pictures that are not shown."""
        return list(
            self.run(
                "document.querySelectorAll('img').forEach(img => img.loading = 'eager');"
                "return [...document.images].filter(img => img.complete && !img.naturalWidth).map(img => img.src)"
            )
        )


class Browser:
    """Opens pages."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, path: Path) -> Page:
        """A page from the disk, loaded."""
        self._driver.get("about:blank")
        for log in ("browser", "performance"):
            self._driver.get_log(log)  # which forgets what it has told
        self._driver.get(path.resolve().as_uri())
        errors = [str(entry["message"]) for entry in self._driver.get_log("browser") if entry["level"] == "SEVERE"]
        events = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return Page(self._driver, errors, [url for url in sent if not url.startswith("data:")])


def missing(reason: str) -> None:
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get("GANTRAIN_REQUIRE_BROWSER") == "1":
        pytest.fail(f"GANTRAIN_REQUIRE_BROWSER=1, and {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for each worker that has a test with a page, ended with it."""
    try:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
    except ImportError:
        missing("selenium is not installed (pip install selenium)")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    absent = [name for name, path in programs.items() if path is None]
    if absent:
        missing(f"there is no {' and no '.join(absent)} (apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for flag in (*FLAGS, *OFFLINE, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs["chromedriver"])))
    except WebDriverException as error:
        missing(f"Chromium does not start: {str(error).splitlines()[0]}")
    try:
        driver.set_page_load_timeout(WAIT)
        yield Browser(driver)
    finally:
        driver.quit()
