"""The books in the admin portal: to read, and by staff alone."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from billing.ledger import models as ledger
from billing.ledger import services
from billing.ledger.models import Account, Reason
from billing.ledger.services import HoldRequest, Settling
from inframind.identity.models import Wallet
from tests.billing.ledger.books import ADDRESS, OTHER, WALLET, give, sums
from tests.inframind.identity.browsing import browser_of, page_of, verified

pytestmark = pytest.mark.django_db
TABLES = ["account", "transfer", "hold", "holdending", "lease"]


@pytest.fixture
def desk() -> Client:
    """Staff's browser, and books with a row in every table."""
    give(ADDRESS, 10)
    hold = HoldRequest(uuid4(), WALLET, "treasury", 4, Reason.ESCROW, "bounty:7")
    services.hold([hold])
    services.settle([Settling(hold.id, uuid4(), 1)])
    ledger.Lease.objects.create(
        id=uuid4(),
        account=Account.objects.get(code=WALLET),
        process="test",
        amount_base_units=1,
        day="2999-01-01",
        expires_at="2999-01-01T00:00:00Z",
    )
    staff = Wallet.objects.of(OTHER)
    staff.is_staff = True
    staff.save()
    return verified(staff)


@pytest.mark.parametrize("table", TABLES)
def test_staff_read_every_table_and_find_rows_by_account(desk: Client, table: str) -> None:
    address = reverse(f"admin:ledger_{table}_changelist")
    assert desk.get(address).status_code == 200
    searched = desk.get(address, {"q": WALLET if table != "holdending" else str(uuid4())})
    assert searched.status_code == 200
    row = ledger.__dict__[_class_of(table)].objects.first()
    page = desk.get(reverse(f"admin:ledger_{table}_change", args=[row.pk]))
    assert page.status_code == 200
    assert 'name="_save"' not in page_of(page)


@pytest.mark.parametrize("table", TABLES)
def test_nobody_writes_the_books_there(desk: Client, table: str) -> None:
    row = ledger.__dict__[_class_of(table)].objects.first()
    before = sums(WALLET)
    for verb, arguments in (("add", []), ("change", [row.pk]), ("delete", [row.pk])):
        answer = desk.post(reverse(f"admin:ledger_{table}_{verb}", args=arguments), {"post": "yes"})
        assert answer.status_code == 403
    assert sums(WALLET) == before


def test_to_others_they_are_not_there(desk: Client) -> None:
    stranger = browser_of(Wallet.objects.of(ADDRESS))
    for table in TABLES:
        assert stranger.get(reverse(f"admin:ledger_{table}_changelist")).status_code == 404


def _class_of(table: str) -> str:
    return {"holdending": "HoldEnding"}.get(table, table.capitalize())
