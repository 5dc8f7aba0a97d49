"""Debian's Chromium, driven by a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.services import require_program
from tests.web.browsers import CHROMIUM

PHONE = ViewportSize(width=360, height=780)
DESK = ViewportSize(width=1280, height=900)
PATIENCE_MS = 60_000
"""How long anything may take, on a busy machine."""

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it; without a window."""
    program = require_program("chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield started
        started.close()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """Provide a page of a new window; fail if something goes wrong in it."""
    context = browser.new_context(base_url=address, **{"viewport": DESK, **options})
    context.set_default_timeout(PATIENCE_MS)
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None,
    )
    try:
        yield page
    finally:
        context.close()
    assert wrong == []
