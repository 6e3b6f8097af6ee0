"""Who may call what, with which body, at which price: refused before any node sees it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token, revoke_token
from inframind.lib.amounts import parse_ifm
from marketplace.catalog.models import AllowEntry, Model, Version
from marketplace.gateway.models import Call
from marketplace.gateway.queries import figures_for
from marketplace.mesh.models import Node

from ..mesh.serving import OWNER, fresh_name, list_doubler
from .money import fund

GUEST = "0x3333333333333333333333333333333333333333"


def token_of(address: str, *, actions: Any = ("invoke",), models: Any = ()) -> str:
    _, text = mint_token(
        wallet=Wallet.objects.of(address),
        name="test",
        actions=list(actions),
        models_allowed=list(models),
        lifetime=timedelta(hours=1),
    )
    return text


def make_private(version: Version, *, guest: str = "") -> None:
    model = Model.objects.get(pk=version.model_id)
    model.public, model.auth_required, model.restricted = False, True, True
    model.save()
    if guest:
        AllowEntry.objects.create(model=version.model, address=guest)


@pytest.fixture
def doubler(mesh: list[Node]) -> Version:
    return list_doubler(fresh_name("doubler"))


@pytest.fixture
def no_nodes(mesh: list[Node]) -> None:
    """Whatever still answers now did so without a node."""
    Node.objects.all().delete()


@pytest.mark.usefixtures("no_nodes")
@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b" ", 422, ""),
        (b"not json", 422, ""),
        (b'{"values": [NaN]}', 422, ""),
        (b'{"values": [Infinity]}', 422, ""),
        (b'{"values": [1e999]}', 422, ""),
        (b'{"values": "\xff"}', 422, ""),
        (b'{"values": [1], "values": [2]}', 422, "/values"),
        (b'{"values": [1], "extra": 1}', 422, ""),
        (b'{"values": ["one"]}', 422, "/values/0"),
        (b'{"values": [1e39]}', 422, "/values/0"),
        (b"[" * 5000 + b"]" * 5000, 422, ""),
        (b'{"values": ' + b"[" * 70 + b"]" * 70 + b"}", 422, "/values" + "/0" * 63),
        (b'"just text"', 422, ""),
    ],
)
def test_a_bad_body_is_refused_with_the_place(
    doubler: Version, call: Any, body: bytes, status: int, pointer: str
) -> None:
    answer = call(doubler.model_id, body)

    assert answer.status_code == status
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["violations"][0]["pointer"] == pointer
    assert problem["charged"] is False
    assert Call.objects.get().outcome == "invalid-input"


def test_a_body_over_the_limit_is_413(doubler: Version, call: Any, settings: Any) -> None:
    settings.CALL_BODY_MAX_BYTES = 100

    answer = call(doubler.model_id, b'{"label": "' + b"x" * 200 + b'"}')

    assert answer.status_code == 413


def test_another_content_type_is_415(doubler: Version) -> None:
    answer = Client().post(
        f"/inference/v1/{doubler.model_id}",
        "values=1",
        content_type="application/x-www-form-urlencoded",
    )

    assert answer.status_code == 415
    assert "application/json" in answer.json()["remedy"]


def test_a_bad_token_is_401_before_any_name_is_looked_up(mesh: list[Node], call: Any) -> None:
    answer = call("no-such-model", {}, token="infra_nonsense")

    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers


def test_a_token_in_the_address_is_refused(doubler: Version) -> None:
    token = token_of(GUEST)
    answer = Client().post(
        f"/inference/v1/{doubler.model_id}?access_token={token}",
        "{}",
        content_type="application/json",
    )

    assert answer.status_code == 401


def test_an_unknown_name_and_a_private_one_read_the_same(doubler: Version, call: Any) -> None:
    make_private(doubler)
    unknown = call("nothing-here-v1", {"values": []})
    private = call(doubler.model_id, {"values": []})
    strangers = call(doubler.model_id, {"values": []}, token=token_of(GUEST))

    def text(answer: Any) -> str:
        problem = answer.json()
        problem.pop("instance")
        return json.dumps(problem).replace(doubler.model_id, "nothing-here-v1")

    assert [each.status_code for each in (unknown, private, strangers)] == [404, 404, 404]
    assert text(unknown) == text(private) == text(strangers)
    assert set(unknown.headers) == set(private.headers)
    assert not Call.objects.exists()


@pytest.mark.parametrize(
    "reference",
    ["%00", "a%00b", "A", "..%2f..", "x" * 2000, "doubler@%00", "doubler@1.0.0.0", "@", "@1"],
)
def test_what_can_be_no_name_is_404(mesh: list[Node], call: Any, reference: str) -> None:
    for method in (call, lambda each, _: Client().get(f"/inference/v1/{each}")):
        answer = method(reference, {})
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_what_is_taken_back_is_gone_at_the_next_call(doubler: Version, call: Any) -> None:
    name, token = doubler.model_id, token_of(GUEST)
    assert call(name, {"values": [1]}, token=token).status_code == 200

    make_private(doubler, guest=GUEST)
    assert call(name, {"values": [1]}).status_code == 404
    assert call(name, {"values": [1]}, token=token).status_code == 200
    AllowEntry.objects.all().delete()
    assert call(name, {"values": [1]}, token=token).status_code == 404
    guest = Wallet.objects.get(pk=GUEST)
    revoke_token(token_id=Token.objects.get(wallet=guest).pk, wallet=guest)
    assert call(name, {"values": [1]}, token=token).status_code == 401


def test_a_private_model_serves_its_owner_and_its_allow_list(doubler: Version, call: Any) -> None:
    make_private(doubler, guest=GUEST)

    for address in (OWNER, GUEST):
        answer = call(doubler.model_id, {"values": [1]}, token=token_of(address))
        assert answer.status_code == 200
        assert Node.objects.get(name=answer.headers["Inframind-Node"]).trusted


def test_a_model_that_wants_tokens_is_401_without(doubler: Version, call: Any) -> None:
    Model.objects.filter(pk=doubler.model_id).update(auth_required=True)

    assert call(doubler.model_id, {"values": []}).status_code == 401
    assert call(doubler.model_id, {"values": []}, token=token_of(GUEST)).status_code == 200


@pytest.mark.parametrize(
    "scope", [{"actions": ["publish"]}, {"actions": ["invoke"], "models": ["other-v1"]}]
)
def test_a_token_for_something_else_is_403(doubler: Version, call: Any, scope: Any) -> None:
    answer = call(doubler.model_id, {"values": []}, token=token_of(GUEST, **scope))

    assert answer.status_code == 403
    assert answer.json()["charged"] is False


def test_a_paid_call_wants_a_token_and_keeps_to_the_budget(doubler: Version, call: Any) -> None:
    Version.objects.filter(pk=doubler.pk).update(fee_base_units=parse_ifm("0.25 IFM"))
    token, name = token_of(GUEST), doubler.model_id
    fund(GUEST, parse_ifm("0.5 IFM"))

    assert call(name, {"values": []}).status_code == 401
    over = call(name, {"values": []}, token=token, **{"Inframind-Budget": "0.2 IFM"})
    assert over.status_code == 402
    assert over.json()["type"] == "/problems/over-budget"
    assert over.json()["price"] == {"base_units": "250000000000000000", "text": "0.25 IFM"}
    garbled = call(name, {"values": []}, token=token, **{"Inframind-Budget": "much"})
    assert garbled.status_code == 422
    served = call(name, {"values": []}, token=token, **{"Inframind-Budget": "2.5IFM"})
    assert served.status_code == 200
    assert served.headers["Inframind-Fee"] == "0.25 IFM"
    failed = call(name, {"values": [None]}, token=token)
    assert failed.headers["Inframind-Fee"] == "0 IFM"
    fees = {row.outcome: int(row.fee_base_units) for row in Call.objects.all()}
    assert fees == {"refused": 0, "served": parse_ifm("0.25 IFM"), "invalid-input": 0}


def test_calls_over_the_limit_are_429_with_retry_after(
    doubler: Version, call: Any, settings: Any
) -> None:
    settings.ANONYMOUS_CALLS_PER_MINUTE = 3

    answers = [call(doubler.model_id, {"values": []}) for _ in range(4)]

    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.headers["RateLimit"].split(";")[1] for each in answers] == [
        "r=2", "r=1", "r=0", "r=0",
    ]  # fmt: skip
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 20
    assert call(doubler.model_id, {"values": []}, token=token_of(GUEST)).status_code == 200


def test_a_deprecated_version_says_when_it_ends_and_what_follows(
    doubler: Version, call: Any, settings: Any
) -> None:
    successor = list_doubler(fresh_name("doubler"))
    Version.objects.filter(pk=doubler.pk).update(
        state=Version.State.DEPRECATED,
        deprecated_at=datetime(2026, 1, 2, tzinfo=UTC),
        sunset_at=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        successor=successor,
    )

    answer = call(f"{doubler.model_id}@1.0", {"values": []})

    assert answer.status_code == 200
    assert answer.headers["Deprecation"] == "@1767312000"
    assert answer.headers["Sunset"] == "Wed, 02 Jan 2030 03:04:05 GMT"
    assert answer.headers["Link"] == (
        f'<{settings.SITE_URL}/inference/v1/{successor.model_id}@1.0.0>; rel="successor-version"'
    )


def test_a_receipt_is_read_by_its_id(doubler: Version, call: Any) -> None:
    token = token_of(GUEST)
    answer = call(doubler.model_id, {"values": [1]}, token=token)
    address = f"/api/v1/receipts/{answer.headers['Inframind-Receipt']}"

    public = Client().get(address).json()
    assert public["model"] == f"{doubler.model_id}@1.0.0"
    assert public["outcome"] == "served"
    hidden = {"caller", "salt", "input_digest", "output_digest", "linked"}
    assert hidden.isdisjoint(public)
    own = Client().get(address, headers={"Authorization": f"Bearer {token}"}).json()
    assert own["caller"] == Wallet.objects.of(GUEST).address
    assert hidden <= own.keys()
    make_private(doubler)
    assert Client().get(address).status_code == 404
    assert Client().get(address, headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("scope", ["other", "owned"])
def test_a_receipt_tells_a_token_for_other_models_what_it_tells_a_stranger(
    doubler: Version, call: Any, scope: str
) -> None:
    answer = call(doubler.model_id, {"values": [1]}, token=token_of(GUEST))
    address = f"/api/v1/receipts/{answer.headers['Inframind-Receipt']}"
    wish: dict[str, Any] = (
        {"models_allowed": ["other-v1"]} if scope == "other" else {"model_scope": "owned"}
    )
    _, token = mint_token(
        wallet=Wallet.objects.of(GUEST),
        name="test",
        actions=["invoke"],
        lifetime=timedelta(hours=1),
        **wish,
    )
    headers = {"Authorization": f"Bearer {token}"}

    assert "caller" not in Client().get(address, headers=headers).json()
    make_private(doubler)
    assert Client().get(address, headers=headers).status_code == 404


def test_diagnostics_say_nothing_from_too_small_a_sample(doubler: Version, call: Any) -> None:
    for _ in range(20):
        call(doubler.model_id, {"values": [1]})
    call(doubler.model_id, {"values": "wrong"})

    found = Client().get(f"/api/v1/models/{doubler.model_id}/diagnostics").json()

    hour = found["windows"][0]
    assert (hour["label"], hour["calls"], hour["served"]) == ("1 h", 20, 20)
    assert hour["success_rate"] == 1.0
    assert 0 < hour["p50_ms"] <= hour["p95_ms"]
    assert hour["availability"] is None
    assert len(found["hours"]) == 24
    card = figures_for([doubler.model_id])[doubler.model_id]
    assert (card.calls_24h, card.success_rate, sum(card.hourly)) == (20, 1.0, 20)
    assert sum(card.hourly[-2:]) == 20
    other = list_doubler(fresh_name("doubler"))
    fresh = Client().get(f"/api/v1/models/{other.model_id}/diagnostics").json()["windows"][0]
    assert (fresh["success_rate"], fresh["p50_ms"], fresh["calls"]) == (None, None, 0)


def test_get_tells_how_to_call(doubler: Version) -> None:
    found = Client().get(f"/inference/v1/{doubler.model_id}").json()

    assert found["model"] == f"{doubler.model_id}@1.0.0"
    assert found["input_schema"]["required"] == ["values"]
    assert found["token_required"] is False
