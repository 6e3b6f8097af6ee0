"""The account in a real browser: sign in, make and use a token, end what should end."""

from __future__ import annotations

import re
import time
from base64 import b32decode
from collections.abc import Callable, Iterator

import httpx
import pytest
from django_otp.oath import TOTP
from playwright.sync_api import Browser, Page, expect

from tests.inframind.identity.signing import Signer
from tests.journeys.chromium import MARKS, clean_pages
from tests.journeys.market import Market

TEXT = {"text": "Bees dance. The dance tells where flowers are. Others follow it."}
TOKEN = re.compile(r"infra_[0-9A-Za-z]{40,}\Z")
REVOKED_WITHIN_SECONDS = 5
pytestmark = MARKS

SignIn = Callable[..., Page]


@pytest.fixture
def sign_in(browser: Browser, market: Market) -> Iterator[SignIn]:
    """A browser that signed in by hand; the test fails when a page had an error of script."""
    with clean_pages(browser, market, [], refusals="4") as opened:

        def sign_in(signer: Signer, *, scripts: bool = True, width: int = 1280) -> Page:
            page = opened(scripts=scripts, width=width)
            page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=market.url)
            page.goto(f"/signin?address={signer.address}&next=/account")
            message = page.locator("#message-text").text_content() or ""
            page.locator("#signature").fill(signer.sign(message))
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.wait_for_url("**/account")
            return page

        yield sign_in


def status_of(market: Market, token: str) -> int:
    answer = httpx.post(
        f"{market.url}/inference/v1/summarizer-v1",
        json=TEXT,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    return answer.status_code


def made_on(page: Page, name: str) -> str:
    """Makes a token by the form; what the page shows once."""
    page.goto("/account")
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_role("link", name="Make a token").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label(re.compile("^Call models")).check()
    page.get_by_label("Models named").fill("summarizer-v1")
    page.get_by_label("Call limit").fill("10")
    page.get_by_role("button", name="Make token").click()
    expect(page.locator("#made")).to_contain_text("This is the only time that it is shown.")
    return page.locator("#made").get_by_label("the token", exact=True).inner_text().strip()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_token_is_made_used_and_revoked(sign_in: SignIn, market: Market, scripts: bool) -> None:
    page = sign_in(Signer.fresh(), scripts=scripts)
    token = made_on(page, "night batch")
    assert TOKEN.match(token)
    if scripts:
        expect(page).to_have_url(re.compile(r"/account/tokens$"))
        page.get_by_role("button", name="Copy the token").click()
        assert page.evaluate("navigator.clipboard.readText()") == token
        page.get_by_role("button", name="Copy export line").click()
        assert page.evaluate("navigator.clipboard.readText()") == f"export INFRA_TOKEN={token}"
    assert status_of(market, token) == 200

    page.goto("/account/tokens")
    assert token not in page.content()
    row = page.locator(".token", has_text="night batch")
    expect(row).to_contain_text("1 of 10")
    page.get_by_role("link", name="Revoke night batch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Revoke night batch")
    page.get_by_role("button", name="Revoke token").click()
    expect(page.locator(".notice")).to_contain_text("night batch is revoked")
    expect(page).to_have_url(re.compile(r"/account/tokens$"))
    deadline = time.monotonic() + REVOKED_WITHIN_SECONDS
    while status_of(market, token) != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_keyboard_goes_on_where_something_happened(sign_in: SignIn) -> None:
    page = sign_in(Signer.fresh(), width=390)
    page.goto("/account/tokens")
    page.get_by_role("link", name="Make a token").press("Enter")
    expect(page.get_by_role("heading", level=1, name="Make a token")).to_be_focused()
    page.get_by_label("Name", exact=True).fill("night batch")
    page.get_by_label(re.compile("^Call models")).check()
    page.get_by_label("Call limit").fill("10")
    page.get_by_role("button", name="Make token").press("Enter")
    expect(page.locator("#announce")).to_contain_text("No token was made.")
    expect(page.get_by_label("Models named")).to_be_focused()
    page.get_by_label("Models named").fill("summarizer-v1")
    page.get_by_role("button", name="Make token").press("Enter")
    expect(page.locator("#made")).to_be_focused()
    expect(page.locator("#made-title")).to_be_in_viewport()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_another_session_is_ended(sign_in: SignIn, scripts: bool) -> None:
    signer = Signer.fresh()
    here, there = sign_in(signer, scripts=scripts), sign_in(signer, width=390)
    here.goto("/account/sessions")
    expect(here.locator(".place")).to_have_count(2)
    expect(here.locator(".place[aria-current=true]")).to_contain_text("this browser")
    here.locator(".place:not([aria-current])").get_by_role("button").click()
    expect(here.locator(".notice")).to_contain_text("Signed out there.")
    expect(here.locator(".place")).to_have_count(1)
    there.goto("/account")
    expect(there).to_have_url(re.compile(r"/signin\?next="))
    here.goto("/account")
    expect(here.get_by_role("heading", level=1)).to_have_text("Account")


def test_the_tabs_are_addresses_that_back_and_reload_keep(sign_in: SignIn) -> None:
    page = sign_in(Signer.fresh())
    page.get_by_role("link", name="Sessions", exact=True).click()
    page.wait_for_url("**/account/sessions")
    expect(page).to_have_title(re.compile("^Sessions"))
    page.get_by_role("link", name="Second factor", exact=True).click()
    page.wait_for_url("**/account/second-factor")
    expect(page.locator("svg.qr")).to_be_visible()
    page.go_back()
    page.wait_for_url("**/account/sessions")
    expect(page.locator(".place")).to_have_count(1)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")


@pytest.mark.parametrize(
    "path",
    ["/account", "/account/tokens", "/account/tokens/new", "/account/sessions",
     "/account/second-factor"],
)  # fmt: skip
def test_nothing_scrolls_sideways_on_a_phone(sign_in: SignIn, path: str) -> None:
    page = sign_in(Signer.fresh(), width=390)
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_staff_enter_the_portal_with_wallet_and_app(sign_in: SignIn, market: Market) -> None:
    signer = Signer.fresh()
    page = sign_in(signer)
    page.goto("/admin/")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing at this address")
    assert market.manage("grant_staff", "--wallet", signer.address).status == 0
    page.goto("/admin/")
    expect(page).to_have_url(re.compile(r"/account/second-factor\?next=%2Fadmin%2F"))
    secret = page.get_by_label("secret", exact=True).inner_text().replace(" ", "")
    app = TOTP(b32decode(secret))
    app.time = time.time()
    page.get_by_label("Code", exact=True).fill(f"{app.token():06d}")
    page.get_by_role("button", name="Confirm the app").click()
    expect(page.locator(".codes li")).to_have_count(10)
    recovery = page.locator(".codes li").first.inner_text()
    page.get_by_role("link", name="I have kept them: go on").click()
    expect(page.get_by_role("heading", name="Admin portal")).to_be_visible()

    other = sign_in(signer)
    other.goto("/admin/catalog/model/")
    expect(other).to_have_url(re.compile(r"/account/verify\?next="))
    other.get_by_label("Code", exact=True).fill(recovery)
    other.get_by_role("button", name="Go on").click()
    expect(other).to_have_url(re.compile(r"/admin/catalog/model/$"))
    assert market.manage("grant_staff", "--wallet", signer.address, "--revoke").status == 0
    other.reload()
    expect(other.get_by_role("heading", level=1)).to_have_text("There is nothing at this address")
