"""Scopes and limits of tokens at the gateway: exact under load, free of charge when they refuse."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from inframind.identity.caller import Caller
from inframind.identity.models import Meter, MeterHold, Narrowing, Token, Wallet
from inframind.identity.queries import authenticate
from inframind.identity.services import mint_token, revoke_presented, revoke_token
from inframind.lib import bearer
from inframind.lib.ids import new_uuid7
from inframind.lib.scopes import Caveat
from marketplace.catalog.models import Version
from marketplace.gateway import loop, pipeline
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node

from ..mesh.serving import fresh_name, list_doubler
from .money import FEE, GUEST, fund


@pytest.fixture
def doubler(mesh: list[Node]) -> Version:
    return list_doubler(fresh_name("doubler"))


def token_of(address: str = GUEST, **wish: Any) -> str:
    given: dict[str, Any] = {"name": "test", "actions": ["invoke"], "lifetime": timedelta(hours=1)}
    return mint_token(wallet=Wallet.objects.of(address), **{**given, **wish})[1]


def request_of(name: str, token: str, document: Any) -> pipeline.CallRequest:
    return pipeline.CallRequest(
        call_id=new_uuid7(),
        name=name,
        number=None,
        body=json.dumps(document).encode(),
        bearer=token,
        budget_base_units=None,
        remote_address="127.0.0.1",
        deadline_seconds=20,
    )


def at_once(name: str, tokens: list[str], document: Any) -> list[pipeline.CallAnswer]:
    async def run() -> list[pipeline.CallAnswer]:
        calls = (pipeline.call(request_of(name, token, document)) for token in tokens)
        return list(await asyncio.gather(*calls))

    return loop.submit(run(), 120)


def kinds(answers: list[pipeline.CallAnswer]) -> Counter[str]:
    return Counter(
        "served" if each.status == 200 else json.loads(each.document)["type"] for each in answers
    )


def test_a_limit_of_10_calls_serves_exactly_10_of_50_at_once(doubler: Version) -> None:
    token = token_of(calls_limit=10)

    answers = at_once(doubler.model_id, [token] * 50, {"values": [1]})

    assert kinds(answers) == {"served": 10, "/problems/token-limit-reached": 40}
    assert Call.objects.filter(outcome="served").count() == 10
    assert Call.objects.filter(outcome="refused").count() == 40
    assert Meter.objects.get().calls_used == 10
    assert MeterHold.objects.count() == 0


def test_children_at_once_never_spend_more_than_their_parent_may(doubler: Version) -> None:
    Version.objects.filter(pk=doubler.pk).update(fee_base_units=FEE)
    fund(GUEST, 100 * FEE)
    parent = token_of(spend_limit_base_units=10 * FEE)
    children = [
        bearer.narrow(parent, Caveat(spend_limit_base_units=4 * FEE + FEE // 2)) for _ in range(5)
    ]

    answers = at_once(doubler.model_id, children * 8, {"values": [1]})

    assert kinds(answers)["served"] == 10
    spent = {row.pk: int(row.spent_base_units) for row in Meter.objects.all()}
    own = [spent.pop(authenticate(child).meters[-1]) for child in children]
    assert list(spent.values()) == [10 * FEE]
    assert sum(own) == 10 * FEE
    assert max(own) <= 4 * FEE
    assert sum(int(row.fee_base_units) for row in Call.objects.all()) == 10 * FEE


def test_a_limit_that_is_reached_is_402_and_says_what_was_used(doubler: Version, call: Any) -> None:
    token = token_of(calls_limit=1)
    assert call(doubler.model_id, {"values": [1]}, token=token).status_code == 200

    answer = call(doubler.model_id, {"values": [1]}, token=token)

    assert answer.status_code == 402
    problem = answer.json()
    assert problem["type"] == "/problems/token-limit-reached"
    assert problem["detail"] == ("The limit of this token is 1 call: 1 used. Nothing was charged.")
    assert (problem["charged"], problem["limit"]["used"]) == (False, 1)
    assert answer.headers["Inframind-Fee"] == "0 IFM"


def test_what_was_not_served_costs_no_place(doubler: Version, call: Any) -> None:
    token = token_of(calls_limit=1)
    for _ in range(3):
        assert call(doubler.model_id, {"values": "wrong"}, token=token).status_code == 422
    Node.objects.all().delete()
    assert call(doubler.model_id, {"values": [1]}, token=token).status_code == 503
    assert (Meter.objects.get().calls_used, MeterHold.objects.count()) == (0, 0)


def test_a_token_without_limits_leaves_no_trace_on_meters(doubler: Version, call: Any) -> None:
    token = bearer.narrow(token_of(), Caveat(actions=frozenset({"invoke"})))
    assert call(doubler.model_id, {"values": [1]}, token=token).status_code == 200
    assert Meter.objects.get().calls_used == 0
    assert not Narrowing.objects.exists()


def test_the_front_may_bring_a_caller_whose_limits_hold_too(doubler: Version) -> None:
    caller = authenticate(token_of(calls_limit=1))

    def answer() -> int:
        request = request_of(doubler.model_id, "", {"values": [1]})
        with_caller = pipeline.CallRequest(**{**request.__dict__, "bearer": None, "caller": caller})
        return loop.submit(pipeline.call(with_caller), 30).status

    assert [answer(), answer()] == [200, 402]


@pytest.mark.parametrize("name", ["nothing-here-v1", "private", "open"])
def test_a_scope_that_does_not_reach_is_403_before_any_name_is_looked_up(
    doubler: Version, call: Any, name: str
) -> None:
    doubler.model.public, doubler.model.auth_required = name != "private", True
    doubler.model.restricted = name == "private"
    doubler.model.save()
    asked = name if name == "nothing-here-v1" else doubler.model_id
    for token, model in (
        (token_of(models_allowed=["other-v1"]), asked),
        (token_of(actions=["publish"]), None),
        (bearer.narrow(token_of(), Caveat(models=frozenset({"other-v1"}))), asked),
    ):
        answer = call(asked, {"values": [1]}, token=token)
        assert answer.status_code == 403
        problem = answer.json()
        on = f" on {model}" if model else ""
        assert problem["detail"] == f"This token does not allow invoke{on}."
        assert (problem["scope"], problem.get("model")) == ("invoke", model)
        assert 'scope="invoke"' in answer.headers["WWW-Authenticate"]
        assert not any(header.startswith("Inframind") for header in answer.headers)
    assert not Call.objects.exists()


def test_a_narrowed_token_calls_what_is_left_to_it_and_ends_in_time(
    doubler: Version, call: Any
) -> None:
    text = token_of()
    child = bearer.narrow(text, Caveat(models=frozenset({doubler.model_id})))
    ended = bearer.narrow(child, Caveat(expires_at=int(time.time()) - 1))
    assert call(doubler.model_id, {"values": [1]}, token=child).status_code == 200
    assert Call.objects.get().token_id == bearer.decode(text).token_id
    answer = call(doubler.model_id, {"values": [1]}, token=ended)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/invalid-token")


def test_revocation_is_seen_by_the_very_next_call(doubler: Version, call: Any) -> None:
    text = token_of()
    child = bearer.narrow(text, Caveat(calls_limit=9))
    assert call(doubler.model_id, {"values": [1]}, token=child).status_code == 200
    revoke_presented(text=child)
    assert call(doubler.model_id, {"values": [1]}, token=child).status_code == 401
    assert call(doubler.model_id, {"values": [1]}, token=text).status_code == 200
    token = Token.objects.get()
    revoke_token(token_id=token.pk, wallet=token.wallet)
    assert call(doubler.model_id, {"values": [1]}, token=text).status_code == 401


def test_a_token_for_other_addresses_is_403(doubler: Version, call: Any) -> None:
    token = token_of(ip_ranges=["10.0.0.0/8"])
    assert call(doubler.model_id, {"values": [1]}, token=token).status_code == 403
    near = token_of(ip_ranges=["127.0.0.0/8"])
    assert call(doubler.model_id, {"values": [1]}, token=near).status_code == 200


@pytest.mark.parametrize("method", ["get", "post", "put", "delete", "options", "head"])
@pytest.mark.parametrize("field", ["token", "access_token", "Token", "key"])
def test_a_token_in_the_address_is_refused_by_every_method(
    mesh: list[Node], method: str, field: str
) -> None:
    token = token_of()
    answer = getattr(Client(), method)(f"/inference/v1/any-model?{field}={token}")
    assert answer.status_code == 401
    if method != "head":
        assert answer.json()["type"] == "/problems/token-in-url"


def test_a_caller_of_two_tokens_has_two_limits(doubler: Version, call: Any) -> None:
    first, second = token_of(calls_limit=1), token_of(calls_limit=1)
    codes = [
        call(doubler.model_id, {"values": [1]}, token=token).status_code
        for token in (first, second, first, second)
    ]
    assert codes == [200, 200, 402, 402]
    assert isinstance(authenticate(first), Caller)
