"""The walk in a real browser: find a model, try it, read its receipt, publish one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.journeys.chromium import MARKS, clean_pages
from tests.journeys.market import CALLER, Market, fresh_name, tar_of

TEXT = "Bees dance. The dance tells where flowers are. Others follow it."
RECEIPT = re.compile(r"/receipts/[0-9a-f-]{36}$")
pytestmark = MARKS

Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, market: Market) -> Iterator[Open]:
    """Opens a page of its own; the test fails when one had an error of script, network or CSP."""
    errors: list[str] = []

    def miss(request: Request) -> None:
        # Leaving a page ends what it still loads.
        if request.failure != "net::ERR_ABORTED":
            errors.append(f"{request.url}: {request.failure}")

    with clean_pages(browser, market, errors, refusals="401") as opened:

        def open_page(*, scripts: bool = True, width: int = 1280) -> Page:
            page = opened(scripts=scripts, width=width)
            page.on("requestfailed", miss)
            return page

        yield open_page


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_from_the_lists_to_a_receipt(open_page: Open, scripts: bool) -> None:
    page = open_page(scripts=scripts)
    page.goto("/models/featured")
    expect(page.get_by_role("heading", level=1)).to_have_text("Featured models")
    # Other stories' models may fill what this page shows of a shelf: the whole one has all.
    page.locator('a.see-all[href="/collections/agent-compatible"]').click()
    page.get_by_role("link", name="summarizer-v1", exact=True).first.click()
    expect(page).to_have_url(re.compile(r"/models/summarizer-v1"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("summarizer-v1")

    page.get_by_role("link", name=re.compile("Try it", re.IGNORECASE)).first.click()
    page.get_by_role("textbox", name=re.compile("^Text")).fill(TEXT)
    page.get_by_role("textbox", name=re.compile("^Sentences")).fill("1")
    page.get_by_role("button", name="Call summarizer-v1").click()

    answer = page.locator("#answer")
    expect(answer.locator("#answer-document")).to_be_visible()
    document = json.loads(answer.locator("#answer-document").inner_text())
    assert len(document["sentences"]) == 1
    assert document["summary"] in TEXT
    readouts = answer.locator(".readout")
    expect(readouts.nth(0)).to_contain_text("latency")
    expect(readouts.nth(1)).to_contain_text("fee")
    expect(readouts.nth(2)).to_contain_text("sandbox")
    # What was typed is still there, to be changed and sent again.
    expect(page.get_by_role("textbox", name=re.compile("^Text"))).to_have_value(TEXT)

    link = answer.get_by_role("link", name=re.compile("^[0-9a-f-]{36}$"))
    receipt = link.inner_text()
    link.click()
    expect(page).to_have_url(RECEIPT)
    assert page.url.endswith(receipt)
    expect(page.get_by_role("heading", level=1)).to_have_text("Receipt")
    expect(page.locator("main")).to_contain_text("Served")
    expect(page.locator("main")).to_contain_text("summarizer-v1@1.0.0")


def names_of(page: Page) -> list[str]:
    return page.locator(".row-title h2").all_inner_texts()


def test_search_and_facets_live_in_the_address(open_page: Open) -> None:
    page = open_page()
    page.goto("/models")
    page.locator("#search").fill("language")
    page.wait_for_url("**/models?q=language")
    expect(page.locator(".row-title h2").first).to_have_text("language-id-v1")
    page.locator('a.facet-value[href*="task=language-identification"]').click()
    page.wait_for_url(re.compile(r"task=language-identification"))
    expect(page.locator("a.facet-value[aria-current=true]")).to_have_count(1)
    expect(page.locator("a.chip")).to_have_count(2)
    found, address = names_of(page), page.url
    assert "language-id-v1" in found
    assert "q=language" in address

    page.reload()
    assert (names_of(page), page.url) == (found, address)
    expect(page.locator("#search")).to_have_value("language")

    page.get_by_role("link", name=re.compile("^Remove task")).click()
    page.wait_for_url("**/models?q=language")
    page.go_back()
    page.wait_for_url(address)
    expect(page.locator("a.chip")).to_have_count(2)


def test_search_and_facets_without_scripts(open_page: Open) -> None:
    page = open_page(scripts=False)
    page.goto("/models")
    page.locator("#search").fill("language")
    page.locator("#search").press("Enter")
    expect(page).to_have_url(re.compile(r"/models\?q=language"))
    page.locator('a.facet-value[href*="task=language-identification"]').click()
    expect(page).to_have_url(re.compile(r"task=language-identification"))
    assert "language-id-v1" in names_of(page)


def test_a_paid_model_is_tried_with_a_token_and_refuses_without(
    open_page: Open, market: Market
) -> None:
    token = market.token(CALLER, "invoke")
    page = open_page(scripts=False)
    page.goto("/models/language-id-v1?tab=try-it")
    page.get_by_role("textbox", name=re.compile("^Text")).fill("Guten Morgen")
    page.get_by_role("button", name="Call language-id-v1").click()
    expect(page.locator("#answer")).to_contain_text("401")
    expect(page.locator("#answer")).to_contain_text("Nothing was charged.")
    page.get_by_role("textbox", name=re.compile("^Token")).fill(token)
    page.get_by_role("button", name="Call language-id-v1").click()
    expect(page.locator("#answer-document")).to_contain_text('"language": "de"')
    expect(page.locator("#answer .readout").nth(1)).to_contain_text("0.01 IFM")
    assert token not in page.content()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/models",
        "/models?q=nothing-like-this",
        "/models/featured",
        "/models/summarizer-v1",
        "/models/summarizer-v1?tab=try-it",
        "/models/filetype-v1?tab=api",
        "/models/filetype-v1?tab=diagnostics",
        "/models/filetype-v1?tab=evidence",
        "/models/filetype-v1?tab=versions",
        "/collections/agent-compatible",
        "/publish",
        "/nodes",
    ],
)
def test_nothing_scrolls_sideways_on_a_phone(open_page: Open, path: str) -> None:
    page = open_page(width=390)
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_api_reference_works_under_our_content_policy(open_page: Open) -> None:
    page = open_page()
    page.goto("/api/docs/")
    expect(page.get_by_text("InfraMind Model Marketplace").first).to_be_visible()
    expect(page.locator(".opblock").first).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_package_is_published_from_the_page(
    open_page: Open, market: Market, tmp_path: Path, scripts: bool
) -> None:
    name = fresh_name("filetype")
    package = tar_of(market.package("filetype-v1", name, tmp_path), tmp_path / "model.tar")
    page = open_page(scripts=scripts)
    page.goto("/publish")
    page.get_by_role("textbox", name=re.compile("^Token")).fill(market.publisher_token)
    page.get_by_label("Package").set_input_files(package)
    page.get_by_role("button", name="Publish package").click()
    panel = page.locator("#registered")
    expect(panel).to_contain_text("Registered")
    expect(panel).to_contain_text(name)
    cid = market.await_state(name)["cid"]
    page.goto(f"/models/{name}?tab=evidence")
    expect(page.locator("main")).to_contain_text("Examples give their golden outputs")
    assert cid in page.content()
