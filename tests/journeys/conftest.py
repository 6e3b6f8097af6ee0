"""The marketplace that the stories happen in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.journeys.chromium import CHROMIUM, FLAGS
from tests.journeys.market import Market


@pytest.fixture(scope="session")
def market() -> Market:
    """Running and stocked with three real models; shared by every worker of the run."""
    return Market.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
