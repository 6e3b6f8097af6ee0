"""A real Chromium for the stories, and an ear for what goes wrong in its pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.journeys.market import Market

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MARKS = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
]
TIMEOUT_MS = 15_000


@contextmanager
def clean_pages(
    browser: Browser, market: Market, errors: list[str], *, refusals: str
) -> Iterator[Callable[..., Page]]:
    """Opens pages, each in a context of its own. Raises AssertionError at the end when one had an
    error of script or CSP, or one that the test put into ``errors``.

    A page or form that is refused is reported by the browser too: those whose status begins with
    ``refusals`` are what such a test asks for.
    """

    def hear(message: ConsoleMessage) -> None:
        refused = f"the server responded with a status of {refusals}" in message.text
        if message.type in {"error", "warning"} and not refused:
            errors.append(f"{message.text} ({message.location})")

    def open_page(*, scripts: bool = True, width: int = 1280) -> Page:
        context = browser.new_context(
            base_url=market.url,
            java_script_enabled=scripts,
            viewport={"width": width, "height": 900},
        )
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert errors == []
