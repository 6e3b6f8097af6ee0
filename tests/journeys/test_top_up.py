"""Topping up from the browser's wallet: what is signed is what was asked for, or nothing is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_account import Account
from playwright.sync_api import Browser, Page, Route, expect

from tests.journeys.bank import IFM
from tests.journeys.chromium import MARKS, clean_pages
from tests.journeys.market import Market
from tests.journeys.test_sign_in import REFUSED, WALLET, Wallet

pytestmark = MARKS
CREDITED_MS = 60_000

Open = Callable[..., Page]
Change = Callable[[dict[str, Any]], None]


class Purse(Wallet):
    """A wallet that signs typed data too; ``signed`` is all that it was shown."""

    def __init__(self, name: str = "Test Wallet") -> None:
        super().__init__(name)
        self.signed: list[dict[str, Any]] = []

    def answer(self, method: str, params: list[Any]) -> tuple[str, Any]:
        if method != "eth_signTypedData_v4":
            return super().answer(method, params)
        self.asked.append(method)
        moody = self.mood(method)
        if moody is not None:
            return moody
        address, text = params
        assert address == self.address
        typed = json.loads(text)
        self.signed.append(typed)
        signature = Account.sign_typed_data(self.account.key, full_message=typed).signature
        return "value", "0x" + bytes(signature).hex()


@pytest.fixture
def open_balance(browser: Browser, market: Market) -> Iterator[Open]:
    """The balance page of a wallet that has just signed in; an error of script or CSP fails."""
    errors: list[str] = []
    with clean_pages(browser, market, errors, refusals="4") as opened:

        def open_balance(wallet: Purse, *, width: int = 1280) -> Page:
            page = opened(width=width)
            page.expose_function(
                "askWallet", lambda _, method, params: wallet.answer(method, params)
            )
            described = {
                "uuid": wallet.uuid,
                "name": wallet.name,
                "rdns": "example.test-wallet",
                "icon": "",
                "older": False,
            }
            page.add_init_script(f"({WALLET})({json.dumps(described)})")
            page.goto("/signin?next=/account/balance")
            page.locator(".wallet-choice").click()
            page.get_by_role("button", name=f"Sign with {wallet.name}").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Balance")
            wallet.asked.clear()
            return page

        yield open_balance
    assert errors == []


def amount_field(page: Page) -> Any:
    return page.locator("#top-up").get_by_label("Amount")


def says(page: Page) -> Any:
    return page.locator("#top-up [data-says]")


def top_up(page: Page, amount: str) -> None:
    amount_field(page).fill(amount)
    page.locator("#top-up .wallet-choice").click()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_top_up_is_signed_sent_confirmed_and_credited_before_ones_eyes(
    open_balance: Open, market: Market, width: int
) -> None:
    wallet = Purse()
    market.bank.give(wallet.address, 10 * IFM)
    page = open_balance(wallet, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    expect(page.locator(".funds-figure")).to_contain_text("0 IFM")
    expect(page.locator("#top-up [data-command]")).to_contain_text("infra deposit 5")

    top_up(page, "2.5")
    expect(page.locator("#top-up [data-command]")).to_contain_text("infra deposit")
    expect(page.locator("main")).to_contain_text("Your deposit is on its way.", timeout=CREDITED_MS)
    expect(page.locator(".funds-figure .amount")).to_have_attribute(
        "data-base-units", str(5 * IFM // 2), timeout=CREDITED_MS
    )
    expect(page.locator("#entries")).to_contain_text("Deposit")
    expect(page.locator("#entries")).to_contain_text("+2.5 IFM")
    # Nothing is under way any more, so nothing is asked for any more.
    expect(page.locator("[data-poll]")).to_have_count(0)

    [typed] = wallet.signed
    assert typed["primaryType"] == "Permit"
    assert typed["domain"]["verifyingContract"] == market.bank.ifm
    assert typed["message"]["spender"] == market.bank.settlement
    assert typed["message"]["owner"] == wallet.address
    assert int(typed["message"]["value"]) == 5 * IFM // 2
    page.reload()
    expect(page.locator("#deposits-title + div")).to_contain_text("credited")


def _set(path: str, value: Any) -> Change:
    def change(typed: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place = typed
        for each in parents:
            place = place[each]
        place[last] = value

    return change


STRANGER = "0x" + "66" * 20
LIES: dict[str, tuple[Change, str]] = {
    "amount": (_set("message.value", str(9 * IFM)), "another amount"),
    "spender": (_set("message.spender", STRANGER), "somebody else take the money"),
    "owner": (_set("message.owner", STRANGER), "another wallet"),
    "token": (_set("domain.verifyingContract", STRANGER), "another token than IFM"),
    "chain": (_set("domain.chainId", 1), "chain 1"),
    "deadline": (_set("message.deadline", 2**50), "good for too long"),
    "kind": (_set("primaryType", "Mail"), "not a permit"),
    "fields": (
        _set("types.Permit", [{"name": "owner", "type": "address"}]),
        "other fields than a permit",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_what_was_asked_for_is_never_shown_to_the_wallet(
    open_balance: Open, market: Market, lie: str
) -> None:
    change, words = LIES[lie]
    wallet = Purse()
    market.bank.give(wallet.address, 10 * IFM)
    page = open_balance(wallet)

    def tamper(route: Route) -> None:
        answer = route.fetch()
        typed = answer.json()
        change(typed)
        route.fulfill(response=answer, json=typed)

    page.route("**/account/balance/permit?*", tamper)
    top_up(page, "2.5 IFM")
    expect(says(page)).to_contain_text("Not signed")
    expect(says(page)).to_contain_text(words)
    assert "eth_signTypedData_v4" not in wallet.asked


def test_moods_of_a_wallet_are_told_in_words_and_move_nothing(
    open_balance: Open, market: Market
) -> None:
    wallet = Purse()
    market.bank.give(wallet.address, 10 * IFM)
    page = open_balance(wallet)

    for amount in ("", "0", "1e3", "-1", "all"):
        top_up(page, amount)
        expect(says(page)).to_contain_text("Name an amount above zero")
    assert wallet.asked == []

    wallet.chain_id = 1
    top_up(page, "1")
    expect(says(page)).to_contain_text("Switch the wallet's network")
    wallet.chain_id = 31_337

    wallet.mood = lambda method: ("value", [STRANGER]) if method == "eth_requestAccounts" else None
    top_up(page, "1")
    expect(says(page)).to_contain_text("in the wallet and try again")

    wallet.mood = lambda method: REFUSED if method == "eth_signTypedData_v4" else None
    top_up(page, "1")
    expect(says(page)).to_contain_text("You declined in Test Wallet. Nothing was signed.")

    wallet.mood = lambda method: None
    top_up(page, "11")
    expect(says(page)).to_contain_text("has 10 IFM on chain")
    assert wallet.signed == []
    expect(page.locator(".moving")).to_have_count(0)


def test_without_scripts_there_is_the_command_and_the_forms_work(
    browser: Browser, market: Market
) -> None:
    wallet = Purse()
    market.fund(wallet.address, ifm=3)
    with clean_pages(browser, market, [], refusals="4") as opened:
        page = opened()
        page.expose_function("askWallet", lambda _, method, params: wallet.answer(method, params))
        described = {"uuid": "u", "name": "W", "rdns": "example.w", "icon": "", "older": False}
        page.add_init_script(f"({WALLET})({json.dumps(described)})")
        page.goto("/signin?next=/account/balance")
        page.locator(".wallet-choice").click()
        page.get_by_role("button", name="Sign with W").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Balance")
        plain = opened(scripts=False)
        plain.context.add_cookies(
            [
                {"name": each["name"], "value": each["value"], "url": market.url}
                for each in page.context.cookies()
            ]
        )
        plain.goto("/account/balance")
        expect(amount_field(plain)).to_be_hidden()
        expect(plain.locator("#top-up [data-command]")).to_be_visible()
        plain.get_by_label("At most a day").fill("7 IFM")
        plain.get_by_role("button", name="Save limit").click()
        expect(plain.locator("main")).to_contain_text("Your limit is saved.")
        plain.locator("#withdraw_amount").fill("1 IFM")
        plain.get_by_role("button", name="Withdraw", exact=True).click()
        expect(plain.locator("main")).to_contain_text(re.compile("1 IFM is on its way"))
