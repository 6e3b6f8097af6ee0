"""The door of the admin portal, and what staff find behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from inframind.identity import second_factor
from inframind.identity.admin_site import Guarded
from inframind.identity.models import Seat, Session, Wallet
from inframind.identity.sessions import SessionStore

from .browsing import OTHER, OWNER, THIRD, browser_of, enrolled, page_of, verified

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> Wallet:
    wallet = Wallet.objects.of(OWNER)
    wallet.is_staff = True
    wallet.save()
    return wallet


@pytest.fixture
def desk(staff: Wallet) -> Client:
    """Staff's browser, with the second factor shown."""
    return verified(staff)


def addresses() -> list[str]:
    """Every page of the portal, made from its patterns."""
    return sorted(set(_walk(get_resolver().url_patterns, "/")))


def _walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    for each in patterns:
        text = re.sub(r"<uuid:\w+>", "0190a000-0000-7000-8000-000000000000", str(each.pattern))
        # The two that are expressions: the page of an app, and everything else.
        text = re.sub(r"\^\(\?P<app_label>([a-z_]+)[^)]*\)/\$", r"\1/", text)
        text = text.replace("(?P<url>.*)$", "nowhere")
        text = re.sub(r"<\w+:\w+>|<\w+>", "1", text)
        path = prefix + text
        if not path.startswith("/admin/"):
            continue
        if isinstance(each, URLResolver):
            yield from _walk(each.url_patterns, path)
        else:
            yield path


def test_the_walk_finds_the_portal() -> None:
    found = addresses()
    assert "/admin/" in found
    assert "/admin/identity/seat/1/end/" in found
    assert len(found) > 100


def test_a_stranger_is_sent_to_sign_in_from_every_page() -> None:
    client = Client()
    for path in addresses():
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert answer.headers["Location"].startswith("/signin?next=%2Fadmin%2F"), path
        assert client.post(path).status_code == 302, path


def test_to_a_wallet_without_a_role_it_is_not_there() -> None:
    client = browser_of(Wallet.objects.of(OTHER))
    nowhere = client.get("/nowhere/")
    for path in addresses():
        for answer in (client.get(path), client.post(path)):
            assert answer.status_code == 404, path
            expected = page_of(nowhere).replace("/nowhere/", path)
            assert _bare(page_of(answer)) == _bare(expected), path


def _bare(page: str) -> str:
    """Without what belongs to one request."""
    return re.sub(r'[0-9a-f]{32}|value="[0-9A-Za-z]{64}"', "", page)


def test_staff_without_the_second_factor_read_not_one_page(staff: Wallet) -> None:
    client = browser_of(staff)
    for path in addresses():
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert answer.headers["Location"].startswith("/account/second-factor?next="), path
    enrolled(staff)
    for path in addresses():
        for answer in (client.get(path), client.post(path)):
            assert answer.status_code == 302, path
            assert answer.headers["Location"].startswith("/account/verify?next="), path


def test_staff_come_in_by_wallet_and_code(staff: Wallet) -> None:
    [code, *_] = enrolled(staff)
    client = browser_of(staff)
    sent = client.get("/admin/identity/wallet/?q=a").headers["Location"]
    assert sent == "/account/verify?next=%2Fadmin%2Fidentity%2Fwallet%2F%3Fq%3Da"
    assert client.get(sent).status_code == 200
    answer = client.post(sent, {"code": code})
    assert answer.headers["Location"] == "/admin/identity/wallet/?q=a"
    assert client.get("/admin/identity/wallet/?q=a").status_code == 200


def test_every_table_opens_for_staff_and_none_is_outside_the_rules(desk: Client) -> None:
    for model, table in admin.site._registry.items():
        assert isinstance(table, Guarded), model
        opts = model._meta
        listing = f"/admin/{opts.app_label}/{opts.model_name}/"
        assert desk.get(listing).status_code == 200, listing
        assert desk.get(f"{listing}?q=abc").status_code in (200, 302), listing
        assert desk.get(f"{listing}add/").status_code in (200, 403), listing
    assert not {TOTPDevice, StaticDevice} & set(admin.site._registry)


def test_there_is_no_password_form_anywhere(desk: Client) -> None:
    for path in ("/admin/password_change/", "/admin/password_change/done/"):
        assert desk.get(path).status_code == 404
    for path in ("/admin/", "/admin/identity/wallet/", f"/admin/identity/wallet/{OWNER}/change/"):
        page = page_of(desk.get(path))
        assert "password" not in page.lower(), path
    assert Client().get("/admin/login/").status_code == 302
    assert Client().post("/admin/login/", {"username": OWNER, "password": "x"}).status_code == 302
    assert desk.get("/admin/login/").headers["Location"] == "/admin/"


def test_the_powers_end_with_the_role_at_once(desk: Client, staff: Wallet) -> None:
    assert desk.get("/admin/").status_code == 200
    Wallet.objects.update(is_staff=False)
    assert desk.get("/admin/").status_code == 404


def test_the_powers_end_with_the_second_factor_at_once(desk: Client, staff: Wallet) -> None:
    second_factor.remove(wallet=staff)
    assert desk.get("/admin/").headers["Location"].startswith("/account/second-factor")


def test_signing_out_ends_the_session(desk: Client, staff: Wallet) -> None:
    assert desk.get("/admin/logout/").status_code == 302
    assert desk.get("/admin/").status_code == 200
    assert desk.post("/admin/logout/").headers["Location"] == "/"
    assert desk.get("/admin/").headers["Location"].startswith("/signin")


def test_a_wallet_is_closed_for_a_reason_that_is_logged(desk: Client, staff: Wallet) -> None:
    other = browser_of(Wallet.objects.of(OTHER))
    path = f"/admin/identity/wallet/{OTHER}/change/"
    assert "This field is required" in page_of(desk.post(path, {"display_name": "Mallory"}))
    assert Wallet.objects.get(pk=OTHER).is_active
    answer = desk.post(path, {"display_name": "Mallory", "is_staff": "on", "reason": "Spam."})
    assert answer.status_code == 302
    closed = Wallet.objects.get(pk=OTHER)
    assert (closed.is_active, closed.is_staff, closed.display_name) == (False, False, "Mallory")
    entry = LogEntry.objects.get()
    assert (entry.user_id, entry.object_id) == (OWNER, OTHER)
    assert "Spam." in entry.get_change_message()
    assert other.get("/account").status_code == 302
    assert "Spam." in page_of(desk.get("/admin/admin/logentry/"))


def test_a_curator_is_appointed_and_the_seat_ended(desk: Client, staff: Wallet) -> None:
    add = "/admin/identity/seat/add/"
    form = {"wallet": THIRD.lower(), "ends_at_0": "", "ends_at_1": "", "reason": "Knows speech."}
    assert desk.post(add, form).status_code == 302
    seat = Seat.objects.get()
    assert (seat.wallet_id, seat.granted_by, seat.reason) == (THIRD, staff, "Knows speech.")
    again = desk.post(add, form, follow=True)
    assert "already" in page_of(again)
    assert Seat.objects.count() == 1
    change = page_of(desk.get(f"/admin/identity/seat/{seat.pk}/change/"))
    assert 'href="../end/"' in change
    end = f"/admin/identity/seat/{seat.pk}/end/"
    assert "End this seat" in page_of(desk.get(end))
    assert desk.post(end, {"verb": "end", "reason": ""}).status_code == 422
    assert desk.post(end, {"verb": "end", "reason": "Term is over."}).status_code == 302
    seat.refresh_from_db()
    assert (seat.end_reason, seat.ended_by) == ("Term is over.", staff)
    assert desk.post(end, {"verb": "end", "reason": "Twice."}).status_code == 422
    reasons = {each.get_change_message() for each in LogEntry.objects.all()}
    assert reasons == {"Appointed: Knows speech.", "End this seat: Term is over."}
    assert 'href="../end/"' not in page_of(desk.get(f"/admin/identity/seat/{seat.pk}/change/"))


@pytest.mark.parametrize(
    "form",
    [
        {"wallet": "0x12", "reason": "r"},
        {"wallet": THIRD, "reason": ""},
        {"wallet": THIRD, "reason": "r", "ends_at_0": "yesterday", "ends_at_1": "x"},
        {"wallet": THIRD, "reason": "r", "ends_at_0": "2020-01-01", "ends_at_1": "00:00"},
    ],
)
def test_a_seat_that_cannot_be_is_refused_on_the_form(desk: Client, form: dict[str, str]) -> None:
    answer = desk.post("/admin/identity/seat/add/", form, follow=True)
    assert answer.status_code == 200
    assert "error" in page_of(answer)
    assert Seat.objects.count() == 0


def test_seats_tokens_and_sessions_are_not_rewritten(desk: Client, staff: Wallet) -> None:
    seat = Seat.objects.create(wallet=staff, role="curator", reason="As it was.")
    for path in (
        f"/admin/identity/seat/{seat.pk}/change/",
        f"/admin/identity/seat/{seat.pk}/delete/",
        "/admin/identity/token/add/",
        f"/admin/identity/wallet/{OWNER}/delete/",
        "/admin/identity/session/add/",
    ):
        assert desk.post(path, {"reason": "Rewritten.", "post": "yes"}).status_code == 403, path
    seat.refresh_from_db()
    assert seat.reason == "As it was."


def test_no_page_shows_what_a_session_or_a_second_factor_is_made_of(
    desk: Client, staff: Wallet
) -> None:
    key = desk.cookies["session"].value
    row = Session.objects.get(wallet=staff)
    data = SessionStore(key).load()
    page = page_of(desk.get(f"/admin/identity/session/{row.pk}/change/"))
    assert data["_auth_user_hash"] not in page
    assert row.session_data not in page
    assert key not in page
    device = TOTPDevice.objects.get(user=staff)
    for path in (f"/admin/identity/wallet/{OWNER}/change/", "/admin/identity/session/"):
        assert device.key not in page_of(desk.get(path))


def test_the_forms_of_the_portal_need_their_safety_mark(desk: Client, staff: Wallet) -> None:
    seat = Seat.objects.create(wallet=staff, role="curator", reason="r")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = desk.cookies
    for path in (
        "/admin/identity/seat/add/",
        f"/admin/identity/seat/{seat.pk}/end/",
        f"/admin/identity/wallet/{OTHER}/change/",
        "/admin/logout/",
    ):
        assert strict.post(path, {"verb": "end", "reason": "r"}).status_code == 403, path
    seat.refresh_from_db()
    assert seat.ends_at is None


def test_the_portal_keeps_our_content_policy(desk: Client, staff: Wallet) -> None:
    seat = Seat.objects.create(wallet=staff, role="curator", reason="r")
    for path in ("/admin/", "/admin/identity/seat/add/", f"/admin/identity/seat/{seat.pk}/end/"):
        page = page_of(desk.get(path))
        assert not re.search(r'<style|\sstyle="|\son[a-z]+="', page), path


def test_who_may_enter_may_not_therefore_ask_which_rows_there_are(desk: Client) -> None:
    assert desk.get("/admin/r/1/1/").status_code == 404
    assert not any(path.startswith("/admin/r/") for path in addresses())


def test_a_change_leaves_alone_what_moved_on_meanwhile(desk: Client, staff: Wallet) -> None:
    other = Wallet.objects.of(OTHER)
    table = admin.site.get_model_admin(Wallet)
    seen = Wallet.objects.get(pk=other.pk)
    Wallet.objects.filter(pk=other.pk).update(session_serial=7)
    form = table.get_form(request_by(staff), seen)(
        {"display_name": "Ada", "is_active": "on", "reason": "So."}, instance=seen
    )
    assert form.is_valid()
    table.save_model(request_by(staff), form.save(commit=False), form, change=True)
    other.refresh_from_db()
    assert (other.display_name, other.session_serial) == ("Ada", 7)


def request_by(wallet: Wallet) -> HttpRequest:
    request = HttpRequest()
    request.user = wallet
    return request
