"""Transfers: batches, ids, floors."""

from __future__ import annotations

import dataclasses

import pytest

from billing.ledger import services
from billing.ledger.models import Account, Transfer
from billing.ledger.services import InsufficientFunds
from inframind.lib.problem import Problem
from tests.billing.ledger.books import ADDRESS, OTHER_WALLET, WALLET, give, posting, sums

pytestmark = pytest.mark.django_db


def test_a_batch_moves_money_between_accounts_that_it_opens() -> None:
    batch = [posting("chain", WALLET, 100), posting(WALLET, OTHER_WALLET, 30)]
    assert services.post(batch) == 2
    assert sums("chain") == (-100, 0, 0, 0)
    assert sums(WALLET) == (70, 0, 0, 0)
    assert sums(OTHER_WALLET) == (30, 0, 0, 0)
    assert Account.objects.get(code=WALLET).wallet_id == ADDRESS


def test_the_same_batch_again_moves_nothing() -> None:
    batch = [posting("chain", WALLET, 100), posting(WALLET, OTHER_WALLET, 30)]
    services.post(batch)
    assert services.post([*batch, batch[0], posting(WALLET, "treasury", 1)]) == 1
    assert sums(WALLET) == (69, 0, 0, 0)


def test_an_id_with_another_content_is_refused_with_all_of_its_batch() -> None:
    first = posting("chain", WALLET, 100)
    services.post([first])
    for other in (
        dataclasses.replace(first, amount_base_units=101),
        dataclasses.replace(first, credit=OTHER_WALLET),
        dataclasses.replace(first, subject="other"),
    ):
        with pytest.raises(Problem) as caught:
            services.post([posting("chain", WALLET, 5), other])
        assert (caught.value.status, caught.value.code) == (409, "transfer-differs")
        with pytest.raises(Problem):
            services.post([dataclasses.replace(first, id=other.id), other])
    assert Transfer.objects.count() == 1
    assert sums(WALLET) == (100, 0, 0, 0)


def test_more_than_there_is_is_refused_by_the_name_of_the_account() -> None:
    give(ADDRESS, 10)
    with pytest.raises(InsufficientFunds) as caught:
        services.post([posting("chain", OTHER_WALLET, 5), posting(WALLET, "treasury", 11)])
    assert (caught.value.status, caught.value.account) == (402, WALLET)
    assert caught.value.available_base_units == 10
    assert sums(WALLET) == (10, 0, 0, 0)
    assert not Account.objects.filter(code=OTHER_WALLET).exists()


def test_what_was_charged_is_posted_without_a_change_of_what_is_available() -> None:
    give(ADDRESS, 10)
    batch = [posting(WALLET, "epoch:1", 4), posting(WALLET, "epoch:1", 3)]
    assert services.post(batch, charged=True) == 2
    assert sums(WALLET) == (3, 0, 0, -7)
    assert services.post(batch, charged=True) == 0
    assert sums(WALLET) == (3, 0, 0, -7)
