"""Wallets as users."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from inframind.identity.models import Wallet

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
pytestmark = pytest.mark.django_db


def test_every_spelling_of_an_address_is_one_wallet() -> None:
    assert Wallet.objects.of(ADDRESS.lower()) == Wallet.objects.of(ADDRESS)
    assert Wallet.objects.get().address == ADDRESS


@pytest.mark.parametrize("text", ["", "0x", "0x70997970", ADDRESS[:-1] + "9", "vitalik.eth"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Wallet.objects.of(text)
    assert Wallet.objects.count() == 0


def test_the_database_refuses_a_malformed_address_and_a_second_spelling() -> None:
    Wallet.objects.of(ADDRESS)
    for bad in (ADDRESS.lower(), "0x12"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Wallet.objects.bulk_create([Wallet(address=bad)])
