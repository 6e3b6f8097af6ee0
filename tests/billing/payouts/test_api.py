"""REST of deposits, withdrawals, transactions and earnings, on a real chain."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from eth_account import Account as Keys
from pytest_django import Settings

from billing.epochs.models import Epoch
from billing.ledger.queries import balance_of
from billing.payouts import services
from billing.payouts.models import Transaction, Withdrawal
from tests.billing.epochs.keeper import Keeper
from tests.billing.payouts.acts import IFM, People, available, balance, sealed_epoch
from tests.billing.reading import amount, pointers, program

pytestmark = pytest.mark.django_db
DEPOSITS = "/api/v1/account/deposits"
PERMIT = f"{DEPOSITS}/permit"
WITHDRAWALS = "/api/v1/account/withdrawals"
TRANSACTIONS = "/api/v1/account/transactions"
FAUCET = "/api/v1/account/faucet"
REWARDS = "/api/v1/rewards"
CLAIMS = f"{REWARDS}/claims"


def sent(client: Any, path: str, **body: Any) -> Any:
    return client.post(path, body, format="json")


def settled(people: People) -> None:
    """Everything queued is sent, mined and read."""
    services.send_due()
    people.mine()
    services.send_due()
    services.follow()


def signed_permit(people: People, number: int, text: str) -> dict[str, Any]:
    """What the browser sends after the wallet has signed the permit it was handed."""
    typed = program(people.address(number)).get(PERMIT, {"amount": text}).json()
    key = people.chain.accounts[number].key
    signature = Keys.sign_typed_data(key, full_message=typed).signature
    return {
        "amount": text,
        "deadline": typed["message"]["deadline"],
        "signature": "0x" + bytes(signature).hex(),
    }


def test_the_protocol_is_told_to_everybody(people: People, keeper: Keeper) -> None:
    document = Client().get("/api/v1/protocol").json()
    assert document["chain_id"] == 31_337
    assert document["ifm"] == people.chain.ifm
    assert document["settlement"] == people.chain.settlement
    assert document["voucher_signer"] == people.chain.operator.address
    assert document["challenge_seconds"] == 0
    assert document["faucet"] is True
    assert document["parameters"] == {
        "version": 1,
        "node_bps": 3_000,
        "owner_bps": 6_000,
        "treasury_bps": 1_000,
        "epoch_seconds": 604_800,
    }
    assert document["epoch"]["number"] == 1


def test_the_protocol_is_told_where_there_is_no_chain(settings: Settings, keeper: Keeper) -> None:
    settings.ETH_RPC_URL = settings.IFM_ADDRESS = settings.SETTLEMENT_ADDRESS = ""
    settings.CHAIN_KEY, settings.FAUCET = "", False
    document = Client().get("/api/v1/protocol").json()
    assert (document["ifm"], document["settlement"], document["voucher_signer"]) == (None,) * 3
    assert sent(program("0x" + "11" * 20), FAUCET).status_code == 404


def test_a_deposit_is_signed_by_the_wallet_and_credited(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    client = program(people.address(1))
    transactions = sent(client, DEPOSITS, amount="2.5 IFM").json()["transactions"]
    assert len(transactions) == 2
    for each in transactions:
        raw = Keys.sign_transaction(each["transaction"], people.chain.accounts[1].key)
        answer = sent(client, TRANSACTIONS, raw="0x" + bytes(raw.raw_transaction).hex())
        assert answer.status_code == 202
        people.mine()
        state = client.get(f"{TRANSACTIONS}/{answer.json()['hash']}").json()
        assert state["state"] == "mined"
        assert state["confirmations"] >= 1
    services.follow()
    [deposit] = client.get(DEPOSITS).json()["results"]
    assert deposit["amount"] == amount(5 * IFM // 2, "2.5 IFM")
    assert (deposit["from"], deposit["state"]) == (people.address(1), "credited")
    assert balance(people.address(1)) == 5 * IFM // 2


def test_a_deposit_by_permit_is_sent_once_however_often_it_is_asked_for(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    client = program(people.address(1))
    permit = signed_permit(people, 1, "1.5 IFM")
    first = sent(client, DEPOSITS, **permit)
    again = sent(client, DEPOSITS, **permit)
    assert first.status_code == again.status_code == 202
    assert first.json()["relay"]["id"] == again.json()["relay"]["id"]
    assert first.json()["relay"]["state"] == "queued"
    settled(people)
    assert balance(people.address(1)) == 3 * IFM // 2


def test_a_permit_for_another_amount_moves_nothing(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    permit = signed_permit(people, 1, "1 IFM") | {"amount": "2 IFM"}
    answer = sent(program(people.address(1)), DEPOSITS, **permit)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/permit-refused")
    assert not Transaction.objects.exists()


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (DEPOSITS, {}, "/amount"),
        (DEPOSITS, {"amount": 2.5}, "/amount"),
        (DEPOSITS, {"amount": "0"}, "/amount"),
        (DEPOSITS, {"amount": "-1"}, "/amount"),
        (DEPOSITS, {"amount": "1", "sign": "0x"}, "/sign"),
        (DEPOSITS, {"amount": "1", "deadline": 5}, "/signature"),
        (DEPOSITS, {"amount": "1", "signature": "0x" + "ab" * 65}, "/deadline"),
        (DEPOSITS, {"amount": "1", "deadline": 10**40, "signature": "0xab"}, "/deadline"),
        (DEPOSITS, {"amount": "1", "deadline": 5, "signature": "0x"}, "/signature"),
        (DEPOSITS, {"amount": "1", "deadline": 5, "signature": "0xa b c"}, "/signature"),
        (DEPOSITS, {"amount": "1", "deadline": 5, "signature": "0xzz"}, "/signature"),
        (WITHDRAWALS, {"amount": "1", "relay": "no"}, "/relay"),
        (WITHDRAWALS, {"amount": "1", "to": "0x11"}, "/to"),
        (TRANSACTIONS, {"raw": "0x" + "00" * 200_000}, "/raw"),
        (TRANSACTIONS, {"raw": None}, "/raw"),
        (CLAIMS, {"streams": []}, "/streams"),
        (CLAIMS, {"streams": ["0x1234"]}, "/streams/0"),
        (CLAIMS, {"relay": 1}, "/relay"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field(
    people: People, path: str, body: dict[str, Any], pointer: str
) -> None:
    answer = sent(program(people.address(1)), path, **body)
    assert answer.status_code == 422
    assert pointers(answer) == [pointer]
    assert not Transaction.objects.exists()
    assert not Withdrawal.objects.exists()


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1e9", "9" * 90])
def test_no_permit_is_made_for_what_is_no_amount(people: People, text: str) -> None:
    answer = program(people.address(1)).get(PERMIT, {"amount": text})
    assert answer.status_code == 422
    assert pointers(answer) == ["/amount"]


def test_a_withdrawal_is_sent_by_us_and_paid(people: People) -> None:
    people.deposit(1, 5 * IFM)
    services.follow()
    client = program(people.address(1))
    answer = sent(client, WITHDRAWALS, amount="2 IFM", relay=True)
    assert answer.status_code == 201
    document = answer.json()
    assert document["amount"] == amount(2 * IFM, "2 IFM")
    assert (document["cumulative"], document["state"]) == (str(2 * IFM), "open")
    assert document["transaction"] is None
    assert document["relay"]["state"] == "queued"
    assert available(people.address(1)) == 3 * IFM
    settled(people)
    [listed] = client.get(WITHDRAWALS).json()["results"]
    assert (listed["id"], listed["state"]) == (document["id"], "paid")
    assert people.ifm_of(people.address(1)) == 2 * IFM
    assert balance(people.address(1)) == 3 * IFM


def test_a_withdrawal_is_sent_by_the_wallet_from_the_list_as_well(people: People) -> None:
    people.deposit(1, 5 * IFM)
    services.follow()
    client = program(people.address(1))
    begun = sent(client, WITHDRAWALS, amount="2 IFM").json()
    assert begun["relay"] is None
    [listed] = client.get(WITHDRAWALS).json()["results"]
    assert (
        listed["transaction"]["transaction"]["data"] == begun["transaction"]["transaction"]["data"]
    )
    raw = Keys.sign_transaction(listed["transaction"]["transaction"], people.chain.accounts[1].key)
    sent(client, TRANSACTIONS, raw="0x" + bytes(raw.raw_transaction).hex())
    people.mine()
    services.follow()
    assert people.ifm_of(people.address(1)) == 2 * IFM
    [listed] = client.get(WITHDRAWALS).json()["results"]
    assert (listed["state"], listed["transaction"]) == ("paid", None)


def test_more_than_is_available_is_not_withdrawn(people: People) -> None:
    people.deposit(1, IFM)
    services.follow()
    answer = sent(program(people.address(1)), WITHDRAWALS, amount="1.5 IFM", relay=True)
    assert answer.status_code == 402
    assert balance_of(people.address(1)).held_base_units == 0


def test_a_transaction_of_somebody_else_is_not_passed_on(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    [approve, _] = sent(program(people.address(1)), DEPOSITS, amount="1").json()["transactions"]
    raw = Keys.sign_transaction(approve["transaction"], people.chain.accounts[1].key)
    raw_text = "0x" + bytes(raw.raw_transaction).hex()
    answer = sent(program(people.address(2)), TRANSACTIONS, raw=raw_text)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/transaction-refused")


@pytest.mark.parametrize("text", ["0x12", "x", "0x" + "zz" * 32, "a%00b"])
def test_what_is_no_hash_is_not_found(people: People, text: str) -> None:
    assert program(people.address(1)).get(f"{TRANSACTIONS}/{text}").status_code == 404


def test_an_unknown_transaction_is_unknown(people: People) -> None:
    found = program(people.address(1)).get(f"{TRANSACTIONS}/0x{'ab' * 32}").json()
    assert (found["state"], found["block"], found["confirmations"]) == ("unknown", None, 0)


def test_the_faucet_gives_once_an_hour(people: People) -> None:
    client = program(people.address(3))
    assert sent(client, FAUCET).json()["relay"]["state"] == "queued"
    again = sent(client, FAUCET)
    assert (again.status_code, again.json()["type"]) == (429, "/problems/faucet-rests")
    settled(people)
    assert people.ifm_of(people.address(3)) == 100 * IFM


def earned(people: People, *, calls: int = 4) -> Epoch:
    """Account 1 called a model of account 2 on a node of account 3."""
    people.deposit(1, 10 * IFM)
    services.follow()
    return sealed_epoch(
        people.address(1), people.address(2), people.address(3), IFM // 4, calls=calls
    )


def test_earnings_are_pending_then_claimable_then_claimed(people: People, keeper: Keeper) -> None:
    epoch = earned(people)
    client = program(people.address(2))
    document = client.get(REWARDS).json()
    assert (document["epoch"], document["root"]) == (None, None)
    [stream] = document["results"]
    assert stream["subject"] == "model:summarizer-v1"
    assert stream["pending"] == amount(6 * IFM // 10, "0.6 IFM")
    assert stream["claimable"] == document["claimable"] == amount(0, "0 IFM")
    assert stream["epochs"] == [
        {
            "epoch": epoch.number,
            "share": "owner",
            "calls": 4,
            "gross": amount(IFM, "1 IFM"),
            "amount": amount(6 * IFM // 10, "0.6 IFM"),
            "bps": 6_000,
        }
    ]

    services.publish_root(epoch.number)
    settled(people)
    document = client.get(REWARDS).json()
    assert document["epoch"] == epoch.number
    assert document["root"] == "0x" + bytes(epoch.root or b"").hex()
    [stream] = document["results"]
    assert stream["claimable"] == document["claimable"] == amount(6 * IFM // 10, "0.6 IFM")
    assert stream["pending"] == amount(0, "0 IFM")
    assert len(stream["proof"]) == 1

    answer = sent(client, CLAIMS, streams=[stream["stream"]], relay=True)
    assert answer.status_code == 202
    assert answer.json()["transactions"] == []
    settled(people)
    assert people.ifm_of(people.address(2)) == 6 * IFM // 10
    [stream] = client.get(REWARDS).json()["results"]
    assert stream["claimed"] == amount(6 * IFM // 10, "0.6 IFM")
    assert stream["claimable"] == amount(0, "0 IFM")
    nothing = sent(client, CLAIMS)
    assert (nothing.status_code, nothing.json()["type"]) == (409, "/problems/nothing-to-claim")


def test_a_claim_is_handed_out_unsigned(people: People, keeper: Keeper) -> None:
    services.publish_root(earned(people).number)
    settled(people)
    client = program(people.address(3))
    document = sent(client, CLAIMS).json()
    assert document["relay"] is None
    [unsigned] = document["transactions"]
    raw = Keys.sign_transaction(unsigned["transaction"], people.chain.accounts[3].key)
    sent(client, TRANSACTIONS, raw="0x" + bytes(raw.raw_transaction).hex())
    people.mine()
    assert people.ifm_of(people.address(3)) == 3 * IFM // 10


def test_rewards_are_asked_for_by_model_and_by_stream(people: People, keeper: Keeper) -> None:
    earned(people)
    client = program(people.address(2))
    stream = client.get(REWARDS).json()["results"][0]["stream"]
    for query in (
        {"model": "summarizer-v1"},
        {"stream": stream},
        {"stream": "model:summarizer-v1"},
        {"model": "summarizer-v1", "stream": stream},
    ):
        assert [each["stream"] for each in client.get(REWARDS, query).json()["results"]] == [stream]
    for query in ({"model": "other"}, {"stream": "0x" + "00" * 32}, {"model": "a\x00b"}):
        assert client.get(REWARDS, query).json()["results"] == []


def test_a_token_for_named_models_is_told_of_those_alone(people: People, keeper: Keeper) -> None:
    earned(people)
    named = {"model_scope": "named", "models_allowed": ["summarizer-v1"]}
    other = {"model_scope": "named", "models_allowed": ["other-v1"]}
    address = people.address(2)
    assert len(program(address, "read:usage", **named).get(REWARDS).json()["results"]) == 1
    document = program(address, "read:usage", **other).get(REWARDS).json()
    assert (document["results"], document["claimable"]) == ([], amount(0, "0 IFM"))


def test_nobody_else_is_told_what_one_earned(people: People, keeper: Keeper) -> None:
    earned(people)
    assert program(people.address(4)).get(REWARDS).json()["results"] == []


def test_epochs_are_listed_with_the_open_one_first(people: People, keeper: Keeper) -> None:
    epoch = earned(people)
    services.publish_root(epoch.number)
    settled(people)
    document = Client().get("/api/v1/epochs").json()
    opened, closed = document["results"]
    assert document["next"] is None
    assert (opened["number"], opened["state"], opened["receipts"]) == (epoch.number + 1, "open", 0)
    assert opened["root"] is opened["tree_cid"] is opened["transaction"] is None
    assert (closed["state"], closed["receipts"], closed["leaves"]) == ("claimable", 4, 2)
    assert closed["revenue"] == amount(IFM, "1 IFM")
    assert closed["total"] == amount(9 * IFM // 10, "0.9 IFM")
    row = Transaction.objects.get(key__startswith="root:")
    assert closed["transaction"] == row.mined_hash
    assert Client().get(f"/api/v1/epochs/{epoch.number}").json() == closed
    assert Client().get("/api/v1/epochs/99").status_code == 404


def test_every_epoch_is_listed_once_page_by_page(keeper: Keeper) -> None:
    from billing.epochs import services as epochs

    for _ in range(55):
        epochs.close(at_once=True)
    first = Client().get("/api/v1/epochs").json()
    second = Client().get(first["next"]).json()
    numbers = [each["number"] for page in (first, second) for each in page["results"]]
    assert numbers == list(range(56, 0, -1))
    assert second["next"] is None


@pytest.mark.parametrize("cursor", ["x", "YWJj", "LTE=", "a" * 300])
def test_a_cursor_of_epochs_that_was_not_given_out_is_refused(keeper: Keeper, cursor: str) -> None:
    answer = Client().get("/api/v1/epochs", {"cursor": cursor})
    assert answer.status_code == 422


def test_without_a_chain_it_is_said_and_nothing_is_lost(people: People, settings: Settings) -> None:
    people.deposit(1, IFM)
    services.follow()
    settings.ETH_RPC_URL = "http://127.0.0.1:9"
    client = program(people.address(1))
    for answer in (
        sent(client, DEPOSITS, amount="1"),
        client.get(PERMIT, {"amount": "1"}),
        sent(client, WITHDRAWALS, amount="0.5"),
        client.get(f"{TRANSACTIONS}/0x{'ab' * 32}"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/chain-unavailable")
    assert client.get("/api/v1/account/balance").json()["balance"] == amount(IFM, "1 IFM")
    assert json.loads(client.get(DEPOSITS).content)["results"][0]["state"] == "credited"
