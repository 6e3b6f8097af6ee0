"""What the database itself refuses, whoever asks."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from billing.ledger import services
from billing.ledger.models import Account, Hold, HoldEnding, Reason, Transfer
from billing.ledger.services import HoldRequest, Settling
from tests.billing.ledger.books import ADDRESS, OTHER_WALLET, WALLET, give, posting, sums


@pytest.fixture
def books(db: None) -> HoldRequest:
    """A wallet with 10, of which 4 are held and 1 of those is settled."""
    give(ADDRESS, 10)
    hold = HoldRequest(uuid4(), WALLET, "treasury", 4, Reason.ESCROW)
    services.hold([hold])
    services.settle([Settling(hold.id, uuid4(), 1)])
    return hold


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_transfer SET amount_base_units = amount_base_units + 1",
        "UPDATE ledger_transfer SET subject = 'other'",
        "DELETE FROM ledger_transfer",
        "UPDATE ledger_holdending SET kind = 'voided'",
        "DELETE FROM ledger_holdending",
        "UPDATE ledger_hold SET amount_base_units = 9",
        "UPDATE ledger_hold SET expires_at = now()",
        "UPDATE ledger_hold SET remaining_base_units = 2",
        "DELETE FROM ledger_hold",
        "UPDATE ledger_account SET code = 'wallet:other' WHERE code = 'treasury'",
        "UPDATE ledger_account SET kind = 'escrow'",
        "UPDATE ledger_account SET floor_base_units = NULL",
        "UPDATE ledger_account SET floor_base_units = -5",
        "UPDATE ledger_account SET posted_base_units = posted_base_units + 1",
        "UPDATE ledger_account SET held_base_units = 0",
        "DELETE FROM ledger_account",
    ],
)
def test_the_books_are_not_rewritten(books: HoldRequest, statement: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert sums(WALLET) == (9, 3, 0, 0)


def test_an_account_begins_empty(books: HoldRequest) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.create(code="escrow:gift", kind="escrow", posted_base_units=5)


@pytest.mark.parametrize("name", ["transfer", "ending"])
def test_rows_that_services_did_not_write_are_counted_too(books: HoldRequest, name: str) -> None:
    wallet, treasury = (Account.objects.get(code=code) for code in (WALLET, "treasury"))
    if name == "transfer":
        Transfer.objects.bulk_create(
            Transfer(id=uuid4(), debit=wallet, credit=treasury, amount_base_units=2, reason="grant")
            for _ in range(3)
        )
        assert sums(WALLET) == (3, 3, 0, 0)
    else:
        HoldEnding.objects.bulk_create(
            HoldEnding(hold_id=books.id, kind="voided", amount_base_units=1) for _ in range(3)
        )
        assert sums(WALLET) == (9, 0, 0, 0)
        assert Hold.objects.get().remaining_base_units == 0


def test_no_hold_ends_twice_whatever_is_inserted(books: HoldRequest) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        HoldEnding.objects.create(hold_id=books.id, kind="voided", amount_base_units=4)
    assert sums(WALLET) == (9, 3, 0, 0)


def test_no_account_goes_below_its_floor_whatever_is_inserted(books: HoldRequest) -> None:
    wallet, treasury = (Account.objects.get(code=code) for code in (WALLET, "treasury"))
    with pytest.raises(IntegrityError), transaction.atomic():
        Transfer.objects.create(
            id=uuid4(), debit=wallet, credit=treasury, amount_base_units=7, reason="grant"
        )
    assert sums(WALLET) == (9, 3, 0, 0)


def test_a_hold_begins_whole(books: HoldRequest) -> None:
    wallet, treasury = (Account.objects.get(code=code) for code in (WALLET, "treasury"))
    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.create(
            id=uuid4(),
            debit=wallet,
            credit=treasury,
            amount_base_units=2,
            remaining_base_units=1,
            reason="escrow",
        )


def test_a_large_batch_updates_each_account_once(books: HoldRequest) -> None:
    services.post([posting("chain", OTHER_WALLET, 1)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_get_xact_tuples_updated('ledger_account'::regclass)")
        [before] = cursor.fetchone()
        services.post([posting("chain", OTHER_WALLET, 1) for _ in range(500)])
        cursor.execute("SELECT pg_stat_get_xact_tuples_updated('ledger_account'::regclass)")
        [after] = cursor.fetchone()
    assert after - before == 2
