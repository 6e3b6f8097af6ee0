"""What the books say of a wallet."""

from __future__ import annotations

import dataclasses
from uuid import uuid4

import pytest

from billing.ledger import codes, queries, services
from billing.ledger import models as ledger
from billing.ledger.models import Account, Reason
from billing.ledger.queries import Balance
from inframind.lib.problem import Problem
from tests.billing.ledger.books import ADDRESS, OTHER, OTHER_WALLET, WALLET, give, posting

pytestmark = pytest.mark.django_db


def test_a_wallet_that_never_had_money_has_none() -> None:
    assert queries.balance_of(ADDRESS) == Balance()
    assert queries.entries_of(ADDRESS) == []
    assert queries.posted_of(WALLET) == 0
    assert not Account.objects.exists()


def test_expired_leases_count_as_if_they_were_brought_back() -> None:
    give(ADDRESS, 100)
    account = Account.objects.get(code=WALLET)
    services.hold([services.HoldRequest(uuid4(), WALLET, "chain", 5, Reason.WITHDRAWAL)])
    Account.objects.filter(pk=account.pk).update(
        leased_base_units=50,
        charged_base_units=7,
        day_limit_base_units=90,
        day="2999-01-01",
        day_used_base_units=60,
    )
    for expires_at, amount, spent in (("2999-01-01", 30, 4), ("2020-01-01", 20, 1)):
        ledger.Lease.objects.create(
            id=uuid4(),
            account=account,
            process="test",
            amount_base_units=amount,
            spent_base_units=spent,
            day="2999-01-01",
            expires_at=f"{expires_at}T00:00:00Z",
        )
    assert queries.balance_of(ADDRESS) == Balance(
        balance_base_units=100 - 7 - 5,
        available_base_units=100 - 5 - 7 - 5 - 26,
        held_base_units=5,
        under_way_base_units=26,
        charged_unposted_base_units=12,
        day_limit_base_units=90,
        day_used_base_units=60 - 19,
    )


def test_entries_are_told_newest_first_from_the_wallets_side_and_page_by_page() -> None:
    batch = [posting("chain", WALLET, 10 + number, str(number)) for number in range(7)]
    services.post(batch)
    services.post([posting(WALLET, OTHER_WALLET, 4)])
    services.post([posting("chain", OTHER_WALLET, 1)])
    first, *rest = queries.entries_of(ADDRESS)
    assert (first.amount_base_units, first.other, first.reason) == (-4, OTHER_WALLET, "grant")
    assert {each.amount_base_units for each in rest} == set(range(10, 17))
    paged = [*queries.entries_of(ADDRESS, limit=3)]
    while page := queries.entries_of(ADDRESS, before=paged[-1].id, limit=3):
        paged += page
    assert paged == [first, *rest]
    assert [each.amount_base_units for each in queries.entries_of(OTHER)] == [1, 4]


def test_a_page_begins_at_an_entry_of_the_wallet_only() -> None:
    services.post([posting("chain", WALLET, 1), posting("chain", OTHER_WALLET, 1)])
    [theirs] = queries.entries_of(OTHER)
    for before in (theirs.id, uuid4()):
        with pytest.raises(Problem) as caught:
            queries.entries_of(ADDRESS, before=before)
        assert caught.value.status == 404


def test_an_address_is_found_in_any_case() -> None:
    give(ADDRESS, 5)
    assert queries.balance_of(ADDRESS.lower()).balance_base_units == 5
    with pytest.raises(ValueError):
        queries.balance_of("0x12")


def test_the_sum_of_an_account_is_told_by_its_code() -> None:
    services.post([posting("chain", "treasury", 2**200)])
    assert queries.posted_of("treasury") == 2**200
    assert queries.posted_of(codes.CHAIN) == -(2**200)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "wallet",
        "chain ",
        "epoch:01",
        "epoch:-1",
        "wallet:" + ADDRESS.lower(),
        "wallet:0x12",
        f"owed:{ADDRESS}",
        f"owed:{ADDRESS}:" + "ab" * 32,
        f"owed:{ADDRESS}:0x" + "AB" * 32,
        f"owed:{ADDRESS.lower()}:0x" + "ab" * 32,
        "escrow:",
        "escrow:with blank",
        "wallet:" + ADDRESS + "\n",
        "\0",
    ],
)
def test_what_is_no_code_opens_no_account(code: str) -> None:
    with pytest.raises(Problem) as caught:
        services.post([posting("chain", "treasury", 1), posting("chain", code, 1)])
    assert (caught.value.status, caught.value.code) == (400, "no-such-account")
    assert not Account.objects.exists()


def test_codes_open_accounts_of_their_kind() -> None:
    named = {
        codes.TREASURY: "treasury",
        codes.epoch_code(12): "epoch",
        codes.owed_code(ADDRESS.lower(), b"\xab" * 32): "owed",
        codes.wallet_code(ADDRESS.lower()): "wallet",
        "escrow:bounty-7": "escrow",
    }
    services.post([posting(codes.CHAIN, code, 1) for code in named])
    rows = {each.code: each for each in Account.objects.all()}
    assert {code: each.kind for code, each in rows.items()} == {**named, "chain": "chain"}
    assert rows["chain"].floor_base_units is None
    assert {rows[code].floor_base_units for code in named} == {0}
    assert [each.wallet_id for each in rows.values() if each.wallet_id] == [ADDRESS]


@pytest.mark.parametrize(
    "change",
    [
        {"amount_base_units": 0},
        {"amount_base_units": -1},
        {"amount_base_units": 2**256},
        {"credit": "chain"},
        {"subject": "x" * 141},
        {"subject": "\0"},
        {"subject": "\ud800"},
    ],
)
def test_what_is_no_transfer_is_refused(change: dict[str, object]) -> None:
    wrong = dataclasses.replace(posting("chain", WALLET, 1), **change)  # type: ignore[arg-type]
    with pytest.raises(Problem) as caught:
        services.post([posting("chain", WALLET, 1), wrong])
    assert (caught.value.status, caught.value.code) == (400, "transfer-malformed")
    assert not Account.objects.exists()


def test_only_wallets_are_charged() -> None:
    with pytest.raises(Problem) as caught:
        services.post([posting("chain", "epoch:1", 1)], charged=True)
    assert caught.value.code == "transfer-malformed"
    assert services.post([]) == 0
    assert services.hold([]) == services.settle([]) == services.release([]) == 0
