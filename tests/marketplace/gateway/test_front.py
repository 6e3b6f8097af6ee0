"""One corpus of requests, two fronts: what a caller is told does not depend on the front."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import settings

from marketplace.catalog.models import Model
from marketplace.gateway.models import Call

from ..mesh.serving import fresh_name, list_doubler
from . import money
from .served import PRODUCTION, REFERENCE, Answered, exchange, request, served

pytestmark = pytest.mark.usefixtures("mesh")

JSON = "Content-Type: application/json"
GOOD = b'{"values": [1, 2.5]}'
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_MOMENT = ("date", "x-request-id", "inframind-receipt")


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def corpus(
    free: str, paid: str, private: str, token: str
) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Requests by what is odd about them; ``{front}`` in one is the front's own name."""
    at, bearer = f"/inference/v1/{free}", f"Authorization: Bearer {token}"
    pay_at = f"/inference/v1/{paid}"
    limit = settings.CALL_BODY_MAX_BYTES

    def post(target: str, body: bytes = GOOD, *lines: str, **wish: Any) -> tuple[bytes, ...]:
        return (request("POST", target, body, *(lines or (JSON,)), **wish),)

    def raw(*pieces: bytes) -> tuple[bytes, ...]:
        return pieces

    yield "good", post(at)
    yield "a version", post(f"{at}@1.0.0")
    yield "no such version", post(f"{at}@7.0.0")
    yield "no version", post(f"{at}@x")
    yield "paid", post(pay_at, GOOD, JSON, bearer)
    yield "paid, nobody there", post(pay_at)
    yield "a budget that is enough", post(pay_at, GOOD, JSON, bearer, "Inframind-Budget: 1 IFM")
    yield "a budget too small", post(pay_at, GOOD, JSON, bearer, "Inframind-Budget: 0.1 IFM")
    yield "a budget of words", post(pay_at, GOOD, JSON, bearer, "Inframind-Budget: lots")
    yield (
        "two budgets",
        post(pay_at, GOOD, JSON, bearer, "Inframind-Budget: 1 IFM", "Inframind-Budget: 2 IFM"),
    )
    key = "Idempotency-Key: conformance-{front}"
    yield "a key", post(pay_at, GOOD, JSON, bearer, key)
    yield "the key again", post(pay_at, GOOD, JSON, bearer, key)
    yield "the key for another body", post(pay_at, b'{"values": [3]}', JSON, bearer, key)
    yield "a bad key", post(pay_at, GOOD, JSON, bearer, "Idempotency-Key: " + "k" * 300)
    yield "an empty key", post(pay_at, GOOD, JSON, bearer, "Idempotency-Key:")
    yield "unknown", post("/inference/v1/no-such-model")
    yield "private", post(f"/inference/v1/{private}")
    yield "private, signed in", post(f"/inference/v1/{private}", GOOD, JSON, bearer)
    for name, line in {
        "no token of ours": "Authorization: Bearer infra_" + "a" * 60,
        "a cut token": f"Authorization: Bearer {token[:-3]}",
        "basic": "Authorization: Basic YTpi",
        "a bare scheme": "Authorization: Bearer",
        "an empty authorization": "Authorization:",
        "a lower scheme": f"authorization: bearer {token}",
    }.items():
        yield name, post(at, GOOD, JSON, line)
    yield "two tokens", post(at, GOOD, JSON, bearer, bearer)
    yield "a token in the address", post(f"{at}?access_token=x")
    yield "a token in some field", post(f"{at}?a={token}")
    yield "a plain query", post(f"{at}?a=1&a=&b")
    yield "a thousand fields", post(f"{at}?" + "&".join(["a=1"] * 1001))
    yield "a query that is no UTF-8", post(f"{at}?a=%ff")
    yield (
        "a query of raw bytes",
        raw(request("POST", at, GOOD, JSON).replace(b" HTTP/1.1", b"?a=\xff HTTP/1.1", 1)),
    )
    for kind in ("text/plain", "application/json; charset=utf-8", "application/x+json", "json", ""):
        yield f"type {kind!r}", post(at, GOOD, f"Content-Type: {kind}")
    yield "no type", post(at, GOOD, "X-Nothing: 1")
    yield "two types", post(at, GOOD, JSON, JSON)
    yield "a header with an underscore", post(at, GOOD, JSON, "Content_Type: text/plain")
    for name, body in {
        "no body": b"",
        "no JSON": b"{",
        "NaN": b'{"values": [NaN]}',
        "a key twice": b'{"values": [1], "values": [2]}',
        "deep": b"[" * 100 + b"]" * 100,
        "bad UTF-8": b'{"label": "\xff"}',
        "the wrong shape": b'{"values": "x", "more": 1}',
        "null": b"null",
    }.items():
        yield name, post(at, body)
    start = f"POST {at} HTTP/1.1\r\nHost: 127.0.0.1\r\n{JSON}\r\nConnection: close\r\n".encode()
    yield "too large, and says so", raw(start + b"Content-Length: %d\r\n\r\n" % (limit + 1))
    yield (
        "too large, in chunks",
        raw(start + b"Transfer-Encoding: chunked\r\n\r\n", chunked(b"[" + b" " * limit)),
    )
    yield "chunks", raw(start + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(GOOD))
    yield (
        "expects 100",
        raw(start + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD)),
    )
    yield (
        "expects 100, too large",
        raw(start + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (limit + 1)),
    )
    yield (
        "HTTP/1.0",
        raw(
            start.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Connection: close\r\n", b"")
            + b"Content-Length: %d\r\n\r\n" % len(GOOD),
            GOOD,
        ),
    )
    yield (
        "no host",
        raw(f"POST {at} HTTP/1.0\r\n{JSON}\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD),
    )
    yield "another host", post(at, host="elsewhere.example")
    yield "a host with a port", post(at, host="localhost:99")
    yield "a host of nonsense", post(at, host="a b")
    yield "two hosts", post(at, GOOD, JSON, "Host: localhost")
    yield "a cookie", post(at, GOOD, JSON, "Cookie: session=abc; csrftoken=x")
    yield "an own id", post(at, GOOD, JSON, "X-Request-Id: my-request-1")
    yield "a bad id", post(at, GOOD, JSON, "X-Request-Id: my request")
    yield "wants XML", post(at, GOOD, JSON, "Accept: application/xml")
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        yield method, (request(method, at),)
        yield f"{method} of a private one", (request(method, f"/inference/v1/{private}"),)
        yield f"{method} with a token", (request(method, f"{at}?token=1", b"", bearer),)
    yield "GET with a body", (request("GET", at, GOOD, JSON),)
    yield "GET signed in", (request("GET", at, b"", bearer),)
    yield "GET with a bad token", (request("GET", at, b"", "Authorization: Bearer x"),)
    for path in (
        "%ff", "a%2Fb", "a%00b", "..", "%2e%2e", "a@", "@1", "a@1@2", "A", "%C3%A9", "x" * 3000,
        "", "a/", "/a", "a%0Ab", "a;b", "a%20",
    ):  # fmt: skip
        yield f"path {path[:20]}", post(f"/inference/v1/{path}")
    for path in (
        "/inference",
        "/inference/",
        "/inference/v1",
        "/inference/v2/a",
        "//inference/v1/a",
    ):
        yield f"address {path}", post(path)
    yield "an absolute target", post(f"http://127.0.0.1{at}")


def as_told(answer: Answered) -> tuple[Any, ...]:
    """An answer without what no two have in common: ids, moments, what is left of a minute."""
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
        headers.append((name, value))
    text = answer.body.decode("utf-8", "replace")
    return answer.status, sorted(headers, key=str), _ID.sub("ID", text)


def test_both_fronts_answer_the_same_to_every_request() -> None:
    free = list_doubler(fresh_name("free")).model_id
    paid = money.paid_doubler().model_id
    private = list_doubler(fresh_name("private")).model_id
    Model.objects.filter(pk=private).update(public=False, restricted=True, auth_required=True)
    money.fund(money.GUEST, 100 * money.FEE)
    requests = list(corpus(free, paid, private, money.token_of()))
    with ExitStack() as servers:
        with ThreadPoolExecutor(2) as starting:
            ports = list(
                starting.map(
                    lambda target: servers.enter_context(served(target)), (REFERENCE, PRODUCTION)
                )
            )
        warm = request("POST", f"/inference/v1/{free}", GOOD, JSON)
        warm_paid = request(
            "POST", f"/inference/v1/{paid}", GOOD, JSON, f"Authorization: Bearer {money.token_of()}"
        )
        for port in ports:
            assert [exchange(port, warm).status, exchange(port, warm_paid).status] == [200, 200]
        different = {}
        for name, sent in requests:
            told = [
                as_told(exchange(port, *(each.replace(b"{front}", front) for each in sent)))
                for port, front in zip(ports, (b"first", b"other"), strict=True)
            ]
            if told[0] != told[1]:
                different[name] = told
    assert different == {}
    rows = Call.objects.filter(wallet=money.GUEST)
    # Of each of the two: warmed up, paid, with a budget, with a key; a replay is not another.
    assert rows.filter(fee_base_units=money.FEE).count() == 2 * 4


def test_the_corpus_has_what_is_served_and_what_is_refused() -> None:
    names = [name for name, _ in corpus("a", "b", "c", "infra_" + "d" * 60)]
    assert len(names) == len(set(names))
    assert json.dumps(names).count("path ") == 17


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
