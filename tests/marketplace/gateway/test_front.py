"""One corpus of requests, two fronts: what a caller is told does not depend on the front."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from marketplace.catalog.models import Model
from marketplace.gateway.models import Call

from ..mesh.serving import OWNER, fresh_name, list_doubler
from ..mesh.test_streams import TALKER, placed
from . import corpus, money
from .corpus import GOOD, JSON
from .served import PRODUCTION, REFERENCE, Answered, exchange, request, served

pytestmark = pytest.mark.usefixtures("mesh")

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_NODE = re.compile(r"\bnode-[ab]\b")
_MOMENT = ("date", "x-request-id", "inframind-receipt")


def as_told(answer: Answered) -> tuple[Any, ...]:
    """An answer without what no two have in common: ids, moments, what is left of a minute, which
    of the nodes it was; of an explanation, the figures that each process has of its own."""
    headers = []
    for name, value in answer.headers:
        if name in _MOMENT:
            value = "" if name == "date" else bool(value)  # type: ignore[assignment]
        elif name in ("server-timing", "ratelimit"):
            value = re.sub(r"[0-9.]+", "#", value)
        elif name == "set-cookie":
            value = value.partition("=")[0]
        elif name == "content-security-policy":
            value = "; ".join(sorted(value.split("; ")))
        headers.append((name, _NODE.sub("NODE", value) if isinstance(value, str) else value))
    text = answer.body.decode("utf-8", "replace")
    if '"retries_left"' in text:
        text = json.dumps(_explained(json.loads(text)))
        headers = [each for each in headers if each[0] != "content-length"]
    return answer.status, sorted(headers, key=str), _NODE.sub("NODE", _ID.sub("ID", text))


def _explained(told: Any) -> Any:
    """The same with every number and every name of a node as one."""
    if isinstance(told, dict):
        return {key: _explained(value) for key, value in told.items()}
    if isinstance(told, list):
        return [_explained(each) for each in told]
    return told if isinstance(told, str | bool) else 0


def test_both_fronts_answer_the_same_to_every_request() -> None:
    free = list_doubler(fresh_name("free")).model_id
    paid = money.paid_doubler().model_id
    private = list_doubler(fresh_name("private")).model_id
    talker = placed(TALKER).model_id
    Model.objects.filter(pk=private).update(public=False, restricted=True, auth_required=True)
    money.fund(money.GUEST, 100 * money.FEE)
    token, owner = money.token_of(), money.token_of(OWNER)
    requests = [
        *corpus.calls(free, paid, private, token),
        *corpus.tensors(free, paid, private, token),
        *corpus.batches(free, paid, private, token),
        *corpus.events(free, paid, talker, token),
        *corpus.explanations(free, private, owner, token),
    ]
    with ExitStack() as servers:
        with ThreadPoolExecutor(2) as starting:
            ports = list(
                starting.map(
                    # More than an address may ask for: what is alike is not to be a refusal.
                    lambda target: servers.enter_context(
                        served(target, ANONYMOUS_CALLS_PER_MINUTE="6000")
                    ),
                    (REFERENCE, PRODUCTION),
                )
            )
        bearer = f"Authorization: Bearer {token}"
        warm = [
            request("POST", f"/inference/v1/{free}", GOOD, JSON),
            request("POST", f"/inference/v1/{paid}", GOOD, JSON, bearer),
        ]
        for port in ports:
            assert [exchange(port, each).status for each in warm] == [200, 200]
        different, statuses = {}, Counter[int]()
        for name, sent in requests:
            told = [
                as_told(exchange(port, *(each.replace(b"{front}", front) for each in sent)))
                for port, front in zip(ports, (b"first", b"other"), strict=True)
            ]
            statuses[told[0][0]] += 1
            if told[0] != told[1]:
                different[name] = told
    assert different == {}
    assert set(statuses) == {200, 204, 400, 401, 402, 403, 404, 405, 406, 413, 415, 422, 502}
    rows = Call.objects.filter(wallet=money.GUEST)
    # Of each of the two: warmed up, paid, with a budget, with a key; a replay is not another. As
    # tensors: paid, with a key; two in a batch: paid, with a budget, with a key; as events: paid.
    assert rows.filter(fee_base_units=money.FEE).count() == 2 * (4 + 2 + 2 * 3 + 1)


def test_the_corpus_has_what_is_served_and_what_is_refused() -> None:
    a, b, c, token = "a", "b", "c", "infra_" + "d" * 60
    names = [
        name
        for requests in (
            corpus.calls(a, b, c, token),
            corpus.tensors(a, b, c, token),
            corpus.batches(a, b, c, token),
            corpus.events(a, b, c, token),
            corpus.explanations(a, b, token, token),
        )
        for name, _ in requests
    ]
    assert len(names) == len(set(names))
    assert sum(name.startswith("path ") for name in names) == 17


@pytest.mark.parametrize(
    ("role", "statuses"),
    [("gateway", (200, 404, 200)), ("web", (404, 200, 200)), ("all", (200, 200, 200))],
)
def test_a_process_serves_its_role_and_says_where_the_rest_is(
    role: str, statuses: tuple[int, int, int]
) -> None:
    name = list_doubler(fresh_name("free")).model_id
    with served(PRODUCTION, INFRAMIND_ROLE=role) as port:
        told = [
            exchange(port, sent)
            for sent in (
                request("POST", f"/inference/v1/{name}", GOOD, JSON),
                request("GET", f"/models/{name}"),
                request("GET", "/metrics"),
            )
        ]
        assert tuple(each.status for each in told) == statuses
        for each in told[:2]:
            if each.status == 404:
                assert json.loads(each.body)["type"] == "/problems/not-served-here"
        if role != "web":
            assert b'inframind_calls_total{outcome="served"} 1.0' in told[2].body
