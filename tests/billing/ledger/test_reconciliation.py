"""Sums that were tampered with are found by name, and mended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from django.db import connection

from billing.ledger import models as ledger
from billing.ledger import reconciliation, services
from billing.ledger.models import Account, HoldEnding, Reason, Transfer
from billing.ledger.reconciliation import Difference
from billing.ledger.services import HoldRequest, InsufficientFunds, Settling
from tests.billing.ledger.books import ADDRESS, OTHER, OTHER_WALLET, WALLET, give, posting, sums

pytestmark = pytest.mark.django_db(transaction=True)

UNPOSTED = {ADDRESS: 6, OTHER: 0}
TRUE = (93, 3, 20, 5)


def differences(unposted: dict[str, int] = UNPOSTED) -> list[Difference]:
    with reconciliation.snapshot():
        return list(reconciliation.differences(unposted))


def rebuild() -> int:
    return reconciliation.rebuild(lambda: UNPOSTED)


@pytest.fixture
def hold_id() -> UUID:
    """Books with everything in them; the id of their hold."""
    give(ADDRESS, 100)
    give(OTHER, 50)
    hold = HoldRequest(uuid4(), WALLET, "treasury", 10, Reason.ESCROW)
    services.hold([hold])
    services.settle([Settling(hold.id, uuid4(), 7)])
    account = Account.objects.get(code=WALLET)
    # As two leases leave them: one ended with 5 spent, one lives with 1 of 20 spent.
    Account.objects.filter(pk=account.pk).update(leased_base_units=20, charged_base_units=5)
    ledger.Lease.objects.create(
        id=uuid4(),
        account=account,
        process="test",
        amount_base_units=20,
        spent_base_units=1,
        day="2999-01-01",
        expires_at="2999-01-01T00:00:00Z",
    )
    return hold.id


@contextmanager
def unwatched(*triggers: str) -> Iterator[None]:
    """Triggers, each as ``table.trigger``, that do not fire meanwhile."""
    with connection.cursor() as cursor:
        for table, _, trigger in (each.partition(".") for each in triggers):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
        try:
            yield
        finally:
            for table, _, trigger in (each.partition(".") for each in triggers):
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")


def test_true_books_have_no_difference(hold_id: UUID) -> None:
    assert differences() == []
    assert rebuild() == 0
    assert sums(WALLET) == TRUE


@pytest.mark.parametrize(
    ("column", "found"), [("posted", 95), ("held", 5), ("leased", 22), ("charged", 7)]
)
def test_a_sum_that_was_tampered_with_is_named_and_mended(
    hold_id: UUID, column: str, found: int
) -> None:
    with unwatched("ledger_account.account_sums_kept"):
        Account.objects.filter(code=WALLET).update(**{f"{column}_base_units": found})
    named = [each for each in differences() if each.row == WALLET]
    true = dict(zip(("posted", "held", "leased", "charged"), TRUE, strict=True))
    assert named == [Difference(WALLET, column, true[column], found)]
    assert str(named[0]) == f"{WALLET}: {column} is {found}, and should be {true[column]}"
    assert rebuild() == 1
    assert sums(WALLET) == TRUE
    assert differences() == []


def test_money_out_of_nothing_shows_in_the_sum_of_all_accounts(hold_id: UUID) -> None:
    with unwatched("ledger_account.account_sums_kept"):
        Account.objects.filter(code=OTHER_WALLET).update(posted_base_units=51)
    assert differences() == [
        Difference(OTHER_WALLET, "posted", 50, 51),
        Difference("all accounts", "posted", 0, 1),
    ]


def test_the_rest_of_a_hold_is_compared_and_mended(hold_id: UUID) -> None:
    with unwatched("ledger_hold.hold_rest_kept"):
        ledger.Hold.objects.update(remaining_base_units=4)
    assert differences() == [Difference(f"hold {hold_id}", "remaining", 3, 4)]
    assert rebuild() == 1
    assert differences() == []


def test_without_the_trigger_of_transfers_the_accounts_are_named(hold_id: UUID) -> None:
    with unwatched("ledger_transfer.transfers_posted"):
        services.post([posting("chain", OTHER_WALLET, 3)])
    assert differences() == [
        Difference("chain", "posted", -153, -150),
        Difference(OTHER_WALLET, "posted", 53, 50),
    ]
    assert rebuild() == 2
    assert differences() == []


def test_without_the_triggers_of_holds_the_rows_are_named(hold_id: UUID) -> None:
    with unwatched("ledger_hold.holds_held", "ledger_holdending.holds_ended"):
        services.hold([HoldRequest(uuid4(), OTHER_WALLET, "chain", 3, Reason.WITHDRAWAL)])
        services.void([hold_id])
    assert differences() == [
        Difference(WALLET, "held", 0, 3),
        Difference(OTHER_WALLET, "held", 3, 0),
        Difference(f"hold {hold_id}", "remaining", 0, 3),
    ]
    assert rebuild() == 3
    assert differences() == []


def test_a_settled_part_that_moved_something_else_is_named(hold_id: UUID) -> None:
    moved = posting(WALLET, OTHER_WALLET, 2)
    services.post([moved])
    ending = HoldEnding.objects.create(
        hold_id=hold_id, kind="settled", amount_base_units=2, transfer_id=moved.id
    )
    assert differences() == [Difference(f"ending {ending.pk}", "transfer", 2, 0)]


def test_fees_that_are_not_charged_are_named(hold_id: UUID) -> None:
    stranger = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
    assert differences({ADDRESS: 8, OTHER: 1, stranger: 2}) == [
        Difference(WALLET, "charged", 7, 5),
        Difference(OTHER_WALLET, "charged", 1, 0),
        Difference(f"wallet:{stranger}", "charged", 2, 0),
    ]
    assert differences({}) == [Difference(WALLET, "charged", -1, 5)]


def test_facts_below_a_floor_are_not_mended_but_named(hold_id: UUID) -> None:
    account, other = (Account.objects.get(code=code) for code in (OTHER_WALLET, "treasury"))
    with unwatched("ledger_transfer.transfers_posted"):
        Transfer.objects.create(
            id=uuid4(), debit=account, credit=other, amount_base_units=60, reason="grant"
        )
    with pytest.raises(InsufficientFunds) as caught:
        rebuild()
    assert caught.value.account == OTHER_WALLET
    assert Difference(OTHER_WALLET, "posted", -10, 50) in differences()


def test_a_snapshot_sees_one_moment_and_writes_nothing(hold_id: UUID) -> None:
    def elsewhere() -> None:
        try:
            give(OTHER, 5)
        finally:
            connection.close()

    with reconciliation.snapshot():
        before = sums(OTHER_WALLET)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(elsewhere).result()
        assert sums(OTHER_WALLET) == before
        assert list(reconciliation.differences(UNPOSTED)) == []
    assert sums(OTHER_WALLET) != before


def test_books_that_are_written_meanwhile_differ_at_no_moment(hold_id: UUID) -> None:
    stop = threading.Event()

    def work() -> int:
        done = 0
        try:
            while not stop.is_set():
                hold = HoldRequest(uuid4(), OTHER_WALLET, "treasury", 2, Reason.ESCROW)
                services.hold([hold])
                services.settle([Settling(hold.id, uuid4(), 1, release_rest=True)])
                services.post([posting("treasury", OTHER_WALLET, 1)])
                done += 1
        finally:
            connection.close()
        return done

    with ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(work) for _ in range(2)]
        try:
            found = [differences() for _ in range(20)]
            mended = [rebuild() for _ in range(10)]
        finally:
            stop.set()
        assert min(each.result() for each in workers) > 0
    assert found == [[]] * 20
    assert mended == [0] * 10
    assert differences() == []
