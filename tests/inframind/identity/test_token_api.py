"""REST of tokens: only the account makes them; anybody ends one that they hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from inframind.identity import queries, services
from inframind.identity.models import Token, Wallet
from inframind.lib import bearer
from inframind.lib.problem import Problem
from inframind.lib.scopes import Caveat

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
pytestmark = pytest.mark.django_db


def text_of(address: str = ADDRESS, **changes: Any) -> str:
    given: dict[str, Any] = {"name": "test", "actions": ["invoke"], "lifetime": timedelta(hours=1)}
    return services.mint_token(wallet=Wallet.objects.of(address), **{**given, **changes})[1]


def login(address: str = ADDRESS) -> str:
    return text_of(address, kind="login", name="infra login", actions=Token.Action.values)


def client(token: str = "") -> APIClient:
    return APIClient(headers={"Authorization": f"Bearer {token}"} if token else None)


def make(token: str, **wish: Any) -> Any:
    return client(token).post("/api/v1/tokens", {"expires_in": "1h", **wish}, format="json")


def alive(text: str, remote_address: str = "") -> bool:
    try:
        queries.authenticate(text, remote_address)
    except Problem:
        return False
    return True


def test_a_token_is_made_and_shown_once() -> None:
    account = login()
    answer = make(
        account,
        name="build server",
        actions=["invoke", "read:usage"],
        model_scope="named",
        models=["agent-vault"],
        expires_in="24h",
        spend_limit="5 IFM",
        calls_limit=100,
        ip_ranges=["10.0.0.0/8"],
    )
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    document = answer.json()
    text = document.pop("token")
    caller = queries.authenticate(text, "10.0.0.1")
    assert (str(caller.token_id), caller.names) == (document["id"], frozenset({"agent-vault"}))
    assert answer["Location"] == f"/api/v1/tokens/{document['id']}"
    again = client(account).get(answer["Location"])
    assert (again.status_code, again.json()["last_used_at"] is None) == (200, False)
    assert {**again.json(), "last_used_at": None} == document
    assert document["limits"] == {
        "calls": {"limit": 100, "used": 0},
        "spend": {
            "limit": {"base_units": "5000000000000000000", "text": "5 IFM"},
            "used": {"base_units": "0", "text": "0 IFM"},
        },
    }
    assert (document["state"], document["kind"], document["narrowings"]) == ("active", "scoped", 0)
    assert text not in client(account).get("/api/v1/tokens").content.decode()


def test_what_is_left_out_gives_a_token_to_call_models_with() -> None:
    document = make(login()).json()
    assert (document["actions"], document["model_scope"], document["models"]) == (
        ["invoke"],
        "any",
        [],
    )
    assert document["limits"] == {"calls": None, "spend": None}


def test_an_account_sees_its_own_tokens_only() -> None:
    mine, theirs = login(), login(OTHER)
    made = make(mine).json()["id"]
    listed = client(mine).get("/api/v1/tokens").json()["tokens"]
    assert [token["kind"] for token in listed] == ["scoped", "login"]
    assert made not in client(theirs).get("/api/v1/tokens").content.decode()
    nowhere = "/api/v1/tokens/00000000-0000-7000-8000-000000000000"
    unknown = client(theirs).get(nowhere)
    for answer in (
        client(theirs).get(f"/api/v1/tokens/{made}"),
        client(theirs).delete(f"/api/v1/tokens/{made}"),
        client(theirs).post(f"/api/v1/tokens/{made}/rotate", {}, format="json"),
    ):
        assert answer.status_code == unknown.status_code == 404
        assert answer.json()["detail"] == unknown.json()["detail"]
    assert Token.objects.get(pk=made).revoked_at is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/api/v1/tokens"),
        ("post", "/api/v1/tokens"),
        ("get", "/api/v1/tokens/{id}"),
        ("delete", "/api/v1/tokens/{id}"),
        ("post", "/api/v1/tokens/{id}/rotate"),
    ],
)
def test_a_scoped_or_narrowed_token_manages_no_tokens(method: str, path: str) -> None:
    scoped = text_of(actions=["invoke", "manage", "publish", "read:usage"])
    narrowed = bearer.narrow(login(), Caveat())
    path = path.format(id=bearer.decode(scoped).token_id)
    before = Token.objects.count()
    for token in (scoped, narrowed):
        answer = getattr(client(token), method)(path, {"expires_in": "1h"}, format="json")
        assert answer.status_code == 403
        assert answer.json()["type"] == "/problems/insufficient-scope"
        assert 'error="insufficient_scope"' in answer["WWW-Authenticate"]
    answer = getattr(client(), method)(path, {"expires_in": "1h"}, format="json")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="inframind"')
    assert Token.objects.count() == before
    assert alive(scoped)


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"expires_in": None}, "/expires_in"),
        ({"expires_in": "soon"}, "/expires_in"),
        ({"expires_in": "9999d"}, "/expires_in"),
        ({"spend_limit": "lots"}, "/spend_limit"),
        ({"spend_limit": "-1 IFM"}, "/spend_limit"),
        ({"calls_limit": 0}, "/calls_limit"),
        ({"calls_limit": 10**18}, "/calls_limit"),
        ({"calls_limit": "many"}, "/calls_limit"),
        ({"actions": ["account"]}, "/actions"),
        ({"actions": "invoke"}, "/actions"),
        ({"models": ["Not A Name"]}, "/models"),
        ({"model_scope": "everything"}, "/model_scope"),
        ({"ip_ranges": ["10.0.0.1/8"]}, "/ip_ranges"),
        ({"name": "a\x00b"}, "/name"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_422_with_the_place(
    wish: dict[str, Any], pointer: str
) -> None:
    answer = make(login(), **wish)
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["violations"][0]["pointer"] == pointer
    assert Token.objects.filter(kind="scoped").count() == 0


def test_a_body_that_is_no_object_is_422() -> None:
    answer = client(login()).post("/api/v1/tokens", [1], format="json")
    assert answer.status_code == 422


def test_a_model_that_is_private_or_unknown_is_simply_named() -> None:
    answer = make(login(), models=["nobody-has-this-one"])
    assert (answer.status_code, answer.json()["models"]) == (201, ["nobody-has-this-one"])


def test_a_token_is_rotated_with_an_overlap() -> None:
    account = login()
    old = make(account, calls_limit=5).json()
    where = f"/api/v1/tokens/{old['id']}/rotate"
    answer = client(account).post(where, {"overlap": "10m"}, format="json")
    assert answer.status_code == 201
    new = answer.json()
    assert (new["rotated_from"], new["limits"]) == (old["id"], old["limits"])
    assert alive(old["token"])
    assert alive(new["token"])
    again = client(account).post(where, {}, format="json")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/token-not-rotatable")


def test_deleting_a_token_revokes_it_and_twice_is_once() -> None:
    account = login()
    made = make(account).json()
    for _ in range(2):
        assert client(account).delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert client(account).get(f"/api/v1/tokens/{made['id']}").json()["state"] == "revoked"
    assert not alive(made["token"])


@pytest.mark.parametrize("kind", ["form", "json"])
def test_whoever_holds_a_token_ends_it(kind: str) -> None:
    text = text_of()
    child = bearer.narrow(text, Caveat())
    for ended, left in ((child, True), (text, False)):
        answer = (
            client().post("/api/v1/tokens/revoke", {"token": ended}, format="json")
            if kind == "json"
            else client().post(
                "/api/v1/tokens/revoke",
                f"token={ended}&token_type_hint=access_token",
                content_type="application/x-www-form-urlencoded",
            )
        )
        assert (answer.status_code, answer.content) == (200, b"")
        assert not alive(ended)
        assert alive(text) == left


@pytest.mark.parametrize("text", ["garbage", "infra_" + "0" * 60, "x" * 1_000_000, "\x00"])
def test_revoking_what_is_no_token_is_200(text: str) -> None:
    answer = client().post("/api/v1/tokens/revoke", {"token": text}, format="json")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/api/v1/tokens/revoke", "/api/v1/tokens/introspect"])
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 400),
        (b"token=", "application/x-www-form-urlencoded", 400),
        (b"token=%ff%00", "application/x-www-form-urlencoded", 200),
        (b"&" * 50_000, "application/x-www-form-urlencoded", 400),
        (b"token=" + b"x" * 1_000_000, "application/x-www-form-urlencoded", 413),
        (b"[]", "application/json", 400),
        (b'{"token": 7}', "application/json", 400),
        (b"{", "application/json", 400),
        (b"<token/>", "application/xml", 415),
    ],
)
def test_a_bad_body_is_never_a_500(path: str, body: bytes, kind: str, status: int) -> None:
    answer = client().post(path, body, content_type=kind)
    assert answer.status_code == status


def test_a_token_in_the_address_is_refused_where_it_would_be_ended() -> None:
    text = text_of()
    answer = client().post(f"/api/v1/tokens/revoke?token={text}", {"token": text}, format="json")
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/token-in-url")
    assert client().get(f"/api/v1/collections?key={text}").status_code == 401


def introspected(asking: str, text: str) -> dict[str, Any]:
    answer = client(asking).post("/api/v1/tokens/introspect", {"token": text}, format="json")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def test_the_account_and_the_token_itself_learn_what_it_is_good_for() -> None:
    account = login()
    text = text_of(
        actions=["invoke", "publish"], calls_limit=100, ip_ranges=["10.0.0.0/8", "127.0.0.0/8"]
    )
    child = bearer.narrow(
        text,
        Caveat(
            models=frozenset({"agent-vault"}),
            actions=frozenset({"invoke"}),
            calls_limit=5,
            spend_limit_base_units=10**18,
            expires_at=4_000_000_000,
        ),
    )
    token = Token.objects.get(pk=bearer.decode(text).token_id)
    found = introspected(account, child)
    assert found == introspected(child, child)
    assert found["jti"] == str(queries.recognise(child).caller.narrowing_id)
    assert {**found, "jti": ""} == {
        "active": True,
        "token_type": "Bearer",
        "scope": "invoke",
        "sub": ADDRESS,
        "username": ADDRESS,
        "jti": "",
        "iat": int(token.created_at.timestamp()),
        "exp": int(token.expires_at.timestamp()),
        "token_id": str(token.pk),
        "narrowed": 1,
        "model_scope": "named",
        "models": ["agent-vault"],
        "owned_only": False,
        "ip_ranges": ["10.0.0.0/8", "127.0.0.0/8"],
        "calls_limit": 5,
        "spend_limit": {"base_units": str(10**18), "text": "1 IFM"},
    }


def test_looking_into_a_token_does_not_use_it() -> None:
    account, text = login(), text_of()
    child = bearer.narrow(text, Caveat(calls_limit=5))
    assert introspected(account, child)["active"] is True
    token = Token.objects.get(pk=bearer.decode(text).token_id)
    assert (token.last_used_at, token.narrowings.count()) == (None, 0)


def test_all_others_learn_nothing_about_a_token() -> None:
    text, revoked = text_of(), text_of()
    services.revoke_presented(text=revoked)
    sibling, parent = text_of(actions=["manage"]), bearer.narrow(text, Caveat())
    for asking, asked in (
        ("", text),
        (login(OTHER), text),
        (text_of(OTHER), text),
        (sibling, text),
        (parent, text),
        (login(), revoked),
        (login(), "garbage"),
        (login(), "x" * 1_000_000),
    ):
        assert introspected(asking, asked) == {"active": False}


@pytest.mark.parametrize(
    "garbled",
    [
        lambda text: text[:-1],
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text: text.swapcase(),
        lambda text: text + text,
        lambda text: "infra_" + "z" * 60,
        lambda text: text + "x" * 1_000_000,
    ],
)
def test_a_garbled_token_is_401_invalid_token(garbled: Any) -> None:
    answer = client(garbled(login())).get("/api/v1/tokens")
    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/invalid-token"
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]


def test_a_token_from_elsewhere_is_403_in_plain_words() -> None:
    text = text_of(actions=["read:usage"], ip_ranges=["10.0.0.0/8"])
    answer = client(text).get("/api/v1/account/usage")
    assert answer.status_code == 403
    assert answer.json()["detail"] == "This token is not for calls from 127.0.0.1."
    assert (
        client(text).get("/api/v1/account/usage", REMOTE_ADDR="::ffff:10.2.3.4").status_code == 200
    )
