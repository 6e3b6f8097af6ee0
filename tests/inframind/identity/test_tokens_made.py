"""Minting, rotating and looking into tokens."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from inframind.identity import queries, services
from inframind.identity.models import Meter, Token, Wallet
from inframind.lib import bearer
from inframind.lib.problem import Problem
from inframind.lib.scopes import Caveat

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
pytestmark = pytest.mark.django_db


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.of(ADDRESS)


def mint(wallet: Wallet, **changes: Any) -> tuple[Token, str]:
    given: dict[str, Any] = {
        "wallet": wallet,
        "name": "test",
        "actions": ["invoke"],
        "lifetime": timedelta(hours=1),
    }
    return services.mint_token(**{**given, **changes})


def test_a_token_is_kept_as_it_was_wished(wallet: Wallet) -> None:
    token, text = mint(
        wallet,
        name="  build   server ",
        actions=["publish", "invoke", "invoke"],
        models_allowed=["b-model", "a-model"],
        calls_limit=100,
        spend_limit_base_units=5 * 10**18,
        ip_ranges=["::ffff:10.0.0.0/104", "2001:DB8::/32"],
    )
    assert (token.name, token.kind, token.model_scope) == ("build server", "scoped", "named")
    assert (token.actions, token.models_allowed) == (["invoke", "publish"], ["a-model", "b-model"])
    assert token.ip_ranges == ["10.0.0.0/8", "2001:db8::/32"]
    assert (token.meter.calls_limit, token.meter.spend_limit_base_units) == (
        100,
        Decimal(5 * 10**18),
    )
    caller = queries.authenticate(text, "10.0.0.1")
    assert caller.meters == (token.meter_id,)
    assert caller.names == frozenset({"a-model", "b-model"})


def test_a_token_for_owned_models_says_so_to_whoever_decides(wallet: Wallet) -> None:
    _, text = mint(wallet, model_scope="owned")
    caller = queries.authenticate(text)
    assert (caller.names, caller.owned_only, caller.meters) == (None, True, ())


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 61}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "a\u202eb"}, "/name"),
        ({"actions": []}, "/actions"),
        ({"actions": ["account"]}, "/actions"),
        ({"actions": ["invoke", "destroy"]}, "/actions"),
        ({"kind": "root"}, "/kind"),
        ({"kind": "login", "actions": ["destroy"]}, "/actions"),
        ({"model_scope": "all"}, "/model_scope"),
        ({"model_scope": "named"}, "/models"),
        ({"model_scope": "any", "models_allowed": ["a-model"]}, "/models"),
        ({"models_allowed": ["Not A Name"]}, "/models"),
        ({"models_allowed": ["a\x00"]}, "/models"),
        ({"models_allowed": [f"model-{number}" for number in range(101)]}, "/models"),
        ({"calls_limit": 0}, "/calls_limit"),
        ({"calls_limit": 2**63}, "/calls_limit"),
        ({"spend_limit_base_units": -1}, "/spend_limit"),
        ({"spend_limit_base_units": 10**78}, "/spend_limit"),
        ({"ip_ranges": ["10.0.0.1/8"]}, "/ip_ranges"),
        ({"ip_ranges": ["everywhere"]}, "/ip_ranges"),
        ({"lifetime": timedelta(days=367)}, "/expires_in"),
    ],
)
def test_a_wish_that_cannot_be_granted_makes_no_row(
    wallet: Wallet, changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(Problem) as caught:
        mint(wallet, **changes)
    assert (caught.value.status, caught.value.code) == (422, "token-invalid")
    assert [each.pointer for each in caught.value.violations] == [pointer]
    assert (Token.objects.count(), Meter.objects.count()) == (0, 0)


def test_everything_that_is_wrong_is_told_at_once(wallet: Wallet) -> None:
    with pytest.raises(Problem) as caught:
        mint(wallet, name="", actions=[], lifetime=timedelta(0))
    assert {each.pointer for each in caught.value.violations} == {
        "/name",
        "/actions",
        "/expires_in",
    }


def test_the_longest_lifetime_is_a_setting(wallet: Wallet, settings: Any) -> None:
    settings.TOKEN_LIFETIME_MAX_DAYS = 7
    mint(wallet, lifetime=timedelta(days=7))
    with pytest.raises(Problem, match="at most 7 days"):
        mint(wallet, lifetime=timedelta(days=8))


def test_a_wallet_has_so_many_tokens_that_work(wallet: Wallet, monkeypatch: Any) -> None:
    monkeypatch.setattr(services, "MAX_LIVE_TOKENS", 2)
    ended, _ = mint(wallet)
    services.revoke_token(token_id=ended.pk, wallet=wallet)
    mint(wallet)
    mint(wallet)
    with pytest.raises(Problem, match="has 2 tokens that work") as caught:
        mint(wallet)
    assert caught.value.status == 409
    mint(wallet, kind="login", actions=["account"])
    mint(Wallet.objects.of(OTHER))


def test_rotating_keeps_scope_and_limits_and_both_work_while_they_overlap(wallet: Wallet) -> None:
    old, old_text = mint(wallet, models_allowed=["a-model"], calls_limit=10, ip_ranges=["::1/128"])
    new, new_text = services.rotate_token(
        token_id=old.pk, wallet=wallet, overlap=timedelta(minutes=10)
    )
    old.refresh_from_db()
    assert new_text != old_text
    assert (new.rotated_from_id, new.meter_id) == (old.pk, old.meter_id)
    assert (new.models_allowed, new.ip_ranges) == (["a-model"], ["::1/128"])
    assert abs((new.expires_at - new.created_at) - timedelta(hours=1)) < timedelta(seconds=5)
    assert abs((old.expires_at - new.created_at) - timedelta(minutes=10)) < timedelta(seconds=5)
    callers = [queries.authenticate(text, "::1") for text in (old_text, new_text)]
    assert callers[0].meters == callers[1].meters == (old.meter_id,)
    Token.objects.filter(pk=old.pk).update(expires_at=Now())
    with pytest.raises(Problem, match="expired"):
        queries.authenticate(old_text, "::1")
    assert queries.authenticate(new_text, "::1").token_id == new.pk


def test_a_rotation_never_lengthens_the_old_token(wallet: Wallet) -> None:
    old, _ = mint(wallet, lifetime=timedelta(minutes=5))
    services.rotate_token(token_id=old.pk, wallet=wallet, overlap=timedelta(hours=1))
    assert Token.objects.get(pk=old.pk).expires_at == old.expires_at


def test_narrowed_tokens_end_with_the_token_that_was_rotated_away(wallet: Wallet) -> None:
    old, text = mint(wallet)
    child = bearer.narrow(text, Caveat())
    services.rotate_token(token_id=old.pk, wallet=wallet, overlap=timedelta(0))
    with pytest.raises(Problem, match="expired"):
        queries.authenticate(child)


@pytest.mark.parametrize("how", ["revoked", "expired", "rotated", "login", "other"])
def test_what_cannot_be_rotated_is_left_as_it_is(wallet: Wallet, how: str) -> None:
    kind = {"kind": "login", "actions": ["account"]} if how == "login" else {}
    token, _ = mint(wallet, **kind)
    if how == "revoked":
        services.revoke_token(token_id=token.pk, wallet=wallet)
    elif how == "expired":
        Token.objects.filter(pk=token.pk).update(expires_at=Now())
    elif how == "rotated":
        services.rotate_token(token_id=token.pk, wallet=wallet, overlap=timedelta(minutes=1))
    before = Token.objects.count()
    asking = Wallet.objects.of(OTHER) if how == "other" else wallet
    with pytest.raises(Problem) as caught:
        services.rotate_token(token_id=token.pk, wallet=asking, overlap=timedelta(minutes=1))
    assert caught.value.status == (404 if how == "other" else 409)
    assert Token.objects.count() == before


@pytest.mark.django_db(transaction=True)
def test_of_many_rotations_at_once_one_has_a_successor() -> None:
    wallet = Wallet.objects.of(ADDRESS)
    token, _ = mint(wallet)
    ready = threading.Barrier(6)
    outcomes: list[int] = []

    def rotate() -> None:
        try:
            ready.wait(20)
            services.rotate_token(token_id=token.pk, wallet=wallet, overlap=timedelta(minutes=1))
            outcomes.append(201)
        except Problem as problem:
            outcomes.append(problem.status)
        finally:
            connection.close()

    threads = [threading.Thread(target=rotate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == [201, 409, 409, 409, 409, 409]
    assert Token.objects.filter(rotated_from=token).count() == 1


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=31)])
def test_an_overlap_out_of_bounds_is_refused(wallet: Wallet, overlap: timedelta) -> None:
    token, _ = mint(wallet)
    with pytest.raises(Problem) as caught:
        services.rotate_token(token_id=token.pk, wallet=wallet, overlap=overlap)
    assert caught.value.violations[0].pointer == "/overlap"


def test_tokens_are_listed_with_their_state_by_the_clock_of_the_database(wallet: Wallet) -> None:
    names = ["one", "two", "three"]
    one, two, _ = [mint(wallet, name=name)[0] for name in names]
    mint(Wallet.objects.of(OTHER))
    services.revoke_token(token_id=one.pk, wallet=wallet)
    Token.objects.filter(pk=two.pk).update(expires_at=F("created_at"))
    found = {token.name: token.state for token in queries.tokens_of(ADDRESS)}  # type: ignore[attr-defined]
    assert found == {"one": "revoked", "two": "expired", "three": "active"}


def test_the_command_makes_a_token_with_limits() -> None:
    out = StringIO()
    call_command(
        "mint_token",
        "--wallet", ADDRESS, "--owned", "--spend-limit", "5 IFM", "--calls-limit", "100",
        "--ip-range", "10.0.0.0/8", "--ip-range", "::1",
        stdout=out, stderr=StringIO(),
    )  # fmt: skip
    token = Token.objects.select_related("meter").get()
    assert (token.model_scope, token.ip_ranges) == ("owned", ["10.0.0.0/8", "::1/128"])
    assert (token.meter.calls_limit, token.meter.spend_limit_base_units) == (
        100,
        Decimal(5 * 10**18),
    )
    assert queries.authenticate(out.getvalue().strip(), "10.9.9.9").owned_only


@pytest.mark.parametrize(
    "options", [["--spend-limit", "much"], ["--calls-limit", "0"], ["--ip-range", "here"]]
)
def test_the_command_says_what_is_wrong_with_a_limit(options: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("mint_token", "--wallet", ADDRESS, *options)
    assert Token.objects.count() == 0
