"""The second factor: set up, shown, guessed at, recovered, removed, reset."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.utils import timezone
from django_otp.middleware import OTPMiddleware
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken

from inframind.identity import second_factor
from inframind.identity.models import SecondFactor, Session, Wallet
from inframind.identity.sessions import SessionStore
from inframind.lib.problem import Problem

from .browsing import OTHER, OWNER, browser_of, code_of, enrolled, page_of

pytestmark = pytest.mark.django_db
PAGE = "/account/second-factor"


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.of(OWNER)


@pytest.fixture
def client(wallet: Wallet) -> Client:
    return browser_of(wallet)


def forget_guesses() -> None:
    """As if the wait after wrong codes were over."""
    past = timezone.now() - timedelta(days=30)
    SecondFactor.objects.update(throttling_failure_timestamp=past)
    StaticDevice.objects.update(throttling_failure_timestamp=past)


def test_an_app_is_set_up_with_the_picture_or_the_text(client: Client, wallet: Wallet) -> None:
    page = page_of(client.get(PAGE))
    assert "<svg viewBox=" in page
    assert 'class="qr"' in page
    device = SecondFactor.objects.get(user=wallet)
    assert device.confirmed is False
    again = page_of(client.get(PAGE))
    [secret] = re.findall(r"[A-Z2-7]{4}(?: [A-Z2-7]{4}){7}", page)[:1]
    assert secret in again
    answer = client.post(PAGE, {"code": code_of(device), "next": "/admin/"})
    codes = re.findall(r"<code>([a-z2-9]{5}-[a-z2-9]{5})</code>", page_of(answer))
    assert len(set(codes)) == 10
    assert 'href="/admin/"' in page_of(answer)
    device.refresh_from_db()
    assert device.confirmed is True
    state = page_of(client.get(PAGE))
    assert "10 left" in state
    assert secret not in state
    assert not any(code in state for code in codes)
    assert second_factor.is_verified(request_of(client))


def request_of(client: Client) -> HttpRequest:
    """What a view would see of this browser."""
    request = HttpRequest()
    request.session = SessionStore(client.cookies["session"].value)
    AuthenticationMiddleware(lambda request: HttpResponse())(request)
    OTPMiddleware(lambda request: HttpResponse())(request)
    return request


def test_the_database_holds_nothing_that_makes_a_code(wallet: Wallet) -> None:
    enrolment = second_factor.begin(wallet=wallet)
    codes = enrolled(wallet)
    device = SecondFactor.objects.get(user=wallet)
    stored = bytes.fromhex(device.key)
    assert stored != device.bin_key
    assert device.bin_key.hex() not in repr(vars(device))
    assert enrolment.secret.replace(" ", "") in enrolment.uri
    rows = set(StaticToken.objects.values_list("token", flat=True))
    assert len(rows) == 10
    assert rows.isdisjoint({code.replace("-", "") for code in codes})


def test_a_wrong_first_code_confirms_nothing(client: Client, wallet: Wallet) -> None:
    client.get(PAGE)
    answer = client.post(PAGE, {"code": "000000"})
    assert answer.status_code == 422
    assert 'id="id_code_error"' in page_of(answer)
    assert second_factor.factor_of(wallet) is None


def test_a_code_is_good_once(client: Client, wallet: Wallet) -> None:
    enrolled(wallet)
    device = SecondFactor.objects.get(user=wallet)
    code = code_of(device, steps=1)
    assert client.post("/account/verify", {"code": code}).status_code == 302
    replayed = browser_of(wallet).post("/account/verify", {"code": code})
    assert replayed.status_code == 422


def test_a_recovery_code_works_once(wallet: Wallet) -> None:
    code, other, *_ = enrolled(wallet)
    typed = code.upper().replace("-", " ")
    assert browser_of(wallet).post("/account/verify", {"code": typed}).status_code == 302
    assert browser_of(wallet).post("/account/verify", {"code": code}).status_code == 422
    assert second_factor.recovery_codes_left(wallet) == 9
    forget_guesses()
    assert browser_of(wallet).post("/account/verify", {"code": other}).status_code == 302


def test_recovery_codes_of_another_wallet_open_nothing(wallet: Wallet) -> None:
    enrolled(wallet)
    [code, *_] = enrolled(Wallet.objects.of(OTHER))
    with pytest.raises(Problem, match="not right"):
        second_factor.check(wallet=wallet, code=code)
    assert second_factor.recovery_codes_left(Wallet.objects.of(OTHER)) == 10


def test_guesses_have_to_wait_longer_each_time(client: Client, wallet: Wallet) -> None:
    enrolled(wallet)
    device = SecondFactor.objects.get(user=wallet)
    assert client.post("/account/verify", {"code": "000000"}).status_code == 422
    answer = client.post("/account/verify", {"code": code_of(device, steps=1)})
    assert answer.status_code == 429
    assert "has to wait" in page_of(answer)
    assert not second_factor.is_verified(request_of(client))
    forget_guesses()
    fresh = code_of(device, steps=1)
    assert client.post("/account/verify", {"code": fresh}).status_code == 302


@pytest.mark.parametrize("code", ["", " ", "12345", "１２３４５６", "0x1f5a", "x" * 41, "-1234567"])
def test_what_is_no_code_is_refused(client: Client, wallet: Wallet, code: str) -> None:
    enrolled(wallet)
    answer = client.post("/account/verify", {"code": code})
    assert answer.status_code == 422
    assert 'id="id_code_error"' in page_of(answer)


def test_showing_it_gives_the_session_a_new_key(client: Client, wallet: Wallet) -> None:
    [code, *_] = enrolled(wallet)
    before = client.cookies["session"].value
    client.post("/account/verify", {"code": code})
    assert client.cookies["session"].value != before
    assert not SessionStore().exists(before)
    assert Session.objects.filter(wallet=wallet).count() == 1


def test_a_session_is_verified_for_twelve_hours_at_most(
    client: Client, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code, *_] = enrolled(wallet)
    client.post("/account/verify", {"code": code})
    assert second_factor.is_verified(request_of(client))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3_600 - 60)
    assert second_factor.is_verified(request_of(client))
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3_600 + 1)
    assert not second_factor.is_verified(request_of(client))


def test_one_session_verified_is_not_another(client: Client, wallet: Wallet) -> None:
    [code, *_] = enrolled(wallet)
    client.post("/account/verify", {"code": code})
    assert not second_factor.is_verified(request_of(browser_of(wallet)))


def test_new_recovery_codes_need_a_code_and_void_the_old(client: Client, wallet: Wallet) -> None:
    old, first, *_ = enrolled(wallet)
    path = f"{PAGE}/recovery-codes"
    assert client.post(path, {"code": "nothing"}).status_code == 422
    forget_guesses()
    answer = client.post(path, {"code": first})
    new = re.findall(r"<code>([a-z2-9]{5}-[a-z2-9]{5})</code>", page_of(answer))
    assert (answer.status_code, len(new)) == (200, 10)
    with pytest.raises(Problem, match="not right"):
        second_factor.check(wallet=wallet, code=old)


def test_removal_needs_a_fresh_code_and_unverifies(client: Client, wallet: Wallet) -> None:
    code, other, *_ = enrolled(wallet)
    client.post("/account/verify", {"code": code})
    path = f"{PAGE}/remove"
    assert client.post(path, {"code": code}).status_code == 422
    assert second_factor.factor_of(wallet) is not None
    forget_guesses()
    assert client.post(path, {"code": other}).headers["Location"] == PAGE
    assert second_factor.factor_of(wallet) is None
    assert StaticToken.objects.count() == 0
    assert not second_factor.is_verified(request_of(client))


def test_without_a_second_factor_there_is_nothing_to_show(client: Client) -> None:
    assert client.get("/account/verify").headers["Location"] == PAGE
    for path in ("remove", "recovery-codes"):
        assert client.post(f"{PAGE}/{path}", {"code": "123456"}).status_code == 409


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:x", ""])
def test_verifying_leads_to_no_foreign_page(client: Client, wallet: Wallet, target: str) -> None:
    [code, *_] = enrolled(wallet)
    answer = client.post("/account/verify", {"code": code, "next": target})
    assert answer.headers["Location"] == PAGE


def test_it_is_reset_by_command(wallet: Wallet) -> None:
    enrolled(wallet)
    call_command("reset_second_factor", wallet=OWNER.lower(), stdout=StringIO())
    assert second_factor.factor_of(wallet) is None
    out = StringIO()
    call_command("reset_second_factor", wallet=OWNER, stdout=out)
    assert "had no second factor" in out.getvalue()
    for unknown in (OTHER, "0x12"):
        with pytest.raises(CommandError):
            call_command("reset_second_factor", wallet=unknown)


@pytest.mark.django_db(transaction=True)
def test_of_two_uses_of_one_recovery_code_at_once_one_wins() -> None:
    wallet = Wallet.objects.of(OWNER)
    [code, *_] = enrolled(wallet)

    def use(_: int) -> bool:
        try:
            second_factor.check(wallet=wallet, code=code)
        except Problem:
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(8))) == 1
    assert second_factor.recovery_codes_left(wallet) == 9


@pytest.mark.django_db(transaction=True)
def test_of_two_confirmations_at_once_one_gives_recovery_codes() -> None:
    wallet = Wallet.objects.of(OWNER)
    second_factor.begin(wallet=wallet)
    code = code_of(SecondFactor.objects.get(user=wallet))

    def confirm(_: int) -> int:
        try:
            return len(second_factor.confirm(wallet=wallet, code=code)[1])
        except Problem:
            return 0
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(confirm, range(4))) == 10
    assert second_factor.recovery_codes_left(wallet) == 10


def test_a_session_that_did_not_sign_lately_sets_nothing_up(wallet: Wallet) -> None:
    stolen = browser_of(wallet, signed_in_ago_seconds=16 * 60)
    page = stolen.get(PAGE, {"next": "/admin/"})
    assert page.status_code == 200
    assert 'class="qr"' not in page_of(page)
    again = (
        f"/signin?address={wallet.pk}&amp;next=%2Faccount%2Fsecond-factor%3Fnext%3D%252Fadmin%252F"
    )
    assert f'href="{again}"' in page_of(page)
    assert not SecondFactor.objects.exists()
    # Not even what the wallet itself began in another browser is shown or confirmed.
    browser_of(wallet).get(PAGE)
    [device] = SecondFactor.objects.all()
    assert stolen.post(PAGE, {"code": code_of(device)}).status_code == 403
    assert second_factor.factor_of(wallet) is None


def test_a_session_that_does_not_say_when_it_signed_is_not_fresh(wallet: Wallet) -> None:
    client = browser_of(wallet)
    store = SessionStore(client.cookies["session"].value)
    del store["signed_in_at"]
    store.save()
    assert 'class="qr"' not in page_of(client.get(PAGE))
