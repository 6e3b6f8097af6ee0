"""The account's money as pages: balance with its ways in and out, and earnings."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from eth_account import Account as Keys
from pytest_django import Settings

from billing.ledger.queries import balance_of
from billing.ledger.services import post
from billing.payouts import services
from billing.payouts.models import Cursor, Transaction, Withdrawal
from inframind.identity.models import Wallet
from tests.billing.epochs.keeper import Keeper
from tests.billing.ledger.books import posting
from tests.billing.payouts.acts import IFM, People, available, balance
from tests.billing.payouts.test_api import earned, settled
from tests.inframind.identity.browsing import OTHER, OWNER, browser_of, page_of

pytestmark = pytest.mark.django_db
BALANCE = "/account/balance"
PERMIT = f"{BALANCE}/permit"
EARNINGS = "/account/earnings"
PART = {"HX-Request": "true"}


@pytest.fixture
def client() -> Client:
    return browser_of(Wallet.objects.of(OWNER))


@pytest.mark.parametrize("path", [BALANCE, PERMIT, EARNINGS])
def test_a_stranger_is_sent_to_sign_in(path: str) -> None:
    answer = Client().get(path)
    assert answer.headers["Location"] == f"/signin?next={path.replace('/', '%2F')}"


@pytest.mark.parametrize("path", [BALANCE, EARNINGS])
def test_no_form_is_taken_from_another_site(path: str) -> None:
    browser = browser_of(Wallet.objects.of(OWNER), strict=True)
    assert browser.post(path, {"act": "limit", "per_day": "1"}).status_code == 403
    assert balance_of(OWNER).day_limit_base_units is None


@pytest.mark.parametrize("path", [BALANCE, EARNINGS])
def test_a_page_and_its_part_are_one_without_inline_code(client: Client, path: str) -> None:
    whole, part = page_of(client.get(path)), client.get(path, headers=PART)
    assert "<!doctype html>" in whole
    assert "<!doctype html>" not in page_of(part)
    assert 'class="account-head"' in page_of(part)
    assert not re.search(r'<style|\sstyle="|\son[a-z]+="', whole)
    assert "no-store" in client.get(path).headers["Cache-Control"]


def test_balance_and_earnings_are_tabs_after_the_overview(client: Client) -> None:
    tabs = re.findall(r'id="tab-([a-z-]+)"', page_of(client.get("/account")))
    assert tabs[:3] == ["overview", "balance", "earnings"]


def test_the_header_tells_the_balance_and_never_more_than_there_is(client: Client) -> None:
    post([posting("chain", f"wallet:{OWNER}", 2 * IFM + 123_456_789_012_345_678)])
    page = page_of(client.get("/nodes"))
    assert 'data-base-units="2123456789012345678"' in page
    assert ">2.1234<" in page
    assert 'class="wallet-funds"' not in page_of(Client().get("/nodes"))


def test_without_money_the_page_says_what_happens_here(client: Client) -> None:
    page = page_of(client.get(BALANCE))
    assert "Nothing has moved yet." in page
    assert "data-poll" not in page


def test_entries_are_told_with_their_epochs_and_page_by_page(client: Client) -> None:
    post([posting("chain", f"wallet:{OWNER}", IFM, "0x" + "ab" * 32) for _ in range(30)])
    post([posting(f"wallet:{OWNER}", "epoch:7", IFM // 4, "epoch:7")])
    page = page_of(client.get(BALANCE))
    assert 'href="/epochs/7"' in page
    assert 'data-base-units="-250000000000000000"' in page
    assert page.count(f'title="{"0x" + "ab" * 32}"') == 24
    [older] = re.findall(r'href="(/account/balance\?before=[^"]+)" rel="next"', page)
    rest = page_of(client.get(older))
    assert rest.count(f'title="{"0x" + "ab" * 32}"') == 6
    assert 'rel="next"' not in rest


@pytest.mark.parametrize("before", ["x", "%00", "0b0b0b0b-0b0b-7b0b-8b0b-0b0b0b0b0b0b"])
def test_a_place_that_is_none_begins_at_the_newest(client: Client, before: str) -> None:
    assert client.get(f"{BALANCE}?before={before}").status_code == 200


def test_the_limit_is_saved_and_taken_away(client: Client) -> None:
    answer = client.post(BALANCE, {"act": "limit", "per_day": "5 IFM"})
    assert answer.headers["Location"] == BALANCE
    assert balance_of(OWNER).day_limit_base_units == 5 * IFM
    assert 'value="5 IFM"' in page_of(client.get(BALANCE))
    client.post(BALANCE, {"act": "limit", "per_day": ""})
    assert balance_of(OWNER).day_limit_base_units is None


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"act": "limit", "per_day": "1e3"}, "id_per_day"),
        ({"act": "limit", "per_day": "-1"}, "id_per_day"),
        ({"act": "withdraw", "amount": ""}, "withdraw_amount"),
        ({"act": "withdraw", "amount": "0"}, "withdraw_amount"),
        ({"act": "withdraw", "amount": "all"}, "withdraw_amount"),
        ({"act": "deposit", "amount": "", "deadline": "5", "signature": "0xab"}, "deposit_amount"),
    ],
)
def test_an_amount_that_is_none_is_refused_beside_its_field(
    people: People, form: dict[str, str], field: str
) -> None:
    answer = browser_of(people.wallet(1)).post(BALANCE, form)
    assert answer.status_code == 422
    assert f'id="{field}_error"' in page_of(answer)
    assert not Withdrawal.objects.exists()


@pytest.mark.parametrize("act", ["", "steal", "\x00"])
def test_a_form_that_asks_for_nothing_is_refused(client: Client, act: str) -> None:
    answer = client.post(BALANCE, {"act": act})
    assert answer.status_code == 422
    assert "This form asks for nothing that the page does." in page_of(answer)


def test_a_top_up_goes_from_permit_to_credited_with_its_confirmations(
    people: People, settings: Settings
) -> None:
    settings.CHAIN_CONFIRMATIONS = 4
    people.give(people.address(1), 5 * IFM)
    browser = browser_of(people.wallet(1))
    typed = browser.get(PERMIT, {"amount": "1.5 IFM"}).json()
    assert typed["domain"]["chainId"] == 31_337
    assert typed["domain"]["verifyingContract"] == people.chain.ifm
    assert typed["message"]["spender"] == people.chain.settlement
    assert typed["message"]["owner"] == people.address(1)
    assert int(typed["message"]["value"]) == 3 * IFM // 2
    signature = Keys.sign_typed_data(people.chain.accounts[1].key, full_message=typed).signature
    form = {
        "act": "deposit",
        "amount": "1.5 IFM",
        "deadline": str(typed["message"]["deadline"]),
        "signature": "0x" + bytes(signature).hex(),
    }
    assert browser.post(BALANCE, form).headers["Location"] == BALANCE
    page = page_of(browser.get(BALANCE))
    assert "Your deposit is on its way." in page
    assert "data-poll" in page

    services.send_due()
    people.mine()
    services.follow()
    funds = page_of(browser.get(f"{BALANCE}?funds", headers=PART))
    assert "<!doctype html>" not in funds
    assert "2 of 4 confirmations" in funds
    assert "data-poll" in funds
    assert 'hx-swap-oob="innerHTML:#announce"' in funds
    assert balance(people.address(1)) == 0

    people.mine(4)
    services.send_due()
    services.follow()
    funds = page_of(browser.get(f"{BALANCE}?funds", headers=PART))
    assert "confirmations" not in funds
    assert "data-poll" not in funds
    assert balance(people.address(1)) == 3 * IFM // 2
    assert "credited" in page_of(browser.get(BALANCE))


def test_a_permit_that_cannot_be_is_told_to_the_script_as_a_problem(people: People) -> None:
    browser = browser_of(people.wallet(1))
    for amount, status in (("", 422), ("x", 422), ("1", 409)):
        answer = browser.get(PERMIT, {"amount": amount})
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_form_without_a_signature_says_that_nothing_was_sent(people: People) -> None:
    answer = browser_of(people.wallet(1)).post(BALANCE, {"act": "deposit", "amount": "1"})
    assert answer.status_code == 422
    assert "Your wallet has signed nothing yet" in page_of(answer)
    assert not Transaction.objects.exists()


def test_a_withdrawal_goes_out_and_stands_in_the_list(people: People) -> None:
    people.deposit(1, 5 * IFM)
    services.follow()
    browser = browser_of(people.wallet(1))
    assert browser.post(BALANCE, {"act": "withdraw", "amount": "2 IFM"}).status_code == 302
    page = page_of(browser.get(BALANCE))
    assert "2 IFM is on its way to your wallet." in page
    assert "One is under way:" in page
    assert available(people.address(1)) == 3 * IFM
    settled(people)
    assert 'class="state state-paid"' in page_of(browser.get(BALANCE))
    assert people.ifm_of(people.address(1)) == 2 * IFM


def test_a_withdrawal_that_could_not_be_sent_is_sent_by_its_button(
    people: People, settings: Settings
) -> None:
    people.deposit(1, 5 * IFM)
    services.follow()
    settings.RELAYS_PER_DAY = 0
    browser = browser_of(people.wallet(1))
    browser.post(BALANCE, {"act": "withdraw", "amount": "2 IFM"})
    assert "set aside, and not sent yet" in (page := page_of(browser.get(BALANCE)))
    assert "Send it now" in page
    settings.RELAYS_PER_DAY = 20
    browser.post(BALANCE, {"act": "resend"})
    settled(people)
    assert people.ifm_of(people.address(1)) == 2 * IFM


def test_more_than_there_is_is_refused_on_the_page(people: People) -> None:
    answer = browser_of(people.wallet(1)).post(BALANCE, {"act": "withdraw", "amount": "2"})
    assert answer.status_code == 402
    assert f"The balance of {people.address(1)} has 0 IFM available" in page_of(answer)
    assert balance_of(people.address(1)).held_base_units == 0


def test_test_ifm_is_asked_for_where_there_is_a_faucet(people: People, settings: Settings) -> None:
    browser = browser_of(people.wallet(3))
    assert "Get test IFM" in page_of(browser.get(BALANCE))
    browser.post(BALANCE, {"act": "faucet"})
    settled(people)
    assert people.ifm_of(people.address(3)) == 100 * IFM
    assert "It is in your wallet now" in (page := page_of(browser.get(BALANCE)))
    assert "data-poll" not in page
    settings.FAUCET = False
    assert "Get test IFM" not in page_of(browser.get(BALANCE))
    assert browser.post(BALANCE, {"act": "faucet"}).status_code == 404


def test_a_halted_chain_is_said_in_words(people: People) -> None:
    people.deposit(1, IFM)
    services.follow()
    browser = browser_of(people.wallet(1))
    assert "halted" not in page_of(browser.get(BALANCE))
    Cursor.objects.update(state=Cursor.State.HALTED, reason="A secret of ours.")
    page = page_of(browser.get(BALANCE))
    assert "Crediting from the chain is halted until a person has looked." in page
    assert "Calls go on" in page
    assert "A secret of ours." not in page


def test_without_a_chain_the_page_says_what_still_works(client: Client, settings: Settings) -> None:
    settings.ETH_RPC_URL = settings.IFM_ADDRESS = settings.SETTLEMENT_ADDRESS = ""
    assert "No chain is configured here" in page_of(client.get(BALANCE))


def test_a_wallet_sees_nothing_of_another(people: People) -> None:
    people.deposit(1, 7 * IFM)
    services.follow()
    services.begin_withdrawal(people.wallet(1), IFM)
    page = page_of(browser_of(people.wallet(2)).get(BALANCE))
    assert "7000000000000000000" not in page
    assert "1000000000000000000" not in page


def test_who_earned_nothing_is_told_how(client: Client) -> None:
    assert "Nothing earned yet" in page_of(client.get(EARNINGS))


def test_earnings_lead_from_epoch_to_line_to_root_to_proof_to_claim(
    people: People, keeper: Keeper
) -> None:
    epoch = earned(people)
    browser = browser_of(people.wallet(2))
    page = page_of(browser.get(EARNINGS))
    assert "No root is claimable on chain yet" in page
    assert "Claim " not in page.split("<main")[1].split("Rebuild")[0]

    services.publish_root(epoch.number)
    settled(people)
    page = page_of(browser.get(EARNINGS))
    assert "summarizer-v1" in page
    assert f'href="/epochs/{epoch.number}"' in page
    assert "0x" + bytes(epoch.root or b"").hex() in page
    assert "&quot;cumulative&quot;: &quot;600000000000000000&quot;" in page
    [stream] = re.findall(r'name="stream" value="(0x[0-9a-f]{64})"', page)

    assert browser.post(EARNINGS, {"stream": stream}).headers["Location"] == EARNINGS
    assert "Claims under way" in page_of(browser.get(EARNINGS))
    settled(people)
    page = page_of(browser.get(EARNINGS))
    assert "all of it is claimed" in page
    assert 'name="stream"' not in page
    assert people.ifm_of(people.address(2)) == 6 * IFM // 10


def test_everything_is_claimed_at_once_and_nothing_twice(people: People, keeper: Keeper) -> None:
    services.publish_root(earned(people).number)
    settled(people)
    browser = browser_of(people.wallet(3))
    browser.post(EARNINGS)
    page = page_of(browser.get(EARNINGS))
    assert "A claim of yours" in page
    assert "data-poll" in page
    assert ">Claim 0.3" not in page
    settled(people)
    told = page_of(browser.get(f"{EARNINGS}?sums", headers=PART))
    assert "data-poll" not in told
    assert 'hx-swap-oob="innerHTML:#streams"' in told
    assert "all of it is claimed" in told
    assert people.ifm_of(people.address(3)) == 3 * IFM // 10
    answer = browser.post(EARNINGS)
    assert answer.status_code == 409
    assert "Nothing can be claimed at the moment" in page_of(answer)


@pytest.mark.parametrize("stream", ["x", "0x12", "\x00", "0x" + "zz" * 32, "0x" + "1" * 9_000])
def test_a_stream_that_is_none_is_refused(client: Client, stream: str) -> None:
    assert client.post(EARNINGS, {"stream": stream}).status_code == 422


def test_a_stream_of_somebody_else_claims_nothing(people: People, keeper: Keeper) -> None:
    services.publish_root(earned(people).number)
    settled(people)
    page = page_of(browser_of(people.wallet(2)).get(EARNINGS))
    [stream] = re.findall(r'name="stream" value="(0x[0-9a-f]{64})"', page)
    assert (
        browser_of(Wallet.objects.of(OTHER)).post(EARNINGS, {"stream": stream}).status_code == 409
    )
