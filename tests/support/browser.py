"""A headless Chromium: open pages, wait for what they show, press keys, read its console."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
WIDE = (1360, 900)
NARROW = (390, 844)

_SETTLE = """
const [text, within, done] = arguments;
const look = new Function("q", "qq", `return (${text});`);
const q = (css) => document.querySelector(css);
const qq = (css) => [...document.querySelectorAll(css)];
const until = performance.now() + within * 1000;
const turn = () => {
  let found = null;
  try { found = look(q, qq); } catch (error) { found = null; }
  if (found) done([found, performance.timeOrigin + performance.now()]);
  else if (performance.now() > until) done([null, 0]);
  else setTimeout(turn, 10);
};
turn();
"""


class Browser:
    """Own one browser and its driver."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for word in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--hide-scrollbars", f"--user-data-dir={self._home.name}",
            "--disable-component-update", "--disable-background-networking", "--no-first-run",
        ):  # fmt: skip
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self._driver.set_script_timeout(60)
        self.be(WIDE)

    def close(self) -> None:
        """End the browser, and forget what it wrote."""
        self._driver.quit()
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def be(self, size: tuple[int, int], colours: str = "light") -> None:
        """Be of this size, in light or dark."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        metrics["mobile"] = size[0] < 500
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = [{"name": "prefers-color-scheme", "value": colours}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def open(self, url: str) -> None:
        """Open a page."""
        self._driver.get(url)

    def forget(self) -> None:
        """Forget the tokens and the choices of this tab."""
        self.run("sessionStorage.clear(); localStorage.clear()")

    def run(self, script: str, *args: Any) -> Any:
        """Run a script in the page; return what it returns."""
        return self._driver.execute_script(script, *args)

    def wait(self, script: str, *args: Any) -> Any:
        """Run a script that calls its last argument when it is done."""
        return self._driver.execute_async_script(script, *args)

    def until(self, condition: str, within: float = 15) -> Any:
        """Wait until an expression is true, and return it; `q` and `qq` find elements."""
        return self.seen(condition, within)[0]

    def seen(self, condition: str, within: float = 15) -> tuple[Any, float]:
        """Return also when it became true, in Unix seconds."""
        value, at = self.wait(_SETTLE, condition, within)
        if value is None:
            shown = self.run("return document.body.innerText")[:2000]
            raise AssertionError(f"never: {condition}\n{shown}\n{self.complaints()}")
        return value, at / 1000

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            named = getattr(Keys, key, key) if len(key) > 1 else key
            ActionChains(self._driver, duration=0).send_keys(named).perform()

    def click(self, css: str) -> None:
        """Click on what this finds first, as a person would."""
        self._driver.find_element("css selector", css).click()

    def complaints(self) -> list[str]:
        """Return what the console has told since it was last asked: errors and warnings."""
        return [
            entry["message"]
            for entry in self._driver.get_log("browser")
            if entry["level"] in {"SEVERE", "WARNING"}
        ]

    def screenshot(self, path: Path) -> None:
        """Write what is seen."""
        self._driver.save_screenshot(str(path))


def quoted(text: str) -> str:
    """Write a text as a literal of JavaScript."""
    return json.dumps(text)
