"""Browsers of Debian, driven alike: Chromium, Firefox and WebKit (the engine of Apple's).

Chromium is there wherever the page is tested. The others are tried where somebody has
installed them: apt-get install firefox-esr webkit2gtk-driver xvfb; pip install selenium.
"""

import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import sync_playwright

from tests.services import require_program

__all__ = ["BROWSERS", "Window", "opened"]

CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
MINI_BROWSER = "/usr/lib/{}-linux-gnu/webkit2gtk-4.1/MiniBrowser"
FIREFOX_SETTINGS = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
    "toolkit.telemetry.enabled": False,
}


class Window(Protocol):
    """One tab."""

    def go(self, address: str) -> None:
        """Open a page."""

    def run(self, script: str) -> Any:
        """Return what a script returns (the body of a function)."""

    def press(self, selector: str) -> None:
        """Click, as a person does."""


@contextmanager
def _chromium(folder: Path) -> Iterator[Window]:
    del folder

    class Tab:
        def go(self, address: str) -> None:
            page.goto(address, wait_until="domcontentloaded")

        def run(self, script: str) -> Any:
            return page.evaluate(f"() => {{ {script} }}")

        def press(self, selector: str) -> None:
            page.click(selector)

    program = require_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        page = browser.new_page()
        yield Tab()
        browser.close()


@contextmanager
def _webkit(folder: Path) -> Iterator[Window]:
    driver, display = _installed("WebKitWebDriver"), _installed("Xvfb")
    webdriver = pytest.importorskip("selenium.webdriver")
    read, write = os.pipe()
    screen = subprocess.Popen(
        [display, "-displayfd", str(write), "-screen", "0", "1280x1024x24"],
        pass_fds=[write], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    try:
        with os.fdopen(read) as numbers, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISPLAY", f":{numbers.readline().strip()}")
            patch.setenv("WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS", "1")
            patch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
            patch.setenv("XDG_RUNTIME_DIR", str(folder))
            options = webdriver.WebKitGTKOptions()
            options.binary_location = MINI_BROWSER.format(os.uname().machine)
            options.add_argument("--automation")
            service = webdriver.webkitgtk.service.Service(driver)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of selenium itself
                browser = webdriver.WebKitGTK(options=options, service=service)

            class Tab:
                def go(self, address: str) -> None:
                    browser.get(address)

                def run(self, script: str) -> Any:
                    return browser.execute_script(script)

                def press(self, selector: str) -> None:
                    browser.find_element("css selector", selector).click()

            try:
                yield Tab()
            finally:
                browser.quit()
    finally:
        screen.terminate()
        screen.wait()


@contextmanager
def _firefox(folder: Path) -> Iterator[Window]:
    """Speak with Firefox itself: Debian has no driver for it."""
    program = _installed("firefox-esr")
    websocket = pytest.importorskip("websocket")
    lines = (
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
        for name, value in FIREFOX_SETTINGS.items()
    )
    (folder / "user.js").write_text("".join(lines))
    process = subprocess.Popen(
        [program, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        found = (re.search(r"ws://127\.0\.0\.1:\d+", line) for line in process.stderr)
        place = next(one[0] for one in found if one)
        line = websocket.create_connection(f"{place}/session", timeout=60, suppress_origin=True)
        tab = _Bidi(line)
        yield tab
        tab.close()
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


class _Bidi:
    """A tab of a browser that speaks WebDriver BiDi."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self._number = 0
        self._say("session.new", capabilities={})
        self._tab = self._say("browsingContext.create", type="tab")["context"]

    def _say(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        self._line.send(json.dumps(order))
        while (answer := json.loads(self._line.recv())).get("id") != self._number:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]

    def go(self, address: str) -> None:
        self._say("browsingContext.navigate", context=self._tab, url=address, wait="interactive")

    def run(self, script: str) -> Any:
        answer = self._say(
            "script.evaluate",
            expression=f"JSON.stringify((() => {{ {script} }})())",
            target={"context": self._tab},
            awaitPromise=False,
            userActivation=True,
        )
        assert answer["type"] == "success", answer
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    def press(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def close(self) -> None:
        self._line.close()


def _installed(name: str) -> str:
    """Return the path of a program, or skip: CI has Chromium only."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


BROWSERS = {"chromium": _chromium, "firefox": _firefox, "webkit": _webkit}


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Window]:
    """Provide a tab of a browser that has a folder for itself; skip where it is missing."""
    with BROWSERS[name](folder) as window:
        yield window
