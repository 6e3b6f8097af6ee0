"""Signing in with a wallet, in a real browser: with one that announces itself, with an older one,
and with none and no scripts at all."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from playwright.sync_api import Browser, Page, expect

from tests.journeys.chromium import MARKS, clean_pages
from tests.journeys.market import Market

pytestmark = MARKS
# A wallet as extensions put it into a page: it asks the test, which holds the key.
WALLET = """
({ uuid, name, rdns, icon, older }) => {
  const listeners = {};
  const provider = {
    on: (event, hear) => (listeners[event] ||= []).push(hear),
    request: async ({ method, params }) => {
      const [kind, value] = await window.askWallet(uuid, method, params || []);
      if (kind === "error") throw Object.assign(new Error(value.message), { code: value.code });
      return value;
    },
  };
  window.changeAccount = (address) => {
    for (const hear of listeners.accountsChanged || []) hear([address]);
  };
  if (older) { window.ethereum = provider; return; }
  const detail = Object.freeze({ info: Object.freeze({ uuid, name, rdns, icon }), provider });
  const announce = () =>
    window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
}
"""
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'%3E"
    "%3Crect width='9' height='9' fill='teal'/%3E%3C/svg%3E"
)
REFUSED = ("error", {"code": 4001, "message": "User rejected the request."})


class Wallet:
    """A wallet with a real key, and moods: ``mood`` may answer a method in its stead."""

    def __init__(self, name: str = "Test Wallet", *, older: bool = False) -> None:
        self.name = name
        self.older = older
        self.uuid = secrets.token_hex(16)
        self.account = Account.create()
        self.chain_id = 31_337
        self.mood: Callable[[str], tuple[str, Any] | None] = lambda method: None
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return str(self.account.address)

    def answer(self, method: str, params: list[Any]) -> tuple[str, Any]:
        self.asked.append(method)
        moody = self.mood(method)
        if moody is not None:
            return moody
        if method == "eth_requestAccounts":
            return "value", [self.address.lower()]
        if method == "eth_chainId":
            return "value", hex(self.chain_id)
        assert method == "personal_sign"
        message, address = params
        assert address.lower() == self.address.lower()
        return "value", self.sign(bytes.fromhex(message[2:]).decode())

    def sign(self, text: str) -> str:
        signed = Account.sign_message(encode_defunct(text=text), self.account.key)
        return str(signed.signature.to_0x_hex())


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, market: Market) -> Iterator[Open]:
    """Opens a page of its own, with these wallets in it; errors of script or CSP fail the test."""
    with clean_pages(browser, market, [], refusals="4") as opened:

        def open_page(*wallets: Wallet, scripts: bool = True, width: int = 1280) -> Page:
            page = opened(scripts=scripts, width=width)
            by_id = {wallet.uuid: wallet for wallet in wallets}
            page.expose_function(
                "askWallet", lambda uuid, method, params: by_id[uuid].answer(method, params)
            )
            for wallet in wallets:
                described = {
                    "uuid": wallet.uuid,
                    "name": wallet.name,
                    "rdns": f"example.{wallet.name.replace(' ', '-').lower()}",
                    "icon": ICON,
                    "older": wallet.older,
                }
                page.add_init_script(f"({WALLET})({json.dumps(described)})")
            return page

        yield open_page


def expect_signed_in(page: Page, address: str) -> None:
    expect(page.locator(f'.wallet-link[title="{address}"]')).to_be_visible()


def in_a_terminal(command: str, wallet: Wallet, market: Market) -> str:
    """What the block of the page prints where the ``infra`` command is at home."""
    home = Path(market.folder) / "no-config"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "INFRA_URL": market.url,
            "INFRA_PRIVATE_KEY": wallet.account.key.to_0x_hex(),
            **{f"XDG_{kind}_HOME": str(home) for kind in ("CONFIG", "DATA", "STATE")},
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def says(page: Page) -> Any:
    return page.locator("[data-says]")


def test_a_wallet_that_announces_itself_signs_in(open_page: Open) -> None:
    wallet, other = Wallet("Test Wallet"), Wallet("Another Wallet")
    page = open_page(wallet, other)
    page.goto("/nodes")
    page.get_by_role("link", name="Sign in").click()
    choices = page.locator(".wallet-choice")
    expect(choices).to_have_text(["Test Wallet", "Another Wallet"])
    assert choices.first.locator("img").get_attribute("src") == ICON
    page.get_by_role("button", name="Test Wallet").click()
    expect(page.locator("#message-text")).to_contain_text(wallet.address)
    expect(page.locator("main")).to_contain_text("Signing is free")
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(page).to_have_url(re.compile(r"/nodes$"))
    expect_signed_in(page, wallet.address)
    assert wallet.asked.count("personal_sign") == 1
    assert other.asked == []

    page.get_by_label("Wallet menu").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator(".header").get_by_role("link", name="Sign in")).to_be_visible()


def test_an_older_wallet_signs_in_too(open_page: Open) -> None:
    wallet = Wallet(older=True)
    page = open_page(wallet)
    page.goto("/signin?next=/nodes")
    page.get_by_role("button", name="Browser wallet").click()
    page.get_by_role("button", name="Sign with Browser wallet").click()
    expect(page).to_have_url(re.compile(r"/nodes$"))
    expect_signed_in(page, wallet.address)


def test_a_browser_without_a_wallet_is_told_so(open_page: Open) -> None:
    page = open_page()
    page.goto("/signin")
    expect(page.locator("[data-no-wallet]")).to_contain_text("This browser has no wallet")
    expect(page.get_by_role("textbox", name="Address")).to_be_visible()


def test_a_refusal_is_said_calmly_and_can_be_thought_over(open_page: Open) -> None:
    wallet = Wallet()
    page = open_page(wallet)
    wallet.mood = lambda method: REFUSED if method == "eth_requestAccounts" else None
    page.goto("/signin?next=/nodes")
    page.get_by_role("button", name="Test Wallet").click()
    expect(says(page)).to_contain_text("You declined in Test Wallet. Nothing was signed.")
    wallet.mood = lambda method: REFUSED if method == "personal_sign" else None
    page.get_by_role("button", name="Test Wallet").click()
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(says(page)).to_contain_text("You declined in Test Wallet. Nothing was signed.")
    wallet.mood = lambda method: None
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect_signed_in(page, wallet.address)


def test_another_account_or_chain_is_said_calmly(open_page: Open) -> None:
    wallet, later = Wallet(), Account.create()
    page = open_page(wallet)
    page.goto("/signin?next=/nodes")
    page.get_by_role("button", name="Test Wallet").click()
    expect(page.locator("#message-text")).to_contain_text(wallet.address)
    first, wallet.account = wallet.account, later
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(says(page)).to_contain_text(f"this message is for {first.address[:6]}")
    page.evaluate("address => window.changeAccount(address)", later.address)
    expect(says(page)).to_contain_text(f"Test Wallet changed to {later.address[:6]}")
    says(page).get_by_role("link").click()
    expect(page.locator("#message-text")).to_contain_text(later.address)
    # A signature is the same on every chain; the reader is told why a wallet may wonder.
    wallet.chain_id = 1
    page.evaluate("() => { window.heard = []; }")
    page.evaluate(
        "() => new MutationObserver(() => window.heard.push("
        "document.querySelector('[data-says]').textContent)).observe("
        "document.querySelector('[data-says]'), { childList: true, subtree: true })"
    )
    wallet.mood = lambda method: REFUSED if method == "personal_sign" else None
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(says(page)).to_contain_text("You declined")
    heard = " ".join(page.evaluate("window.heard"))
    assert "Test Wallet is on chain 1; this registry is on chain 31337" in heard
    wallet.mood = lambda method: None
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(page).to_have_url(re.compile(r"/nodes$"))
    expect_signed_in(page, later.address)


def test_a_message_that_was_used_gives_a_fresh_one_at_once(open_page: Open) -> None:
    wallet = Wallet()
    page = open_page(wallet)
    page.goto(f"/signin?address={wallet.address}&next=/nodes")
    spent = page.locator("#message-text").text_content()
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect_signed_in(page, wallet.address)
    page.go_back()
    page.evaluate(
        "([message, signature]) => { const form = document.querySelector('[data-sign-in]');"
        "form.elements.message.value = message; form.elements.signature.value = signature;"
        "form.requestSubmit(); }",
        [spent, wallet.sign(str(spent))],
    )
    expect(page.get_by_role("alert")).to_contain_text("used already")
    expect(page.get_by_role("alert")).to_contain_text("A fresh message stands below")
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(page).to_have_url(re.compile(r"/nodes$"))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_whole_way_without_scripts(open_page: Open, market: Market, width: int) -> None:
    wallet = Wallet()
    page = open_page(scripts=False, width=width)
    page.goto("/nodes")
    page.locator(".header").get_by_role("link", name="Sign in").click()
    page.get_by_role("textbox", name="Address").fill("0x12")
    page.get_by_role("button", name="Show the message").click()
    expect(page.locator("#address-error")).to_contain_text("is not a wallet address")
    page.get_by_role("textbox", name="Address").fill(wallet.address.lower())
    page.get_by_role("button", name="Show the message").click()
    message = str(page.locator("#message-text").text_content())
    command = str(page.locator(".code pre").text_content())
    assert command == f"infra login --sign - <<'END'\n{message}\nEND"

    page.get_by_role("textbox", name="Signature").fill("0x1234")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator("#signature-error")).to_contain_text("65 bytes, not 2")
    assert page.locator("#message-text").text_content() == message
    page.get_by_role("textbox", name="Signature").fill(
        f"  {in_a_terminal(command, wallet, market)}\n"
    )
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).to_have_url(re.compile(r"/nodes$"))
    expect_signed_in(page, wallet.address)
    if width == 390:
        page.get_by_label("Menu", exact=True).locator("visible=true").first.click()
    else:
        page.get_by_label("Wallet menu").click()
    page.get_by_role("button", name="Sign out").locator("visible=true").click()
    expect(page.locator(".header").get_by_role("link", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("path", ["/signin", "/signin?address=0x12", "/signin?address={}"])
def test_nothing_scrolls_sideways_on_a_phone(open_page: Open, path: str) -> None:
    page = open_page(Wallet(), Wallet("A Wallet With A Name As Long As They Come"), width=390)
    page.goto(path.format(Wallet().address))
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_two_browsers_do_not_share_a_session(open_page: Open) -> None:
    wallet = Wallet()
    page, stranger = open_page(wallet), open_page()
    page.goto(f"/signin?address={wallet.address}&next=/nodes")
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect_signed_in(page, wallet.address)
    stranger.goto("/nodes")
    expect(stranger.locator(".header").get_by_role("link", name="Sign in")).to_be_visible()
