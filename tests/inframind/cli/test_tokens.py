"""Tokens: made at the real application, narrowed without it, ended by id and by showing them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from inframind.cli import logins
from inframind.identity.models import Token
from inframind.lib import bearer, scopes
from tests.inframind.cli.conftest import ADDRESS, Infra

pytestmark = pytest.mark.django_db(transaction=True)

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"
HELD = bearer.encode(Token().id, bytes(range(24)))


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def made(infra: Infra, *arguments: str) -> str:
    outcome = infra("token", "generate", "--any-model", "--expires-in", "1h", *arguments)
    assert outcome.status == 0, outcome.stderr
    return outcome.stdout.strip()


def test_the_token_alone_is_on_stdout_and_works_as_the_environments(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = infra("token", "generate", "--model", "agent-vault", "--expires-in", "24h")
    assert outcome.status == 0, outcome.stderr
    [token] = outcome.stdout.splitlines()
    assert token not in outcome.stderr
    assert "shown this once" in outcome.stderr
    monkeypatch.setenv("INFRA_TOKEN", token)
    document = json.loads(infra("whoami", "--json").stdout)
    credential = document["credential"]
    assert (document["address"], credential["kind"]) == (ADDRESS, "scoped")
    assert (credential["actions"], credential["models"]) == (["invoke"], ["agent-vault"])
    assert credential["name"] == "agent-vault"


def test_a_token_has_the_scope_and_limits_that_were_asked_for(infra: Infra, signed_in: str) -> None:
    outcome = infra(
        "token", "generate", "--owned", "--expires-in", "30d", "--action", "publish",
        "--action", "read:usage", "--spend-limit", "5IFM", "--calls", "100",
        "--ip-range", "10.0.0.0/8", "--name", "ci", "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    bearer.decode(document["token"])
    shown = json.loads(infra("token", "show", document["id"], "--json").stdout)
    assert "token" not in shown
    assert (shown["name"], shown["model_scope"], shown["ip_ranges"]) == (
        "ci",
        "owned",
        ["10.0.0.0/8"],
    )
    assert sorted(shown["actions"]) == ["publish", "read:usage"]
    assert shown["limits"]["calls"] == {"limit": 100, "used": 0}
    assert shown["limits"]["spend"]["limit"]["text"] == "5 IFM"
    rows = infra("token", "show", document["id"]).stdout.splitlines()
    assert "Spend       0 IFM of 5 IFM" in rows
    assert "Calls       0 of 100" in rows


def test_tokens_are_listed_without_themselves(infra: Infra, signed_in: str) -> None:
    token = made(infra, "--name", "one")
    listed = infra("token", "list")
    lines = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [line[1:4] for line in lines] == [
        ["active", "scoped", "one"],
        ["active", "login", "infra login"],
    ]
    assert [re.sub(r"\d", "0", line[6]) for line in lines] == ["0000-00-00T00:00:00Z"] * 2
    documents = json.loads(infra("token", "list", "--json").stdout)
    kept = logins.of(signed_in)
    assert kept is not None
    for secret in (token, kept.token):
        assert secret not in listed.stdout
        assert secret not in json.dumps(documents)


def test_a_revoked_token_ends_with_all_that_were_narrowed_from_it(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = made(infra)
    monkeypatch.setenv("INFRA_TOKEN", token)
    narrowed = infra("token", "narrow", "--calls", "3").stdout.strip()
    monkeypatch.setenv("INFRA_TOKEN", narrowed)
    assert infra("whoami").status == 0
    monkeypatch.delenv("INFRA_TOKEN")
    token_id = str(bearer.decode(token).token_id)
    outcome = infra("token", "revoke", token_id, "--json")
    assert json.loads(outcome.stdout) == {"id": token_id, "revoked": True}
    for each in (token, narrowed):
        monkeypatch.setenv("INFRA_TOKEN", each)
        refused = infra("whoami")
        assert refused.status == 4
        assert each not in refused.stderr


def test_a_narrowed_token_that_is_shown_ends_alone(
    infra: Infra, signed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = made(infra)
    typed(monkeypatch, token + "\n")
    narrowed = infra("token", "narrow", "-", "--calls", "3").stdout.strip()
    typed(monkeypatch, narrowed)
    outcome = infra("token", "revoke", "-")
    assert (outcome.status, outcome.stdout) == (0, "")
    monkeypatch.setenv("INFRA_TOKEN", narrowed)
    assert infra("whoami").status == 4
    monkeypatch.setenv("INFRA_TOKEN", token)
    assert infra("whoami").status == 0


def test_a_rotated_token_keeps_scope_and_limits(infra: Infra, signed_in: str) -> None:
    old = made(infra, "--calls", "7", "--name", "robot")
    token_id = str(bearer.decode(old).token_id)
    outcome = infra("token", "rotate", token_id, "--overlap", "15m", "--json")
    assert outcome.status == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert (document["rotated_from"], document["name"]) == (token_id, "robot")
    assert document["limits"]["calls"]["limit"] == 7
    [token] = infra("token", "rotate", document["id"]).stdout.splitlines()
    assert token not in (old, document["token"])


@pytest.mark.parametrize("command", ["show", "revoke", "rotate"])
def test_a_token_that_is_not_yours_is_not_there(infra: Infra, signed_in: str, command: str) -> None:
    outcome = infra("token", command, UNKNOWN)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "There is no token with this id." in outcome.stderr
    assert "infra model list" not in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--any-model", "--expires-in", "1h"],
        ["list"],
        ["show", UNKNOWN],
        ["revoke", UNKNOWN],
        ["rotate", UNKNOWN],
    ],
)
def test_without_signing_in_the_way_is_told(
    infra: Infra, at_live_server: str, arguments: list[str]
) -> None:
    outcome = infra("token", *arguments)
    assert (outcome.status, outcome.stdout) == (4, "")
    assert "infra login" in outcome.stderr


def test_the_servers_refusal_of_a_token_is_told(infra: Infra, signed_in: str) -> None:
    outcome = infra("token", "generate", "--any-model", "--expires-in", "9999d")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert Token.objects.filter(kind="scoped").count() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "--expires-in", "1h"], "exactly one of the three"),
        (["generate", "--owned", "--any-model", "--expires-in", "1h"], "exactly one of the three"),
        (["generate", "--model", "a-b"], "--expires-in 24h"),
        (["generate", "--model", "a-b", "--expires-in", "1y"], "'1y' is not a duration"),
        (["generate", "--owned", "--expires-in", "1h", "--spend-limit", "-1"], "not an amount"),
        (["generate", "--owned", "--expires-in", "1h", "--action", "account"], "--action"),
        (["show", HELD], "is not the id of a token"),
        (["revoke", HELD], "infra token revoke -"),
        (["rotate", UNKNOWN, "--overlap", "soon"], "--overlap: 'soon' is not a duration"),
        (["narrow"], "INFRA_TOKEN is not set"),
        (["inspect"], "INFRA_TOKEN is not set"),
        (["narrow", HELD, "--calls", "1"], "A token is never an argument"),
        (["inspect", HELD], "A token is never an argument"),
    ],
)
def test_wrong_usage_sends_nothing_and_shows_no_token(
    infra: Infra, arguments: list[str], words: str
) -> None:
    outcome = infra("token", *arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert words in outcome.stderr
    assert HELD not in outcome.stderr


class TestOffline:
    """What needs no server, and asks none."""

    @pytest.fixture(autouse=True)
    def held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INFRA_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("INFRA_TOKEN", HELD)

    def test_a_narrowing_holds_what_was_taken_away(
        self, infra: Infra, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcome = infra(
            "token", "narrow", "--model", "ocr-v1", "--model", "asr-v1", "--action", "invoke",
            "--spend-limit", "1.5IFM", "--calls", "10", "--ip-range", "10.1.0.0/16",
            "--expires-in", "1h",
        )  # fmt: skip
        assert outcome.status == 0, outcome.stderr
        [token] = outcome.stdout.splitlines()
        [octets] = bearer.decode(token).caveats
        caveat = scopes.Caveat.parse(octets)
        assert caveat.models == frozenset({"asr-v1", "ocr-v1"})
        assert caveat.actions == frozenset({"invoke"})
        assert (caveat.spend_limit_base_units, caveat.calls_limit) == (15 * 10**17, 10)
        assert caveat.ip_ranges == ("10.1.0.0/16",)
        monkeypatch.setenv("INFRA_TOKEN", token)
        document = json.loads(infra("token", "inspect", "--json").stdout)
        assert document["id"] == str(bearer.decode(HELD).token_id)
        [shown] = document["narrowings"]
        assert (shown["models"], shown["calls_limit"]) == (["asr-v1", "ocr-v1"], 10)
        assert shown["spend_limit"]["text"] == "1.5 IFM"

    def test_inspecting_shows_neither_token_nor_mac(self, infra: Infra) -> None:
        outcome = infra("token", "inspect")
        assert outcome.stdout.splitlines() == [
            f"Id        {bearer.decode(HELD).token_id}",
            "Checksum  right: it was copied whole",
            "Narrowed  not narrowed",
        ]
        assert HELD not in infra("token", "inspect", "--json").stdout

    def test_five_narrowings_and_no_more(
        self, infra: Infra, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for calls in range(5, 0, -1):
            outcome = infra("token", "narrow", "--calls", str(calls))
            assert outcome.status == 0, outcome.stderr
            monkeypatch.setenv("INFRA_TOKEN", outcome.stdout.strip())
        assert len(json.loads(infra("token", "inspect", "--json").stdout)["narrowings"]) == 5
        refused = infra("token", "narrow", "--calls", "1")
        assert (refused.status, refused.stdout) == (2, "")
        assert "5 times" in refused.stderr

    def test_json_names_the_new_token(self, infra: Infra) -> None:
        document = json.loads(infra("token", "narrow", "--calls", "1", "--json").stdout)
        assert len(bearer.decode(document["token"]).caveats) == 1
        assert document["narrowing_id"]

    @pytest.mark.parametrize(
        "token",
        [HELD[:-1], HELD[:-1] + "!", HELD[:-2] + "zz", "infra_", "x" * 100, "y" * 5000],
        ids=["cut", "no digit", "wrong sum", "empty", "noise", "too long"],
    )
    @pytest.mark.parametrize("command", [["inspect"], ["narrow", "--calls", "1"]])
    def test_a_token_that_was_cut_or_mistyped_is_told_and_not_shown(
        self, infra: Infra, monkeypatch: pytest.MonkeyPatch, token: str, command: list[str]
    ) -> None:
        monkeypatch.setenv("INFRA_TOKEN", token)
        outcome = infra("token", *command)
        assert (outcome.status, outcome.stdout) == (2, "")
        assert "not a whole token" in outcome.stderr
        assert token not in outcome.stderr

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "Nothing is to be taken away."),
            (["--model", "No Name"], "is not a model name"),
            (["--ip-range", "here"], "not an address range"),
            (["--calls", "0"], "--calls"),
            (["--expires-in", "0s"], "not a duration"),
        ],
    )
    def test_a_narrowing_that_no_token_can_hold_is_wrong_usage(
        self, infra: Infra, arguments: list[str], words: str
    ) -> None:
        outcome = infra("token", "narrow", *arguments)
        assert (outcome.status, outcome.stdout) == (2, "")
        assert words in outcome.stderr

    def test_an_empty_stdin_is_told(
        self, infra: Infra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        typed(monkeypatch, "\n")
        assert "no token on stdin" in infra("token", "inspect", "-").stderr
