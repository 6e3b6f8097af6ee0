"""REST of the prepaid balance."""

from __future__ import annotations

from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from billing.ledger import services
from billing.ledger.models import Reason
from billing.ledger.queries import balance_of
from billing.ledger.services import HoldRequest, Posting
from tests.billing.ledger.books import ADDRESS, OTHER, WALLET, give, posting
from tests.billing.reading import amount, pointers, program

pytestmark = pytest.mark.django_db
IFM = 10**18
BALANCE = "/api/v1/account/balance"
LIMIT = "/api/v1/account/limit"


def test_the_balance_says_what_there_is_and_what_moved() -> None:
    services.post([Posting(uuid4(), "chain", WALLET, 3 * IFM, Reason.DEPOSIT, "0x" + "ab" * 32)])
    services.post([Posting(uuid4(), WALLET, "epoch:4", IFM // 2, Reason.CHARGE, "epoch:4")])
    services.hold([HoldRequest(uuid4(), WALLET, "chain", IFM, Reason.WITHDRAWAL)])
    document = program(ADDRESS).get(BALANCE).json()
    entries = document.pop("entries")
    assert document == {
        "wallet": ADDRESS,
        "balance": amount(5 * IFM // 2, "2.5 IFM"),
        "available": amount(3 * IFM // 2, "1.5 IFM"),
        "held": amount(IFM, "1 IFM"),
        "under_way": amount(0, "0 IFM"),
        "charged_this_epoch": amount(0, "0 IFM"),
        "day_limit": None,
        "day_used": amount(0, "0 IFM"),
        "next": None,
        "top_up": "/account/balance",
    }
    assert [(each["amount"], each["reason"], each["subject"]) for each in entries] == [
        (amount(-IFM // 2, "-0.5 IFM"), "charge", "epoch:4"),
        (amount(3 * IFM, "3 IFM"), "deposit", "0x" + "ab" * 32),
    ]


def test_a_wallet_that_never_had_money_has_none() -> None:
    document = program(ADDRESS).get(BALANCE).json()
    assert document["balance"] == amount(0, "0 IFM")
    assert document["entries"] == []


def test_all_entries_are_told_once_page_by_page_whatever_comes_meanwhile() -> None:
    reader = program(ADDRESS)
    services.post([posting("chain", WALLET, number, str(number)) for number in range(1, 121)])
    found: list[str] = []
    page = reader.get(BALANCE).json()
    while True:
        found += [each["id"] for each in page["entries"]]
        if page["next"] is None:
            break
        give(ADDRESS, 1)
        page = reader.get(page["next"]).json()
    assert len(found) == len(set(found)) == 120


@pytest.mark.parametrize("cursor", ["x", "²", "a" * 500, "bm90LWEtdXVpZA=="])
def test_a_cursor_that_was_not_given_out_is_refused(cursor: str) -> None:
    answer = program(ADDRESS).get(BALANCE, {"cursor": cursor})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-cursor")


def test_a_cursor_of_another_wallet_says_no_more_than_one_of_nobody() -> None:
    services.post([posting("chain", WALLET, 1) for _ in range(60)])
    following = program(ADDRESS).get(BALANCE).json()["next"]
    theirs = program(OTHER).get(following)
    nobodys = program(OTHER).get(BALANCE, {"cursor": "bm90LWEtdXVpZA=="})
    assert theirs.status_code == nobodys.status_code == 422
    assert theirs.json()["detail"] == nobodys.json()["detail"]


def test_the_limit_for_a_day_is_set_and_taken_away() -> None:
    owner = program(ADDRESS)
    answer = owner.put(LIMIT, {"per_day": "5 IFM"}, format="json")
    assert answer.json() == {"day_limit": amount(5 * IFM, "5 IFM"), "day_used": amount(0, "0 IFM")}
    assert balance_of(ADDRESS).day_limit_base_units == 5 * IFM
    assert owner.put(LIMIT, {"per_day": "0"}, format="json").json()["day_limit"] == amount(
        0, "0 IFM"
    )
    assert owner.put(LIMIT, {"per_day": None}, format="json").json()["day_limit"] is None
    assert balance_of(ADDRESS).day_limit_base_units is None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/per_day"),
        ([{"per_day": "5 IFM"}], ""),
        ({"per_day": 5}, "/per_day"),
        ({"per_day": "-1 IFM"}, "/per_day"),
        ({"per_day": "1e3"}, "/per_day"),
        ({"per_day": "9" * 80}, "/per_day"),
        ({"per_day": "9" * 70}, "/per_day"),
        ({"per_day": ""}, "/per_day"),
        ({"per_day": "1.0000000000000000001"}, "/per_day"),
        ({"per_day": "5 IFM", "per_hour": "1 IFM"}, "/per_hour"),
    ],
)
def test_a_limit_that_is_none_is_refused_at_its_field(body: object, pointer: str) -> None:
    answer = program(ADDRESS).put(LIMIT, body, format="json")
    assert answer.status_code == 422
    assert pointers(answer) == [pointer]
    assert balance_of(ADDRESS).day_limit_base_units is None


def test_who_reads_usage_reads_the_balance_and_moves_nothing() -> None:
    reader = program(ADDRESS, "read:usage")
    assert reader.get(BALANCE).status_code == 200
    assert reader.put(LIMIT, {"per_day": None}, format="json").status_code == 403
    assert program(ADDRESS, "invoke").get(BALANCE).status_code == 403
    assert APIClient().get(BALANCE).status_code == 401
    assert APIClient().put(LIMIT, {"per_day": None}, format="json").status_code == 401
