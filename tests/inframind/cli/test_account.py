"""Signing in and out at the real application, and what is kept of it."""

from __future__ import annotations

import dataclasses
import io
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pytest_django.fixtures import Settings

from inframind.cli import logins
from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token, revoke_token
from inframind.identity.signatures import signer_of
from inframind.lib import siwe
from tests.inframind.cli.conftest import ADDRESS, KEY, OTHER_KEY, Infra

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "infra" / "logins.json"


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def message(url: str, **changes: str) -> str:
    made = siwe.Message(
        domain=url.partition("://")[2],
        address=ADDRESS,
        uri=f"{url}/signin",
        chain_id=31337,
        nonce="12345678abcdef",
        issued_at=siwe.rfc3339(_now()),
    )
    return str(dataclasses.replace(made, **changes))  # type: ignore[arg-type]


def _now() -> datetime:
    return datetime.now(UTC)


def test_signing_in_shows_what_is_signed_and_keeps_a_private_login(
    infra: Infra, at_live_server: str, file: Path
) -> None:
    outcome = infra("login")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.splitlines()[:2] == [
        f"Signed in  {ADDRESS}",
        f"Server     {at_live_server}",
    ]
    assert f"  {ADDRESS}" in outcome.stderr.splitlines()
    assert f"  URI: {at_live_server}/signin" in outcome.stderr.splitlines()
    kept = logins.of(at_live_server)
    assert kept is not None
    assert kept.token not in outcome.stdout + outcome.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert Token.objects.get().kind == "login"


def test_whoami_tells_wallet_roles_and_credential(infra: Infra, signed_in: str) -> None:
    shown = infra("whoami")
    assert f"Wallet   {ADDRESS}" in shown.stdout.splitlines()
    assert "By       the login" in shown.stdout.splitlines()
    document = json.loads(infra("whoami", "--json").stdout)
    assert (document["address"], document["url"], document["token_source"]) == (
        ADDRESS,
        signed_in,
        "login",
    )
    assert document["credential"]["kind"] == "login"


def test_with_json_nothing_of_the_login_is_printed_but_its_facts(
    infra: Infra, at_live_server: str
) -> None:
    outcome = infra("login", "--json")
    document = json.loads(outcome.stdout)
    kept = logins.of(at_live_server)
    assert kept is not None
    assert (document["url"], document["token_id"]) == (at_live_server, kept.token_id)
    assert document.keys() == {"url", "address", "token_id", "expires_at", "message"}
    assert outcome.stderr == ""


def test_signing_out_ends_the_login_here_and_there(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = logins.of(signed_in)
    assert kept is not None
    outcome = infra("logout")
    assert (outcome.status, outcome.stdout) == (0, "")
    assert f"Signed out at {signed_in}." in outcome.stderr
    assert logins.of(signed_in) is None
    assert infra("whoami").status == 4
    monkeypatch.setenv("INFRA_TOKEN", kept.token)
    refused = infra("whoami")
    assert refused.status == 4
    assert "infra login" in refused.stderr
    monkeypatch.delenv("INFRA_TOKEN")
    assert json.loads(infra("logout", "--json").stdout) == {"url": signed_in, "signed_out": False}


def test_a_login_that_was_ended_elsewhere_can_be_signed_out_and_in_again(
    infra: Infra, signed_in: str
) -> None:
    token = Token.objects.get()
    revoke_token(token_id=token.pk, wallet=token.wallet)
    refused = infra("whoami")
    assert refused.status == 4
    assert "infra login" in refused.stderr
    assert infra("logout").status == 0
    assert infra("login").status == 0
    assert infra("whoami").status == 0


def test_a_login_is_used_at_its_own_server_only(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = signed_in.replace("localhost", "127.0.0.1")
    monkeypatch.setenv("INFRA_URL", elsewhere)
    assert elsewhere != signed_in
    outcome = infra("whoami")
    assert outcome.status == 4
    assert f"you are not signed in at {elsewhere}" in outcome.stderr


def test_an_expired_login_says_so_and_is_not_sent(infra: Infra, signed_in: str) -> None:
    kept = logins.of(signed_in)
    assert kept is not None
    over = siwe.rfc3339(_now() - timedelta(seconds=5))
    logins.keep(signed_in, logins.Login(kept.address, kept.token, kept.token_id, over))
    outcome = infra("whoami", "--json")
    assert outcome.status == 4
    assert f"expired on {over}" in json.loads(outcome.stderr)["detail"]
    assert "infra login" in json.loads(outcome.stderr)["remedy"]
    assert infra("model", "list").status == 0
    assert infra("logout").status == 0


def test_the_environments_token_wins_over_the_login(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "0x" + "a1" * 20
    token = mint_token(
        wallet=Wallet.objects.of(other), name="other", actions=["invoke"],
        lifetime=timedelta(hours=1),
    )[1]  # fmt: skip
    monkeypatch.setenv("INFRA_TOKEN", token)
    document = json.loads(infra("whoami", "--json").stdout)
    assert (document["address"].lower(), document["token_source"]) == (other, "INFRA_TOKEN")
    refused = infra("token", "list")
    assert refused.status == 4
    assert "unset INFRA_TOKEN" in refused.stderr
    assert "INFRA_TOKEN is set and wins" in infra("login").stderr


def test_a_server_that_names_another_site_gets_no_signature(
    infra: Infra, at_live_server: str, settings: Settings
) -> None:
    settings.SITE_URL = "https://elsewhere.example"
    outcome = infra("login")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "elsewhere.example" in outcome.stderr
    assert "Nothing was signed." in outcome.stderr
    assert logins.of(at_live_server) is None


def test_the_pages_message_is_signed_for_pasting(
    infra: Infra, at_live_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = message(at_live_server)
    typed(monkeypatch, text + "\n")
    outcome = infra("login", "--sign", "-")
    assert outcome.status == 0, outcome.stderr
    [signature] = outcome.stdout.splitlines()
    assert signer_of(text, signature) == ADDRESS
    assert text.splitlines()[0] in outcome.stderr
    assert logins.of(at_live_server) is None


def test_a_pasted_message_signs_in_at_the_application(
    infra: Infra, at_live_server: str, tmp_path: Path
) -> None:
    challenge = httpx.post(f"{at_live_server}/api/v1/auth/nonce").json()
    text = siwe.write(
        siwe.Message(
            domain=challenge["domain"],
            address=ADDRESS,
            statement=challenge["statement"],
            uri=challenge["uri"],
            chain_id=challenge["chain_id"],
            nonce=challenge["nonce"],
            issued_at=challenge["issued_at"],
            expiration_time=challenge["expires_at"],
        )
    )
    (tmp_path / "message.txt").write_bytes(text.replace("\n", "\r\n").encode())
    signature = infra("login", "--sign", "message.txt").stdout.strip()
    answer = httpx.post(
        f"{at_live_server}/api/v1/auth/login", json={"message": text, "signature": signature}
    )
    assert (answer.status_code, answer.json()["address"]) == (200, ADDRESS)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"domain": "evil.example"}, 1, "evil.example"),
        ({"uri": "https://evil.example/signin"}, 1, "evil.example"),
        ({"scheme": "https"}, 1, "https://"),
        ({"address": "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"}, 1, "is for the wallet"),
        ({"expiration_time": "2020-01-01T00:00:00Z"}, 1, "expired"),
    ],
)
def test_a_message_that_must_not_be_signed_is_not(
    infra: Infra,
    at_live_server: str,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    status: int,
    words: str,
) -> None:
    typed(monkeypatch, message(at_live_server, **changes))
    outcome = infra("login", "--sign", "-")
    assert (outcome.status, outcome.stdout) == (status, "")
    assert words in outcome.stderr
    assert "Nothing was signed." in outcome.stderr


def test_what_is_no_message_is_wrong_usage(
    infra: Infra, at_live_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "Please sign this transaction.")
    outcome = infra("login", "--sign", "-")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "not a sign-in message" in outcome.stderr


def test_damaged_logins_are_told(infra: Infra, signed_in: str, file: Path) -> None:
    for text in ("{", "[]", '{"x": {"address": 1}}', '{"x": 7}'):
        file.write_text(text)
        outcome = infra("whoami")
        assert outcome.status == 2
        assert f"{file} is not what `infra login` wrote." in outcome.stderr


def test_two_wallets_two_logins(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_PRIVATE_KEY", OTHER_KEY)
    assert infra("login").status == 0
    assert json.loads(infra("whoami", "--json").stdout)["address"] != ADDRESS
    assert KEY != OTHER_KEY


def test_logins_kept_at_once_are_all_kept(infra: Infra, signed_in: str) -> None:
    kept = logins.of(signed_in)
    assert kept is not None
    urls = [f"https://{number}.example" for number in range(12)]
    with ThreadPoolExecutor(max_workers=12) as pool:
        list(pool.map(lambda url: logins.keep(url, kept), urls))
    assert [url for url in urls if logins.of(url) is None] == []


def test_usage_is_counted_by_day_and_model(infra: Infra, signed_in: str) -> None:
    outcome = infra("usage", "--days", "7")
    assert (outcome.status, outcome.stdout) == (0, "last 7 days\t0\t0\t0 IFM\n")
    document = json.loads(infra("usage", "--json").stdout)
    assert (document["calls"], len(document["by_day"]), document["by_model"]) == (0, 30, [])
    assert infra("usage", "--days", "0").status == 2
    infra("logout")
    assert infra("usage").status == 4
