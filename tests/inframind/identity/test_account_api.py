"""REST of the account: a program signs in, asks who it is and where else it is, signs out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from inframind.identity import services
from inframind.identity.models import Session, SignInNonce, Token, Wallet
from inframind.lib import bearer, scopes, siwe
from tests.inframind.identity.signing import Signer, line, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def signer() -> Signer:
    return Signer.fresh()


@pytest.fixture
def program() -> Client:
    return Client(REMOTE_ADDR=line(), headers={"User-Agent": "infra/0.1"})


def message_of(given: dict[str, Any], address: str, **changes: Any) -> str:
    """The message that a program makes of the answer to ``auth/nonce``."""
    fields: dict[str, Any] = {
        "domain": given["domain"],
        "address": address,
        "statement": given["statement"],
        "uri": given["uri"],
        "version": given["version"],
        "chain_id": given["chain_id"],
        "nonce": given["nonce"],
        "issued_at": given["issued_at"],
        "expiration_time": given["expires_at"],
    }
    return str(siwe.Message(**{**fields, **changes}))


def post(program: Client, path: str, document: Any, **headers: str) -> Any:
    return program.post(
        f"/api/v1/{path}", document, content_type="application/json", headers=headers
    )


def login(program: Client, signer: Signer) -> dict[str, Any]:
    given = program.post("/api/v1/auth/nonce").json()
    message = message_of(given, signer.address)
    answer = post(program, "auth/login", {"message": message, "signature": signer.sign(message)})
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def scoped(signer: Signer, **changes: Any) -> str:
    given: dict[str, Any] = {
        "wallet": Wallet.objects.of(signer.address),
        "name": "ci",
        "actions": ["invoke"],
        "lifetime": timedelta(hours=1),
    }
    return services.mint_token(**{**given, **changes})[1]


def test_a_nonce_comes_with_all_that_a_message_needs(program: Client) -> None:
    answer = program.post("/api/v1/auth/nonce")
    document = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert {key: document[key] for key in ("domain", "uri", "version", "chain_id")} == {
        "domain": "127.0.0.1:8000",
        "uri": "http://127.0.0.1:8000/signin",
        "version": "1",
        "chain_id": settings.CHAIN_ID,
    }
    lifetime = siwe.moment(document["expires_at"]) - siwe.moment(document["issued_at"])
    assert lifetime == timedelta(seconds=settings.SIGN_IN_NONCE_SECONDS)
    assert SignInNonce.objects.get().nonce == document["nonce"]


def test_a_signed_message_yields_a_login_token(program: Client, signer: Signer) -> None:
    document = login(program, signer)
    token = Token.objects.get(pk=document["token_id"])
    assert (document["address"], token.wallet_id) == (signer.address, signer.address)
    assert (token.kind, token.model_scope, token.user_agent) == ("login", "any", "infra/0.1")
    assert set(token.actions) == set(Token.Action.values)
    days = (token.expires_at - timezone.now()) / timedelta(days=1)
    assert round(days) == settings.LOGIN_TOKEN_DAYS


def test_one_message_yields_one_token(program: Client, signer: Signer) -> None:
    message = message_of(program.post("/api/v1/auth/nonce").json(), signer.address)
    document = {"message": message, "signature": signer.sign(message)}
    statuses = [post(program, "auth/login", document).status_code for _ in range(3)]
    assert statuses == [200, 409, 409]
    assert Token.objects.count() == 1


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 422),
        ([], 422),
        ('"text"', 422),
        ("text", 400),
        ({"message": "", "signature": ""}, 422),
        ({"message": "x", "signature": "0x"}, 422),
        ({"message": ["x"], "signature": {"a": 1}}, 422),
        ({"message": "x" * 100_000, "signature": "0x"}, 422),
        ({"message": "a\x00b", "signature": "0x00"}, 422),
    ],
)
def test_what_is_no_sign_in_is_a_problem(program: Client, document: Any, status: int) -> None:
    answer = post(program, "auth/login", document)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert Token.objects.count() == 0


def test_a_bad_signature_points_at_the_field(program: Client, signer: Signer) -> None:
    message = message_of(program.post("/api/v1/auth/nonce").json(), signer.address)
    wrong = Signer.fresh().sign(message)
    document = post(program, "auth/login", {"message": message, "signature": wrong}).json()
    assert document["type"] == "/problems/signature-invalid"
    assert document["violations"][0]["pointer"] == "/signature"
    assert document["charged"] is False


def test_a_signature_that_is_mirrored_is_refused(program: Client, signer: Signer) -> None:
    message = message_of(program.post("/api/v1/auth/nonce").json(), signer.address)
    mirrored = {"message": message, "signature": signer.sign_mirrored(message)}
    answer = post(program, "auth/login", mirrored)
    assert answer.status_code == 422
    assert "high s" in answer.json()["detail"]


def test_any_token_is_told_whose_it_is_and_what_it_may(program: Client, signer: Signer) -> None:
    text = scoped(signer, actions=["invoke", "publish"], models_allowed=["summarizer-v1"])
    document = program.get("/api/v1/account", headers=bearing(text)).json()
    credential = document.pop("credential")
    assert document == {"address": signer.address, "display_name": "", "roles": ["signed-in"]}
    assert (credential["kind"], credential["name"]) == ("scoped", "ci")
    assert credential["actions"] == ["invoke", "publish"]
    assert (credential["model_scope"], credential["models"]) == ("named", ["summarizer-v1"])


def test_a_narrowed_token_is_told_what_is_left_of_it(program: Client, signer: Signer) -> None:
    ends = int(timezone.now().timestamp()) + 600
    text = bearer.narrow(
        scoped(signer, actions=["invoke", "publish"]),
        scopes.Caveat(
            models=frozenset({"a-model"}), actions=frozenset({"invoke"}), expires_at=ends
        ),
    )
    credential = program.get("/api/v1/account", headers=bearing(text)).json()["credential"]
    assert (credential["actions"], credential["models"]) == (["invoke"], ["a-model"])
    assert siwe.moment(credential["expires_at"]).timestamp() == ends
    assert credential["narrowing_id"] is not None


def test_who_is_staff_is_told_so(program: Client, signer: Signer) -> None:
    Wallet.objects.of(signer.address)
    Wallet.objects.update(is_staff=True)
    document = program.get("/api/v1/account", headers=bearing(scoped(signer))).json()
    assert document["roles"] == ["signed-in", "staff"]


@pytest.mark.parametrize("path", ["account", "account/sessions"])
def test_a_stranger_is_asked_for_a_token(program: Client, path: str) -> None:
    answer = program.get(f"/api/v1/{path}")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="inframind"'


def test_a_browsers_session_is_no_token(signer: Signer) -> None:
    """No cookie is believed by the API, so no page of another site can use one."""
    assert signed_in(signer).get("/api/v1/account").status_code == 401


def change(program: Client, token: str, document: Any) -> Any:
    return program.patch(
        "/api/v1/account", document, content_type="application/json", headers=bearing(token)
    )


def test_the_name_that_is_shown_can_be_changed(program: Client, signer: Signer) -> None:
    token = login(program, signer)["token"]
    assert change(program, token, {"display_name": " Ada Ł. "}).json()["display_name"] == "Ada Ł."
    assert change(program, token, {"display_name": ""}).json()["display_name"] == ""


@pytest.mark.parametrize("name", ["x" * 61, "a\nb", "a\x00b", "a\u202eb", "\u200b", None, [], {}])
def test_a_name_that_cannot_be_shown_is_refused(program: Client, signer: Signer, name: Any) -> None:
    token = login(program, signer)["token"]
    answer = change(program, token, {"display_name": name})
    assert answer.status_code == 422
    assert answer.json()["violations"][0]["pointer"] == "/display_name"
    assert Wallet.objects.get().display_name == ""


def test_a_scoped_token_is_not_the_account(program: Client, signer: Signer) -> None:
    text = scoped(signer, actions=["invoke", "publish", "manage", "read:usage"])
    for answer in (
        change(program, text, {"display_name": "x"}),
        program.get("/api/v1/account/sessions", headers=bearing(text)),
        program.delete("/api/v1/account/sessions", headers=bearing(text)),
        program.delete(f"/api/v1/account/sessions/{'0' * 40}", headers=bearing(text)),
    ):
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        problem = answer.json()
        assert (problem["detail"], problem["remedy"]) == (
            "A scoped token does not act for the account itself.",
            "Sign in, or use `infra login`.",
        )


def test_browsers_and_programs_stand_side_by_side(program: Client, signer: Signer) -> None:
    signed_in(signer, user_agent="Firefox")
    signed_in(Signer.fresh())
    scoped(signer)
    other = login(program, signer)
    document = login(program, signer)
    listed = program.get("/api/v1/account/sessions", headers=bearing(document["token"])).json()
    found = {
        (each["kind"], each["user_agent"], each["current"]): each["id"]
        for each in listed["sessions"]
    }
    assert found == {
        ("browser", "Firefox", False): Session.objects.get(wallet=signer.address).pk,
        ("login", "infra/0.1", False): other["token_id"],
        ("login", "infra/0.1", True): document["token_id"],
    }


def test_each_of_them_can_be_ended(program: Client, signer: Signer) -> None:
    signed_in(signer)
    other, document = login(program, signer), login(program, signer)
    headers = bearing(document["token"])
    for session_id in (Session.objects.get().pk, other["token_id"]):
        path = f"/api/v1/account/sessions/{session_id}"
        assert program.delete(path, headers=headers).status_code == 204
    assert Session.objects.count() == 0
    assert program.get("/api/v1/account", headers=bearing(other["token"])).status_code == 401
    assert program.get("/api/v1/account", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "whose", ["another's browser", "another's login", "own scoped", "nobody's"]
)
def test_what_is_no_session_of_ones_own_is_a_404_in_the_same_words(
    program: Client, signer: Signer, whose: str
) -> None:
    token = login(program, signer)["token"]
    other = Signer.fresh()
    signed_in(other)
    ids = {
        "another's browser": Session.objects.get().pk,
        "another's login": login(program, other)["token_id"],
        "own scoped": str(
            services.mint_token(
                wallet=Wallet.objects.of(signer.address),
                name="ci",
                actions=["invoke"],
                lifetime=timedelta(hours=1),
            )[0].pk
        ),
        "nobody's": "é" * 100,
    }
    answer = program.delete(f"/api/v1/account/sessions/{ids[whose]}", headers=bearing(token))
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no session with this id."
    assert not Token.objects.exclude(revoked_at=None).exists()


def test_logging_out_ends_the_login(program: Client, signer: Signer) -> None:
    token = login(program, signer)["token"]
    assert program.post("/api/v1/auth/logout", headers=bearing(token)).status_code == 204
    assert program.get("/api/v1/account", headers=bearing(token)).status_code == 401
    assert program.post("/api/v1/auth/logout", headers=bearing(token)).status_code == 401
    assert program.post("/api/v1/auth/logout").status_code == 401


def test_only_the_login_itself_logs_out(program: Client, signer: Signer) -> None:
    """Whoever was lent a narrowed login cannot end the one it came from."""
    token = login(program, signer)["token"]
    lent = bearer.narrow(token, scopes.Caveat(actions=frozenset({"invoke"})))
    for text in (scoped(signer), lent):
        answer = program.post("/api/v1/auth/logout", headers=bearing(text))
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-a-login")
    assert program.get("/api/v1/account", headers=bearing(token)).status_code == 200


def test_a_line_that_asks_too_often_is_told_to_wait(program: Client, settings: Any) -> None:
    settings.SIGN_INS_PER_MINUTE = 2
    answers = [program.post("/api/v1/auth/nonce") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[2].headers["Retry-After"] == "60"
