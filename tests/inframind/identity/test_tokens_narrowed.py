"""Tokens that their holders narrowed offline: recognised, counted, revoked with what they came
from."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from inframind.identity import queries, services, tokens
from inframind.identity.models import Meter, Narrowing, Seat, Token, Wallet
from inframind.lib import bearer
from inframind.lib.access import Role
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem
from inframind.lib.scopes import Caveat

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
pytestmark = pytest.mark.django_db


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.of(ADDRESS)


def mint(wallet: Wallet, **changes: Any) -> tuple[Token, str]:
    given: dict[str, Any] = {
        "wallet": wallet,
        "name": "test",
        "actions": ["invoke", "publish"],
        "lifetime": timedelta(hours=1),
    }
    return services.mint_token(**{**given, **changes})


def refusal(text: str, remote_address: str = "") -> Problem:
    with pytest.raises(Problem) as caught:
        queries.authenticate(text, remote_address)
    return caught.value


def test_a_narrowed_token_is_recognised_without_a_row(wallet: Wallet) -> None:
    token, text = mint(wallet)
    child = bearer.narrow(
        text, Caveat(models=frozenset({"agent-vault"}), actions=frozenset({"invoke"}))
    )
    caller = queries.authenticate(child)
    assert (caller.address, caller.token_id) == (ADDRESS, token.pk)
    assert (caller.actions, caller.names) == (frozenset({"invoke"}), frozenset({"agent-vault"}))
    assert caller.narrowing_id is not None
    assert caller.meters == ()
    assert Narrowing.objects.count() == 0


def test_models_that_do_not_meet_leave_none_not_all(wallet: Wallet) -> None:
    _, text = mint(wallet, models_allowed=["summarizer-v1"])
    caller = queries.authenticate(bearer.narrow(text, Caveat(models=frozenset({"agent-vault"}))))
    assert caller.names == frozenset()
    assert not caller.covers("summarizer-v1")
    assert not caller.covers("agent-vault")


def test_narrowing_a_login_takes_the_account_away(wallet: Wallet) -> None:
    _, text = mint(wallet, kind="login", actions=Token.Action.values)
    assert queries.authenticate(text).may("account")
    assert not queries.authenticate(bearer.narrow(text, Caveat())).may("account")


def test_a_narrowing_with_a_limit_gets_its_rows_on_first_use_and_once(wallet: Wallet) -> None:
    token, text = mint(wallet, calls_limit=100)
    plain = bearer.narrow(text, Caveat(actions=frozenset({"invoke"})))
    child = bearer.narrow(plain, Caveat(calls_limit=5, spend_limit_base_units=10**18))
    first, second = queries.authenticate(child), queries.authenticate(child)
    assert first.meters == second.meters == (token.meter_id, first.narrowing_id)
    rows = list(Narrowing.objects.order_by("depth"))
    assert [(row.depth, row.meter_id) for row in rows] == [(1, None), (2, first.narrowing_id)]
    assert rows[1].parent_id == rows[0].pk
    assert rows[1].caveat["calls"] == 5
    meter = Meter.objects.get(pk=first.meters[1])
    assert (meter.calls_limit, meter.calls_used) == (5, 0)
    assert meter.spend_limit_base_units == Decimal(10**18)


def test_a_narrowing_ends_at_its_own_expiry_by_the_clock_of_the_database(wallet: Wallet) -> None:
    _, text = mint(wallet)
    now = int(time.time())
    later = bearer.narrow(text, Caveat(expires_at=now + 600))
    assert queries.authenticate(later).address == ADDRESS
    ended = bearer.narrow(later, Caveat(expires_at=now - 1))
    assert refusal(ended).detail.startswith("The token expired at ")
    assert refusal(bearer.narrow(ended, Caveat(expires_at=now + 600))).code == "invalid-token"


def test_a_narrowing_does_not_outlive_its_token(wallet: Wallet) -> None:
    token, text = mint(wallet)
    child = bearer.narrow(text, Caveat(expires_at=int(time.time()) + 10**8))
    Token.objects.filter(pk=token.pk).update(expires_at=Now())
    assert refusal(child).detail.startswith("The token expired at ")


def test_revoking_a_token_ends_every_narrowing(wallet: Wallet) -> None:
    token, text = mint(wallet)
    child = bearer.narrow(text, Caveat(calls_limit=5))
    grandchild = bearer.narrow(child, Caveat(calls_limit=2))
    queries.authenticate(child)
    services.revoke_token(token_id=token.pk, wallet=wallet)
    for each in (child, grandchild):
        assert refusal(each).detail == "The token was revoked."


def test_revoking_a_narrowing_ends_its_own_and_never_its_parent(wallet: Wallet) -> None:
    _, text = mint(wallet)
    child = bearer.narrow(text, Caveat())
    sibling = bearer.narrow(text, Caveat())
    grandchild = bearer.narrow(child, Caveat())
    services.revoke_presented(text=child)
    services.revoke_presented(text=child)
    for ended in (child, grandchild):
        assert refusal(ended).detail == "The token was revoked."
    for alive in (text, sibling):
        assert queries.authenticate(alive).address == ADDRESS
    row = Narrowing.objects.get()
    assert (row.depth, row.revoked_at is not None, row.meter_id) == (1, True, None)


def test_a_chain_that_was_never_seen_can_be_revoked_at_its_end(wallet: Wallet) -> None:
    _, text = mint(wallet)
    chain = [text]
    for _ in range(5):
        chain.append(bearer.narrow(chain[-1], Caveat(calls_limit=9)))
    services.revoke_presented(text=chain[5])
    assert refusal(chain[5]).detail == "The token was revoked."
    assert queries.authenticate(chain[4]).address == ADDRESS
    assert Narrowing.objects.count() == 5


@pytest.mark.parametrize("text", ["", "garbage", "infra_" + "0" * 60, "x" * 1_000_000])
def test_revoking_what_is_no_token_changes_nothing(wallet: Wallet, text: str) -> None:
    services.revoke_presented(text=text)
    assert Token.objects.filter(revoked_at__isnull=False).count() == 0


def test_a_foreign_narrowing_is_refused_and_makes_no_row(wallet: Wallet) -> None:
    token, _ = mint(wallet)
    foreign = bearer.narrow(tokens.issue("another key", token.pk), Caveat(calls_limit=5))
    assert refusal(foreign).code == "invalid-token"
    services.revoke_presented(text=foreign)
    unknown = bearer.narrow(tokens.issue(settings.SECRET_KEY, new_uuid7()), Caveat(calls_limit=5))
    assert refusal(unknown).code == "invalid-token"
    services.revoke_presented(text=unknown)
    assert Narrowing.objects.count() == 0


def test_a_caveat_that_is_not_understood_is_refused_though_its_mac_is_right(
    wallet: Wallet,
) -> None:
    token, text = mint(wallet)
    held = bearer.decode(text)
    caveat = b'{"nonce":"0123456789abcdef","region":"eu"}'
    mac = bearer.chain(held.mac, (caveat,))[-1]
    assert "does not understand" in refusal(bearer.encode(token.pk, mac, (caveat,))).detail


@pytest.mark.parametrize(
    ("remote_address", "status"),
    [("10.1.2.3", 200), ("::ffff:10.1.2.3", 200), ("11.1.2.3", 403), ("::1", 403), ("", 403)],
)
def test_a_token_for_address_ranges_works_from_there_only(
    wallet: Wallet, remote_address: str, status: int
) -> None:
    _, text = mint(wallet, ip_ranges=["10.0.0.0/8"])
    if status == 200:
        assert queries.authenticate(text, remote_address).address == ADDRESS
        return
    found = refusal(text, remote_address)
    assert (found.status, found.code) == (403, "address-not-allowed")
    assert found.detail.startswith("This token is not for calls from ")
    assert Token.objects.get().last_used_at is None


def test_a_narrowing_cannot_widen_the_ranges_of_its_token(wallet: Wallet) -> None:
    _, text = mint(wallet, ip_ranges=["10.0.0.0/8"])
    child = bearer.narrow(text, Caveat(ip_ranges=("0.0.0.0/0",)))
    assert queries.authenticate(child, "10.1.2.3").address == ADDRESS
    assert refusal(child, "11.1.2.3").status == 403


def test_the_use_of_a_known_narrowing_is_noted_with_its_token(wallet: Wallet) -> None:
    token, text = mint(wallet)
    child = bearer.narrow(text, Caveat(calls_limit=5))
    queries.authenticate(child)
    queries.authenticate(child)
    first = Narrowing.objects.get().last_used_at
    assert first is not None
    queries.authenticate(child)
    assert Narrowing.objects.get().last_used_at == first
    assert Token.objects.get(pk=token.pk).last_used_at is not None


def test_a_caller_has_the_roles_that_its_wallet_has_now(wallet: Wallet) -> None:
    _, text = mint(wallet)
    assert queries.authenticate(text).roles == {Role.SIGNED_IN}
    Wallet.objects.filter(pk=wallet.pk).update(is_staff=True)
    seat = Seat.objects.create(wallet=wallet, role="curator", reason="test")
    assert queries.authenticate(text).roles == {Role.SIGNED_IN, Role.STAFF, Role.CURATOR}
    Seat.objects.filter(pk=seat.pk).update(begins_at=Now() - timedelta(days=1), ends_at=Now())
    assert queries.authenticate(text).roles == {Role.SIGNED_IN, Role.STAFF}


def test_a_closed_wallet_has_no_role_left(wallet: Wallet) -> None:
    Seat.objects.create(wallet=wallet, role="curator", reason="test")
    Wallet.objects.filter(pk=wallet.pk).update(is_staff=True)
    both = {Role.SIGNED_IN, Role.STAFF, Role.CURATOR}
    assert queries.caller_of_wallet(wallet.pk).roles == both
    Wallet.objects.filter(pk=wallet.pk).update(is_active=False)
    assert queries.caller_of_wallet(wallet.pk).roles == {Role.SIGNED_IN}
    assert queries.caller_of_wallet("0x" + "0" * 40).roles == {Role.SIGNED_IN}


def test_authenticating_a_known_narrowed_token_is_one_statement(
    wallet: Wallet, django_assert_num_queries: Any
) -> None:
    _, text = mint(wallet, calls_limit=9)
    for _ in range(5):
        text = bearer.narrow(text, Caveat(calls_limit=5))
    queries.authenticate(text)
    queries.authenticate(text)
    with django_assert_num_queries(1):
        queries.authenticate(text)


def test_no_column_holds_a_mac_of_a_chain(wallet: Wallet) -> None:
    _, text = mint(wallet)
    child = bearer.narrow(text, Caveat(calls_limit=5))
    queries.authenticate(child)
    with connection.cursor() as cursor:
        cursor.execute("SELECT n::text FROM identity_narrowing n")
        (row,) = cursor.fetchone()
    assert bearer.decode(child).mac.hex() not in row
    assert child not in row


def test_sweeping_forgets_what_ended_a_day_ago_and_revives_nothing(wallet: Wallet) -> None:
    now = int(time.time())
    living, text = mint(wallet)
    ended, _ = mint(wallet)
    kept = bearer.narrow(text, Caveat(calls_limit=5, expires_at=now + 600))
    revoked = bearer.narrow(text, Caveat(calls_limit=5))
    old = bearer.narrow(bearer.narrow(text, Caveat(expires_at=now - 10**6)), Caveat(calls_limit=5))
    of_ended = bearer.narrow(tokens.issue(settings.SECRET_KEY, ended.pk), Caveat(calls_limit=5))
    for each in (kept, revoked, of_ended):
        queries.authenticate(each)
    services.revoke_presented(text=revoked)
    with connection.cursor() as cursor:
        cursor.execute(*tokens.rows_of_narrowings(tokens.verify(settings.SECRET_KEY, old)))
    Token.objects.filter(pk=ended.pk).update(expires_at=Now() - timedelta(days=2))

    assert services.sweep_narrowings() == 3

    assert Narrowing.objects.count() == 2
    assert Meter.objects.count() == 4
    assert queries.authenticate(kept).token_id == living.pk
    for each in (revoked, old, of_ended):
        assert refusal(each).code == "invalid-token"


@pytest.mark.django_db(transaction=True)
def test_two_first_uses_at_once_make_one_meter() -> None:
    _, text = mint(Wallet.objects.of(ADDRESS))
    child = bearer.narrow(bearer.narrow(text, Caveat(calls_limit=5)), Caveat(calls_limit=3))
    presented = tokens.verify(settings.SECRET_KEY, child)
    ready = threading.Barrier(8)
    failures: list[Exception] = []

    def first_use() -> None:
        try:
            ready.wait(20)
            with connection.cursor() as cursor:
                cursor.execute(*tokens.rows_of_narrowings(presented))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=first_use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert set(Narrowing.objects.values_list("pk", "meter_id")) == {
        (each, each) for each in presented.chain
    }
    assert Meter.objects.count() == 3
