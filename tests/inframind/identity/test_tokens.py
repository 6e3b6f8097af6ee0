"""Bearer tokens: derived, verified, never stored."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from rest_framework.test import APIClient

from inframind.identity import queries, services, tokens
from inframind.identity.models import Token, Wallet
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
pytestmark = pytest.mark.django_db


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.of(ADDRESS)


def mint(wallet: Wallet, **changes: object) -> tuple[Token, str]:
    given: dict[str, object] = {
        "wallet": wallet,
        "name": "test",
        "actions": ["invoke"],
        "lifetime": timedelta(hours=1),
    }
    return services.mint_token(**{**given, **changes})  # type: ignore[arg-type]


def refusal(text: str) -> Problem:
    with pytest.raises(Problem) as caught:
        queries.authenticate(text)
    return caught.value


def test_a_minted_token_names_its_wallet_and_scopes(wallet: Wallet) -> None:
    token, text = mint(wallet, actions=["publish", "invoke"], models_allowed=["summarizer-v1"])
    caller = queries.authenticate(text)
    assert (caller.address, caller.token_id) == (ADDRESS, token.pk)
    assert caller.actions == {"invoke", "publish"}
    assert caller.may("invoke", "summarizer-v1")
    assert not caller.may("invoke", "filetype-v1")
    assert not caller.may("manage")


def test_no_column_of_the_database_holds_the_token_or_its_mac(wallet: Wallet) -> None:
    token, text = mint(wallet)
    mac = tokens.root_mac(settings.SECRET_KEY, token.pk)
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM identity_token t WHERE id = %s", [token.pk])
        (row,) = cursor.fetchone()
    assert text not in row
    assert mac.hex() not in row


def test_a_token_of_another_server_key_is_refused(wallet: Wallet) -> None:
    token, _ = mint(wallet)
    foreign = tokens.issue("another key", token.pk)
    assert (refusal(foreign).status, refusal(foreign).code) == (401, "invalid-token")


def test_a_well_made_token_without_a_row_is_refused(wallet: Wallet) -> None:
    assert refusal(tokens.issue(settings.SECRET_KEY, new_uuid7())).code == "invalid-token"


def test_expiry_is_by_the_clock_of_the_database(wallet: Wallet) -> None:
    token, text = mint(wallet)
    assert queries.authenticate(text).token_id == token.pk
    Token.objects.filter(pk=token.pk).update(expires_at=Now())
    assert refusal(text).detail.startswith("The token expired at ")


def test_revoking_ends_a_token_at_once_and_twice_is_once(wallet: Wallet) -> None:
    token, text = mint(wallet)
    services.revoke_token(token_id=token.pk, wallet=wallet)
    first = Token.objects.get(pk=token.pk).revoked_at
    services.revoke_token(token_id=token.pk, wallet=wallet)
    assert Token.objects.get(pk=token.pk).revoked_at == first
    assert refusal(text).detail == "The token was revoked."


def test_nobody_revokes_the_token_of_another(wallet: Wallet) -> None:
    token, text = mint(wallet)
    other = Wallet.objects.of("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC")
    with pytest.raises(Problem) as caught:
        services.revoke_token(token_id=token.pk, wallet=other)
    assert caught.value.status == 404
    assert queries.authenticate(text).token_id == token.pk


def test_a_closed_wallet_ends_its_tokens(wallet: Wallet) -> None:
    _, text = mint(wallet)
    Wallet.objects.filter(pk=wallet.pk).update(is_active=False)
    assert refusal(text).detail == "The token's wallet is closed."


def test_last_use_is_noted_at_most_once_a_minute(wallet: Wallet) -> None:
    token, text = mint(wallet)
    queries.authenticate(text)
    first = Token.objects.get(pk=token.pk).last_used_at
    assert first is not None
    queries.authenticate(text)
    assert Token.objects.get(pk=token.pk).last_used_at == first
    Token.objects.filter(pk=token.pk).update(last_used_at=Now() - timedelta(minutes=2))
    queries.authenticate(text)
    again = Token.objects.get(pk=token.pk).last_used_at
    assert again is not None
    assert again >= first


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(days=-1), timedelta(days=367)])
def test_a_lifetime_out_of_bounds_is_refused(wallet: Wallet, lifetime: timedelta) -> None:
    with pytest.raises(Problem) as caught:
        mint(wallet, lifetime=lifetime)
    assert caught.value.code == "token-invalid"
    assert Token.objects.count() == 0


def test_an_unknown_action_is_refused_and_the_choices_are_told(wallet: Wallet) -> None:
    with pytest.raises(Problem) as caught:
        mint(wallet, actions=["destroy"])
    assert caught.value.violations[0].pointer == "/actions"
    assert caught.value.detail.endswith("choose from invoke, manage, publish, read:usage.")


@pytest.mark.parametrize(
    ("path", "header", "code"),
    [
        ("/api/v1/collections", "Bearer garbage", "invalid-token"),
        ("/api/v1/collections", "Bearer " + "x" * 1_000_000, "invalid-token"),
        ("/api/v1/collections", "Basic dXNlcjpwYXNz", "token-required"),
        ("/api/v1/collections?token=infra_x", "", "token-in-url"),
    ],
)
def test_a_bad_token_is_401_with_a_challenge(path: str, header: str, code: str) -> None:
    client = APIClient(headers={"Authorization": header} if header else None)
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["WWW-Authenticate"].startswith('Bearer realm="inframind"')
    assert answer.json()["type"] == f"/problems/{code}"
    assert answer.json()["charged"] is False


def test_the_command_prints_the_token_alone_on_stdout() -> None:
    out, err = StringIO(), StringIO()
    call_command("mint_token", wallet=ADDRESS.lower(), actions=["publish"], stdout=out, stderr=err)
    caller = queries.authenticate(out.getvalue().strip())
    assert (caller.address, caller.actions) == (ADDRESS, frozenset({"publish"}))
    assert out.getvalue().strip() not in err.getvalue()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wallet": "0x12"}, "0x12"),
        ({"wallet": ADDRESS, "expires_in": "soon"}, "'soon' is not a duration"),
        ({"wallet": ADDRESS, "expires_in": "999d"}, "at most 366 days"),
    ],
)
def test_the_command_says_what_is_wrong(options: dict[str, str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("mint_token", **options)
    assert Token.objects.count() == 0


def test_the_revoke_command_ends_the_token(wallet: Wallet) -> None:
    token, text = mint(wallet)
    call_command("revoke_token", str(token.pk), stdout=StringIO())
    assert refusal(text).detail == "The token was revoked."


def test_log_lines_never_show_a_token(wallet: Wallet) -> None:
    from inframind.logs import drop_private

    _, text = mint(wallet)
    event = drop_private(None, "info", {"event": f"GET /x Authorization: Bearer {text}"})
    assert text not in event["event"]
    assert "[token]" in event["event"]
