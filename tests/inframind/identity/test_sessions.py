"""Sessions: nothing stored that could be used, rows that stay what they are, revoked for good."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.db import connection, connections
from django.db.models.functions import Now

from inframind.identity.models import Session, Wallet
from inframind.identity.sessions import SessionStore, digest_of
from tests.inframind.identity.signing import Signer, browser, signed_in

pytestmark = pytest.mark.django_db


def kept(**values: object) -> SessionStore:
    store = SessionStore()
    for key, value in values.items():
        store[key] = value
    store.save()
    return store


def test_what_is_saved_is_loaded_by_the_cookie() -> None:
    store = kept(colour="green")
    assert SessionStore(store.session_key)["colour"] == "green"
    assert SessionStore("unknown" * 5).get("colour") is None


def test_no_column_holds_the_cookie() -> None:
    store = kept(colour="green")
    with connection.cursor() as cursor:
        cursor.execute("SELECT s::text FROM identity_session s")
        [(row,)] = cursor.fetchall()
    assert str(store.session_key) not in row
    assert digest_of(str(store.session_key)) in row


def test_the_digest_in_the_table_is_no_cookie() -> None:
    store = kept(colour="green")
    assert SessionStore(digest_of(str(store.session_key))).get("colour") is None


def test_a_session_says_whose_it_is_and_where_it_was_opened() -> None:
    signer = Signer.fresh()
    client = signed_in(signer, user_agent="Firefox\x00 " + "x" * 300)
    [row] = Session.objects.all()
    assert row.wallet_id == signer.address
    assert row.user_agent == ("Firefox\x00 " + "x" * 300)[:200].replace("\x00", "")
    assert str(row.remote_address) == client.defaults["REMOTE_ADDR"]


def test_an_address_that_is_none_is_not_kept() -> None:
    client = signed_in(Signer.fresh())
    client.defaults["REMOTE_ADDR"] = "unix:"
    assert client.get("/publish").status_code == 200


def test_saving_again_changes_no_time_of_the_row() -> None:
    store = kept(colour="green")
    long_ago = Now() - timedelta(days=3)
    Session.objects.update(created_at=long_ago, last_seen_at=long_ago)
    before = Session.objects.get()
    store["colour"] = "blue"
    store.save()
    after = Session.objects.get()
    assert (after.created_at, after.last_seen_at) == (before.created_at, before.last_seen_at)
    assert SessionStore(store.session_key)["colour"] == "blue"


def test_last_use_is_noted_at_most_once_a_minute() -> None:
    store = kept(colour="green")
    first = Session.objects.get().last_seen_at
    SessionStore(store.session_key).load()
    assert Session.objects.get().last_seen_at == first
    Session.objects.update(last_seen_at=Now() - timedelta(minutes=2))
    SessionStore(store.session_key).load()
    assert Session.objects.get().last_seen_at >= first


def test_a_revoked_session_is_not_brought_back_by_a_request_under_way() -> None:
    store = kept(colour="green")
    under_way = SessionStore(store.session_key)
    under_way["colour"] = "blue"
    Session.objects.all().delete()
    with pytest.raises(UpdateError):
        under_way.save()
    assert Session.objects.count() == 0


def test_djangos_own_save_would_have_written_over_the_times() -> None:
    """The negative control: one ``save`` of the whole row."""
    store = kept(colour="green")
    Session.objects.update(created_at=Now() - timedelta(days=3))
    before = Session.objects.get().created_at
    row = store.create_model_instance({"colour": "blue"})
    row.save(force_update=True)
    assert Session.objects.get().created_at > before


def test_a_browser_whose_session_was_revoked_meanwhile_is_signed_out() -> None:
    signer = Signer.fresh()
    client = signed_in(signer)
    Session.objects.all().delete()
    page = client.get("/publish")
    assert page.status_code == 200
    assert page.context["request"].user.is_authenticated is False
    assert Session.objects.count() == 0


def test_an_expired_session_is_nobody_and_clearsessions_removes_it() -> None:
    store, other = kept(colour="green"), kept(colour="red")
    Session.objects.filter(pk=digest_of(str(store.session_key))).update(
        expire_date=Now() - timedelta(seconds=1)
    )
    assert SessionStore(store.session_key).get("colour") is None
    call_command("clearsessions", stdout=StringIO())
    assert [row.pk for row in Session.objects.all()] == [digest_of(str(other.session_key))]


def test_a_session_ends_with_its_wallet() -> None:
    signer = Signer.fresh()
    signed_in(signer)
    Wallet.objects.all().delete()
    assert Session.objects.count() == 0


def test_a_closed_wallet_is_signed_out_at_once() -> None:
    signer = Signer.fresh()
    client = signed_in(signer)
    Wallet.objects.update(is_active=False)
    assert client.get("/publish").context["request"].user.is_authenticated is False


@pytest.mark.parametrize("value", ["", "x", "../../etc/passwd", "é" * 200, "x" * 4_000, "a\x00b"])
def test_a_cookie_that_is_none_of_ours_is_a_stranger(value: str) -> None:
    client = browser()
    client.cookies["session"] = value
    page = client.get("/publish")
    assert page.status_code == 200
    assert page.context["request"].user.is_authenticated is False


@pytest.mark.django_db(transaction=True)
def test_it_works_the_same_from_asynchronous_code() -> None:
    async def story() -> tuple[object, bool, bool]:
        store = SessionStore()
        await store.aset("colour", "green")
        await store.asave()
        key = str(store.session_key)
        colour = await SessionStore(key).aget("colour")
        there = await store.aexists(key)
        await store.adelete()
        gone = not await store.aexists(key)
        await sync_to_async(connections.close_all)()
        return colour, there, gone

    assert asyncio.run(story()) == ("green", True, True)
