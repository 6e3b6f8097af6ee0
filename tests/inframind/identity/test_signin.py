"""Signing in: one message, one signature, one session; and everything that is no sign-in."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.test import Client

from inframind.identity import signin
from inframind.identity.models import Session, SignInNonce, Wallet
from inframind.identity.sessions import SessionStore
from inframind.identity.tasks import sweep
from inframind.identity.views import own_path
from inframind.lib import siwe
from inframind.lib.problem import Problem
from tests.inframind.identity.signing import (
    Signer,
    answer,
    ask,
    browser,
    line,
    message_on,
    signed_in,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def signer() -> Signer:
    return Signer.fresh()


def who(client: Client) -> str | None:
    """The address that this browser is signed in as."""
    cookie = client.cookies.get("session")
    return SessionStore(cookie.value).get("_auth_user_id") if cookie and cookie.value else None


def refusal(act: Callable[[], Any]) -> Problem:
    with pytest.raises(Problem) as caught:
        act()
    return caught.value


def enter(message: str, signature: str, **changes: Any) -> str:
    given: dict[str, Any] = {
        "message": message,
        "signature": signature,
        "yields": lambda wallet: wallet.address,
        "remote_address": line(),
    }
    return str(signin.sign_in(**{**given, **changes}))


def issued(signer: Signer, **changes: Any) -> str:
    row = signin.issue_nonce(remote_address=line(), browser=changes.pop("browser", ""))
    made = signin.message_for(row, signer.address)
    return str(siwe.Message(**{**made.__dict__, **changes}))


def test_a_signed_message_opens_a_session_of_its_wallet(signer: Signer) -> None:
    client = browser()
    message = ask(client, signer.address.lower())
    response = answer(client, message, signer.sign(message))
    assert (response.status_code, response.headers["Location"]) == (302, "/account")
    assert who(client) == signer.address
    assert Wallet.objects.get(pk=signer.address).last_login is not None


def test_the_message_names_this_place_and_says_that_it_is_free(signer: Signer) -> None:
    parsed = siwe.parse(ask(browser(), signer.address))
    assert (parsed.domain, parsed.uri) == ("127.0.0.1:8000", "http://127.0.0.1:8000/signin")
    assert (parsed.chain_id, parsed.version) == (settings.CHAIN_ID, "1")
    assert "free" in (parsed.statement or "")
    assert siwe.moment(parsed.expiration_time or "") - siwe.moment(parsed.issued_at) == timedelta(
        seconds=settings.SIGN_IN_NONCE_SECONDS
    )


def test_the_page_offers_the_command_with_the_whole_message(signer: Signer) -> None:
    page = browser().get("/signin", {"address": signer.address})
    command = f"infra login --sign - <<'END'\n{message_on(page)}\nEND"
    assert command == page.context["command"]


def test_a_message_is_good_for_one_sign_in(signer: Signer) -> None:
    client = browser()
    message = ask(client, signer.address)
    signature = signer.sign(message)
    first, second = answer(client, message, signature), answer(client, message, signature)
    assert (first.status_code, second.status_code) == (302, 409)
    fresh = message_on(second)
    assert siwe.parse(fresh).nonce != siwe.parse(message).nonce
    assert answer(client, fresh, signer.sign(fresh)).status_code == 302


def test_an_expired_message_is_refused_and_a_fresh_one_stands_there(signer: Signer) -> None:
    client = browser()
    message = ask(client, signer.address)
    SignInNonce.objects.update(expires_at=Now())
    response = answer(client, message, signer.sign(message))
    assert response.status_code == 409
    assert "This sign-in message has expired." in response.content.decode()
    assert who(client) is None
    fresh = message_on(response)
    assert answer(client, fresh, signer.sign(fresh)).status_code == 302


def test_another_browsers_message_does_not_sign_in_here(signer: Signer) -> None:
    """Login CSRF: the attacker signs a message and makes the victim's browser send it."""
    message = ask(browser(), signer.address)
    victim = browser()
    for _ in ("without a cookie", "with its own"):
        response = answer(victim, message, signer.sign(message))
        assert response.status_code == 409
        assert "was not given to you here" in response.content.decode()
        assert who(victim) is None
        ask(victim, Signer.fresh().address)


def test_a_programs_nonce_is_no_browsers_and_the_other_way(signer: Signer) -> None:
    message = issued(signer)
    assert answer(browser(), message, signer.sign(message)).status_code == 409
    message = ask(browser(), signer.address)
    assert refusal(lambda: enter(message, signer.sign(message))).code == "nonce-unusable"


def test_a_form_without_its_csrf_token_is_refused(signer: Signer) -> None:
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR=line())
    message = ask(client, signer.address)
    assert answer(client, message, signer.sign(message)).status_code == 403
    assert who(client) is None
    assert client.post("/signout").status_code == 403


OTHER = {
    "domain": ({"domain": "evil.example"}, "is for evil.example, not for 127.0.0.1:8000"),
    "port": ({"domain": "127.0.0.1"}, "is for 127.0.0.1, not for 127.0.0.1:8000"),
    "scheme": ({"scheme": "https"}, "is for https://"),
    "uri": ({"uri": "http://127.0.0.1:8000/"}, "URI is http://127.0.0.1:8000/"),
    "chain": ({"chain_id": 1}, "is for chain 1, not for chain 31337"),
    "expired": ({"expiration_time": "2020-01-01T00:00:00Z"}, "expired at 2020-01-01T00:00:00Z"),
    "not yet": ({"not_before": "2999-01-01T00:00:00Z"}, "not valid before 2999-01-01T00:00:00Z"),
    "future": ({"issued_at": "2999-01-01T00:00:00Z"}, "dated in the future"),
    "past": ({"issued_at": "2020-01-01T00:00:00Z"}, "older than its nonce"),
}


@pytest.mark.parametrize(("changes", "said"), OTHER.values(), ids=OTHER)
def test_a_message_for_something_else_is_refused(
    signer: Signer, changes: dict[str, Any], said: str
) -> None:
    message = issued(signer, **changes)
    problem = refusal(lambda: enter(message, signer.sign(message)))
    assert (problem.status, problem.code) == (422, "sign-in-message-invalid")
    assert said in problem.detail
    assert Wallet.objects.count() == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda message, address: message.replace(address, address.lower()),
        lambda message, address: message.replace("Version: 1", "Version: 2"),
        lambda message, address: message + "\n",
        lambda message, address: message.replace("\n", "\r\n"),
        lambda message, address: "",
        lambda message, address: "x" * 1_000_000,
        lambda message, address: message.replace("free", "fr\x00e"),
    ],
    ids=["address case", "version", "a line more", "CR LF", "nothing", "1 MB", "null byte"],
)
def test_what_is_no_message_is_refused(signer: Signer, change: Callable[[str, str], str]) -> None:
    message = change(issued(signer), signer.address)
    problem = refusal(lambda: enter(message, signer.sign(message)))
    assert (problem.status, problem.code) == (422, "sign-in-message-invalid")


def test_a_nonce_that_nobody_gave_out_is_refused(signer: Signer) -> None:
    message = issued(signer, nonce=secrets.token_hex(16))
    assert refusal(lambda: enter(message, signer.sign(message))).code == "nonce-unusable"


SIGNATURES: dict[str, Callable[[Signer, str], str]] = {
    "of another wallet": lambda signer, text: Signer.fresh().sign(text),
    "over another text": lambda signer, text: signer.sign(text + "."),
    "high s": lambda signer, text: signer.sign_mirrored(text),
    "empty": lambda signer, text: "",
    "too short": lambda signer, text: signer.sign(text)[:-2],
    "too long": lambda signer, text: signer.sign(text) + "00",
    "no hexadecimal": lambda signer, text: "0x" + "zz" * 65,
    "spaces inside": lambda signer, text: signer.sign(text)[:40] + " " + signer.sign(text)[40:],
    "zeros": lambda signer, text: "0x" + "00" * 65,
    "v of 29": lambda signer, text: signer.sign(text)[:-2] + "1d",
    "1 MB": lambda signer, text: "0x" + "ab" * 500_000,
}


@pytest.mark.parametrize("make", SIGNATURES.values(), ids=SIGNATURES)
def test_what_is_no_signature_of_the_address_is_refused(
    signer: Signer, make: Callable[[Signer, str], str]
) -> None:
    message = issued(signer)
    problem = refusal(lambda: enter(message, make(signer, message)))
    assert (problem.status, problem.code) == (422, "signature-invalid")
    assert len(problem.detail) < 200
    # A slip costs nothing: the same message can still be signed.
    assert enter(message, signer.sign(message)) == signer.address


def test_a_signature_with_parity_0_or_1_is_taken(signer: Signer) -> None:
    message = issued(signer)
    octets = bytes.fromhex(signer.sign(message)[2:])
    assert enter(message, (octets[:64] + bytes([octets[64] - 27])).hex()) == signer.address


def test_a_wrong_signature_is_said_beside_the_field_and_keeps_the_message(signer: Signer) -> None:
    client = browser()
    message = ask(client, signer.address)
    response = answer(client, message, Signer.fresh().sign(message))
    page = response.content.decode()
    assert response.status_code == 422
    assert 'id="signature-error"' in page
    assert f"{signer.address} did not sign this message." in page
    assert message_on(response) == message
    assert answer(client, message, signer.sign(message)).status_code == 302


@pytest.mark.parametrize("address", ["0x12", "vitalik.eth", "0x" + "g" * 40, "<script>", "é" * 50])
def test_what_is_no_address_is_said_beside_the_field(address: str) -> None:
    page = browser().get("/signin", {"address": address})
    assert page.status_code == 422
    assert 'id="address-error"' in page.content.decode()
    assert "<script>" not in page.content.decode().partition('id="address-error"')[2]
    assert SignInNonce.objects.count() == 0


@pytest.mark.parametrize("fields", [{}, {"message": "x"}, {"address": "0x12"}])
def test_a_form_with_nothing_in_it_is_no_fault_of_ours(fields: dict[str, str]) -> None:
    assert browser().post("/signin", fields).status_code == 422


def test_a_closed_wallet_does_not_sign_in(signer: Signer) -> None:
    wallet = Wallet.objects.of(signer.address)
    wallet.is_active = False
    wallet.save()
    client = browser()
    message = ask(client, signer.address)
    response = answer(client, message, signer.sign(message))
    assert response.status_code == 403
    assert "This wallet&#x27;s account is closed." in response.content.decode()
    assert (who(client), Session.objects.count()) == (None, 0)


def test_what_fails_to_be_made_leaves_the_nonce_unused(signer: Signer) -> None:
    message = issued(signer)

    def fail(wallet: Wallet) -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError):
        enter(message, signer.sign(message), yields=fail)
    assert not Wallet.objects.exists()
    assert enter(message, signer.sign(message)) == signer.address


def test_the_session_that_a_browser_came_with_is_not_the_one_it_leaves_with(
    signer: Signer,
) -> None:
    """Session fixation: a key that somebody planted before signs nobody in."""
    planted = browser()
    session = planted.session
    session["otp_device_id"] = "planted"
    session.save()
    before = str(session.session_key)
    planted.cookies["session"] = before
    message = ask(planted, signer.address)
    assert answer(planted, message, signer.sign(message)).status_code == 302
    after = planted.cookies["session"].value
    assert after != before
    thief = browser()
    thief.cookies["session"] = before
    assert who(thief) is None
    assert "otp_device_id" not in planted.session


def test_signing_in_again_replaces_the_session_of_this_browser(signer: Signer) -> None:
    client = signed_in(signer)
    first = str(client.cookies["session"].value)
    other = Signer.fresh()
    message = ask(client, other.address)
    assert answer(client, message, other.sign(message)).status_code == 302
    assert who(client) == other.address
    old = browser()
    old.cookies["session"] = first
    assert who(old) is None


def test_signing_out_ends_the_session(signer: Signer) -> None:
    client = signed_in(signer)
    key = client.cookies["session"].value
    assert client.get("/signout").status_code == 405
    response = client.post("/signout", {"next": "/models"})
    assert (response.status_code, response.headers["Location"]) == (302, "/models")
    assert Session.objects.count() == 0
    again = browser()
    again.cookies["session"] = key
    assert who(again) is None


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/models?q=a&page=2", "/models?q=a&page=2"),
        ("/publish", "/publish"),
        ("", "/account"),
        ("models", "/account"),
        ("//evil.example", "/account"),
        ("/\\evil.example", "/account"),
        ("///evil.example", "/account"),
        ("https://evil.example/", "/account"),
        ("javascript:alert(1)", "/account"),
        ("/\t/evil.example", "/account"),
        ("/a\nSet-Cookie: x=y", "/account"),
        ("/" + "a" * 3_000, "/account"),
    ],
)
def test_next_leads_to_our_own_pages_only(signer: Signer, path: str, leads: str) -> None:
    assert own_path(path, otherwise="/account") == leads
    client = browser()
    message = ask(client, signer.address, next=path)
    response = answer(client, message, signer.sign(message), next=path)
    assert response.headers["Location"] == leads


def test_the_header_says_who_is_signed_in(signer: Signer) -> None:
    stranger = browser().get("/publish")
    assert 'href="/signin?next=%2Fpublish"' in stranger.content.decode()
    assert "Cookie" in stranger.headers["Vary"]
    page = signed_in(signer).get("/publish")
    assert f'title="{signer.address}" aria-label="Account of' in page.content.decode()
    assert 'action="/signout"' in page.content.decode()
    assert "Cookie" in page.headers["Vary"]


def test_the_sign_in_page_is_never_kept_by_a_cache(signer: Signer) -> None:
    page = browser().get("/signin", {"address": signer.address})
    assert "no-store" in page.headers["Cache-Control"]
    cookie = page.cookies["signin"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/signin")


def test_one_line_gets_so_many_messages_a_minute(settings: Any) -> None:
    settings.SIGN_INS_PER_MINUTE = 3
    client, signer = browser(), Signer.fresh()
    for _ in range(3):
        ask(client, signer.address)
    refused = client.get("/signin", {"address": signer.address})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert "more than 3" in refused.content.decode()
    assert SignInNonce.objects.count() == 3
    ask(browser(), signer.address)


def test_one_line_tries_so_many_signatures_a_minute(settings: Any) -> None:
    client, signer = browser(), Signer.fresh()
    message = ask(client, signer.address)
    settings.SIGN_INS_PER_MINUTE = 2
    statuses = [answer(client, message, "0x12").status_code for _ in range(2)]
    refused = answer(client, message, signer.sign(message))
    assert [*statuses, refused.status_code] == [422, 422, 429]
    assert message_on(refused) == message


def test_ending_one_session_leaves_the_others(signer: Signer) -> None:
    one, two = signed_in(signer), signed_in(signer)
    wallet = Wallet.objects.get(pk=signer.address)
    first = Session.objects.order_by("created_at")[0]
    signin.end_session(wallet=wallet, session_id=first.pk)
    assert (who(one), who(two)) == (None, signer.address)
    again = refusal(lambda: signin.end_session(wallet=wallet, session_id=first.pk))
    assert again.status == 404


def test_nobody_ends_the_session_of_another(signer: Signer) -> None:
    client = signed_in(signer)
    other = Wallet.objects.of(Signer.fresh().address)
    [row] = Session.objects.all()
    assert refusal(lambda: signin.end_session(wallet=other, session_id=row.pk)).status == 404
    assert who(client) == signer.address


def test_ending_every_session_ends_them_all_at_once(signer: Signer) -> None:
    clients = [signed_in(signer), signed_in(signer)]
    other = signed_in(Signer.fresh())
    signin.end_every_session(wallet=Wallet.objects.get(pk=signer.address))
    assert [who(client) for client in clients] == [None, None]
    assert who(other) is not None


def test_the_serial_ends_even_a_session_whose_row_was_missed(signer: Signer) -> None:
    client = signed_in(signer)
    Wallet.objects.filter(pk=signer.address).update(session_serial=1)
    assert client.get("/publish").context["request"].user.is_authenticated is False


def test_what_can_no_longer_be_used_is_swept(signer: Signer) -> None:
    issued(signer)
    signed_in(signer)
    issued(signer)
    SignInNonce.objects.filter(used_at=None).update(expires_at=Now() - timedelta(hours=2))
    sweep()
    assert SignInNonce.objects.count() == 1
    assert Session.objects.count() == 1
    Session.objects.update(expire_date=Now() - timedelta(seconds=1))
    sweep()
    assert Session.objects.count() == 0


def _at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each act gave or raised, all let go at one moment, each on a connection of its own."""
    gate = threading.Barrier(len(acts))
    results: list[Any] = [None] * len(acts)

    def run(index: int, act: Callable[[], Any]) -> None:
        gate.wait(10)
        try:
            results[index] = act()
        except Exception as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@pytest.mark.django_db(transaction=True)
def test_of_many_sign_ins_with_one_nonce_exactly_one_wins(signer: Signer) -> None:
    for _ in range(5):
        Session.objects.all().delete()
        client = browser()
        message = ask(client, signer.address)
        signature = signer.sign(message)
        cookie = client.cookies["signin"].value

        def act(cookie: str = cookie, message: str = message, signature: str = signature) -> int:
            own = browser()
            own.cookies["signin"] = cookie
            return int(answer(own, message, signature).status_code)

        assert sorted(_at_once(*[act] * 4)) == [302, 409, 409, 409]
        assert Session.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_looking_before_using_would_let_two_in(signer: Signer) -> None:
    """The negative control: the same race, with a look and a write instead of one statement."""
    nonce = signin.issue_nonce(remote_address=line()).nonce
    both_looked = threading.Barrier(2)

    def naive() -> str:
        with transaction.atomic(), connection.cursor() as cursor:
            row = SignInNonce.objects.get(nonce=nonce)
            assert row.used_at is None
            both_looked.wait(10)
            cursor.execute(
                "UPDATE identity_signinnonce SET used_at = now() WHERE nonce = %s", [nonce]
            )
            return "in"

    assert _at_once(naive, naive) == ["in", "in"]
