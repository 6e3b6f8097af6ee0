"""Holds: set aside, settled in parts, given back, expired; each once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from billing.ledger import services
from billing.ledger.models import Hold, HoldEnding, Reason, Transfer
from billing.ledger.services import HoldRequest, InsufficientFunds, Settling
from inframind.lib.problem import Problem
from tests.billing.ledger.books import ADDRESS, OTHER_WALLET, WALLET, give, posting, sums

pytestmark = pytest.mark.django_db


def request(amount: int, *, debit: str = WALLET, seconds: float | None = None) -> HoldRequest:
    expires_at = None if seconds is None else timezone.now() + timedelta(seconds=seconds)
    return HoldRequest(uuid4(), debit, "chain", amount, Reason.WITHDRAWAL, "withdrawal", expires_at)


def held(*amounts: int) -> list[UUID]:
    requests = [request(amount) for amount in amounts]
    services.hold(requests)
    return [each.id for each in requests]


def refused(settlings: list[Settling]) -> tuple[int, str]:
    before = (Transfer.objects.count(), HoldEnding.objects.count(), sums(WALLET))
    with pytest.raises(Problem) as caught:
        services.settle(settlings)
    assert (Transfer.objects.count(), HoldEnding.objects.count(), sums(WALLET)) == before
    return caught.value.status, caught.value.code


def test_a_hold_sets_money_aside_that_nothing_else_can_take() -> None:
    give(ADDRESS, 10)
    assert services.hold([request(4), request(3)]) == 2
    assert sums(WALLET) == (10, 7, 0, 0)
    with pytest.raises(InsufficientFunds) as caught:
        services.hold([request(1), request(3)])
    assert (caught.value.account, caught.value.available_base_units) == (WALLET, 3)
    with pytest.raises(InsufficientFunds):
        services.post([posting(WALLET, OTHER_WALLET, 4)])
    assert sums(WALLET) == (10, 7, 0, 0)


def test_the_same_hold_again_holds_nothing_and_another_content_is_refused() -> None:
    give(ADDRESS, 10)
    first = request(4, seconds=60)
    assert services.hold([first, first]) == 1
    assert services.hold([first]) == 0
    for other in (
        dataclasses.replace(first, amount_base_units=5),
        dataclasses.replace(first, expires_at=None),
        dataclasses.replace(first, debit=OTHER_WALLET),
    ):
        with pytest.raises(Problem) as caught:
            services.hold([request(1), other])
        assert (caught.value.status, caught.value.code) == (409, "hold-differs")
    assert sums(WALLET) == (10, 4, 0, 0)


def test_a_hold_of_all_there_is_settles_in_parts_and_gives_the_rest_back() -> None:
    give(ADDRESS, 10)
    [hold] = held(10)
    first, second = Settling(hold, uuid4(), 3), Settling(hold, uuid4(), 5, release_rest=True)
    assert services.settle([first]) == 1
    assert sums(WALLET) == (7, 7, 0, 0)
    assert services.settle([first, second]) == 1
    assert services.settle([first, second]) == 0
    assert sums(WALLET) == (2, 0, 0, 0)
    assert sums("chain") == (-2, 0, 0, 0)
    kinds = HoldEnding.objects.order_by("amount_base_units").values_list("kind", flat=True)
    assert list(kinds) == ["released", "settled", "settled"]


def test_what_remains_settles_whole_and_once() -> None:
    give(ADDRESS, 10)
    [hold] = held(6)
    settling = Settling(hold, uuid4())
    assert services.settle([settling, settling]) == 1
    assert services.settle([settling]) == 0
    assert sums(WALLET) == (4, 0, 0, 0)
    assert refused([Settling(hold, uuid4())]) == (409, "hold-ended")


def test_more_than_remains_is_refused_with_all_of_its_batch() -> None:
    give(ADDRESS, 10)
    one, two = held(3, 4)
    batch = [Settling(one, uuid4(), 3), Settling(two, uuid4(), 2), Settling(two, uuid4(), 3)]
    assert refused(batch) == (409, "hold-ended")
    assert refused([batch[0], Settling(uuid4(), uuid4())]) == (404, "not-found")
    assert refused([Settling(one, uuid4(), 0)]) == (409, "hold-ended")


def test_the_id_of_another_transfer_settles_nothing() -> None:
    give(ADDRESS, 10)
    one, two = held(3, 3)
    done = Settling(one, uuid4(), 2)
    services.settle([done])
    taken = posting("chain", WALLET, 1)
    services.post([taken])
    for settling in (
        dataclasses.replace(done, hold_id=two),
        dataclasses.replace(done, amount_base_units=1),
        dataclasses.replace(done, release_rest=True),
        Settling(two, taken.id, 1),
    ):
        assert refused([settling]) == (409, "transfer-differs")


def test_released_and_voided_holds_come_back_once() -> None:
    give(ADDRESS, 10)
    one, two, three = held(2, 3, 4)
    services.settle([Settling(two, uuid4(), 1)])
    assert services.release([one, two, one]) == 2
    assert services.release([one, two]) == 0
    assert services.void([one, two, three]) == 1
    assert sums(WALLET) == (9, 0, 0, 0)
    with pytest.raises(Problem) as caught:
        services.release([three, uuid4()])
    assert caught.value.status == 404


def test_expired_holds_come_back_and_others_stay() -> None:
    give(ADDRESS, 10)
    due, later, ever = request(2, seconds=-1), request(3, seconds=60), request(4)
    services.hold([due, later, ever])
    assert services.expire_due() == 1
    assert services.expire_due() == 0
    assert sums(WALLET) == (10, 7, 0, 0)
    assert HoldEnding.objects.get().kind == HoldEnding.Kind.EXPIRED
    assert Hold.objects.get(pk=due.id).remaining_base_units == 0


def test_a_time_without_zone_is_no_time() -> None:
    naive = dataclasses.replace(request(1), expires_at=timezone.now().replace(tzinfo=None))
    with pytest.raises(Problem) as caught:
        services.hold([naive])
    assert (caught.value.status, caught.value.code) == (400, "transfer-malformed")
