"""A headless Chromium for tests of pages: what it asked for, and what it complained of."""

import json
import shutil
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: pages are not tried in a browser")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1200")


class Browser:
    """Opens pages and keeps account; use it in a ``with`` statement."""

    def __init__(self) -> None:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        driver = shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("no chromium and chromium-driver here (Debian has both): pages are not tried in a browser")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()

    def open(self, address: str) -> None:
        self.driver.get_log("performance")
        self.driver.get(address)

    def find(self, selector: str) -> list[WebElement]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, selector: str, seconds: float = 20) -> WebElement:
        """Wait for an element that can be seen."""
        return WebDriverWait(self.driver, seconds).until(
            lambda _: next((e for e in self.find(selector) if e.is_displayed()), False)
        )

    def complaints(self) -> list[str]:
        """What the console says, errors and warnings."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> set[str]:
        """Scheme and host of every request since the page was opened, those that were refused too."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert urls
        return {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in urls}
