"""Wallets as users, and the staff entry."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client

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


def entry_link() -> str:
    out = StringIO()
    call_command("staff_link", wallet=ADDRESS, stdout=out)
    return out.getvalue().strip().removeprefix("http://127.0.0.1:8000")


def test_a_staff_link_enters_once_and_looking_at_it_does_not_use_it_up() -> None:
    link = entry_link()
    assert Client().get(link).status_code == 200
    first = Client()
    assert first.post(link).headers["Location"] == "/admin/"
    assert first.get("/admin/").status_code == 200
    second = Client()
    assert second.post(link).status_code == 404
    assert second.get("/admin/").status_code == 302


def test_a_staff_link_dies_with_the_staff_role() -> None:
    link = entry_link()
    Wallet.objects.update(is_staff=False)
    assert Client().post(link).status_code == 404


def test_raising_the_session_serial_ends_every_session() -> None:
    client = Client()
    client.post(entry_link())
    Wallet.objects.update(session_serial=1)
    assert client.get("/admin/").status_code == 302


def test_the_admin_has_no_password_form() -> None:
    page = Client().get("/admin/login/").content.decode()
    assert "staff_link" in page
    assert 'type="password"' not in page
