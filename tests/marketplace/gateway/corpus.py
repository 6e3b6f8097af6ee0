"""The corpus of requests that both fronts are sent: good, bad and odd, each with its name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import tritonclient.http as triton
from django.conf import settings

from .served import request

Named = tuple[str, tuple[bytes, ...]]

JSON = "Content-Type: application/json"
EVENTS = "Accept: text/event-stream"
GOOD = b'{"values": [1, 2.5]}'
LENGTH = "Inference-Header-Content-Length"


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def calls(free: str, paid: str, private: str, token: str) -> Iterator[Named]:
    """Of documents, one a request; ``{front}`` in one is the front's own name."""
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


def tensors(free: str, paid: str, private: str, token: str) -> Iterator[Named]:
    """Under ``/v2``."""
    bearer = f"Authorization: Bearer {token}"
    at = f"/v2/models/{free}"
    body, size = encoded()
    framed = f"{LENGTH}: {size}"
    plain = json.loads(body[:size])
    for each, data in zip(plain["inputs"], ([1, 2.5], [3], ["x"]), strict=True):
        each.pop("parameters", None)
        each["data"] = data
    plain.pop("parameters", None)

    def infer(sent: Any = body, *lines: str, of: str = at) -> tuple[bytes, ...]:
        octets = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        return (request("POST", f"{of}/infer", octets, *lines),)

    def get(target: str, *lines: str) -> tuple[bytes, ...]:
        return (request("GET", target, b"", *lines),)

    yield "infer", infer(body, framed)
    yield "infer, a version", infer(body, framed, of=f"{at}/versions/1.0.0")
    yield "infer, a version in the name", infer(body, framed, of=f"{at}%401.0.0")
    yield "infer, two versions", infer(body, framed, of=f"{at}@1.0.0/versions/1.0.0")
    yield "infer, no such version", infer(body, framed, of=f"{at}/versions/7.0.0")
    yield "infer, no version", infer(body, framed, of=f"{at}/versions/x")
    yield "infer, JSON", infer(plain, JSON)
    yield "infer, JSON with a type of text", infer(plain, "Content-Type: text/plain")
    yield "infer, an id", infer({**plain, "id": "grün"})
    yield "infer, an id that is none", infer({**plain, "id": 7})
    yield "infer, one output", infer({**plain, "outputs": [{"name": "scaled"}]})
    yield "infer, no such output", infer({**plain, "outputs": [{"name": "x"}]})
    yield "infer, parameters", infer({**plain, "parameters": {"timeout": 1, "mood": "calm"}})
    yield "infer, a sequence", infer({**plain, "parameters": {"sequence_id": 1}})
    yield "infer, binary out", infer({**plain, "parameters": {"binary_data_output": True}})
    yield "infer, an input less", infer({**plain, "inputs": plain["inputs"][1:]})
    yield "infer, an input twice", infer({**plain, "inputs": plain["inputs"] * 2})
    yield "infer, a wrong type", infer(json.dumps(plain).replace("FP32", "INT8").encode())
    yield "infer, no inputs", infer({})
    yield "infer, a list", infer([])
    yield "infer, no length", infer(body)
    yield "infer, a length too large", infer(body, f"{framed}0")
    yield "infer, a length of words", infer(body, f"{LENGTH}: many")
    yield "infer, a length of none", infer(body, f"{LENGTH}:")
    yield "infer, two lengths", infer(body, framed, framed)
    yield "infer, cut short", infer(body[:-1], framed)
    yield "infer, a byte more", infer(body + b"x", framed)
    yield "infer, compressed", infer(gzip.compress(body), framed, "Content-Encoding: gzip")
    yield "infer, identity", infer(body, framed, "Content-Encoding: identity")
    yield "infer, gzip is welcome", infer(body, framed, "Accept-Encoding: gzip")
    yield "infer, events are welcome", infer(body, framed, EVENTS)
    yield "infer, no body", infer(b"")
    yield (
        "infer, too large, and says so",
        (infer(b"")[0][:-2] + b"Content-Length: %d\r\n\r\n" % (settings.CALL_BODY_MAX_BYTES + 1),),
    )
    yield (
        "infer, chunks",
        (infer(b"", framed, "Transfer-Encoding: chunked")[0] + chunked(body),),
    )
    yield "infer, paid", infer(body, framed, bearer, of=f"/v2/models/{paid}")
    yield "infer, paid, nobody there", infer(body, framed, of=f"/v2/models/{paid}")
    key = "Idempotency-Key: tensors-{front}"
    yield "infer, a key", infer(body, framed, bearer, key, of=f"/v2/models/{paid}")
    yield "infer, the key again", infer(body, framed, bearer, key, of=f"/v2/models/{paid}")
    small = "Inframind-Budget: 0.1 IFM"
    yield "infer, a budget too small", infer(body, framed, bearer, small, of=f"/v2/models/{paid}")
    yield "infer, a budget of words", infer(body, framed, bearer, "Inframind-Budget: lots")
    yield "infer, unknown", infer(body, framed, of="/v2/models/no-such-model")
    yield "infer, private", infer(body, framed, of=f"/v2/models/{private}")
    yield "infer, a bad token", infer(body, framed, "Authorization: Bearer x")
    yield "infer, a token in the address", (
        request("POST", f"{at}/infer?token={token}", body, framed),
    )  # fmt: skip
    yield "infer, explain", (request("POST", f"{at}/infer?explain=1", body, framed),)
    for path in (
        "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/health", "/v2/models",
        "/v2/models/", f"{at}/", f"{at}/ready", f"{at}/config", f"{at}/stats", f"{at}/other",
        f"{at}/versions/1.0.0", f"{at}/versions/1.0.0/ready", f"{at}/versions/7.0.0",
        f"{at}/versions", f"{at}/versions/", f"/v2/models/{private}", "/v2/models/no-such-model",
        f"/v2/models/{private}/ready", f"/v2/models/{paid}/ready", "/v2/models/%ff",
        f"/v2/models/a%2Fb/versions/{'9' * 3000}", "/v2x", "/V2", f"{at}?token=x",
    ):  # fmt: skip
        yield f"v2 path {path[-40:]}", get(path)
    yield "metadata", get(at)
    yield "metadata, signed in", get(at, bearer)
    yield "metadata, a bad token", get(at, "Authorization: Bearer x")
    yield "metadata, another host", (request("GET", at, host="elsewhere.example"),)
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        yield f"v2 {method}", (request(method, "/v2"),)
        yield f"metadata {method}", (request(method, at),)
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        yield f"infer {method}", (request(method, f"{at}/infer"),)
    yield "index", (request("POST", "/v2/repository/index", b"{}", JSON),)


def batches(free: str, paid: str, private: str, token: str) -> Iterator[Named]:
    """Of many documents at once."""
    bearer = f"Authorization: Bearer {token}"

    def post(sent: bytes, *lines: str, of: str = free, query: str = "") -> tuple[bytes, ...]:
        target = f"/inference/v1/{of}/batch{query}"
        return (request("POST", target, sent, *(lines or (JSON,))),)

    two = b"[%s, %s]" % (GOOD, GOOD)
    yield "batch", post(two)
    yield "batch, one wrong", post(b'[{"values": [1]}, {"values": "x"}, 7, null]')
    yield "batch, a version", post(two, of=f"{free}@1.0.0")
    yield "batch, no such version", post(two, of=f"{free}@7.0.0")
    for name, sent in {
        "nothing": b"[]",
        "no body": b"",
        "no list": GOOD,
        "no JSON": b"[{",
        "NaN": b'[{"values": [NaN]}]',
        "too many": b"[" + b",".join([GOOD] * 257) + b"]",
        "bad UTF-8": b'[{"label": "\xff"}]',
    }.items():
        yield f"batch of {name}", post(sent)
    yield "batch of text", post(two, "Content-Type: text/plain")
    yield "batch for events", post(two, JSON, EVENTS)
    yield "batch, explained", post(two, query="?explain=1")
    yield "batch, a token in the address", post(two, query=f"?a={token}")
    yield "batch, paid", post(two, JSON, bearer, of=paid)
    yield "batch, paid, nobody there", post(two, of=paid)
    yield "batch, a budget", post(two, JSON, bearer, "Inframind-Budget: 0.5 IFM", of=paid)
    yield "batch, a small budget", post(two, JSON, bearer, "Inframind-Budget: 0.4 IFM", of=paid)
    key = "Idempotency-Key: batch-{front}"
    yield "batch, a key", post(two, JSON, bearer, key, of=paid)
    yield "batch, the key again", post(two, JSON, bearer, key, of=paid)
    yield "batch, the key and another", post(b"[%s, {}]" % GOOD, JSON, bearer, key, of=paid)
    yield "batch, a bad key", post(two, JSON, bearer, "Idempotency-Key: é", of=paid)
    yield "batch, private", post(two, of=private)
    yield "batch, unknown", post(two, of="no-such-model")
    yield "batch, a bad token", post(two, JSON, "Authorization: Bearer x")
    yield "batch, a cookie", post(two, JSON, "Cookie: session=abc")
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        yield f"batch {method}", (request(method, f"/inference/v1/{free}/batch"),)
    for path in ("batch/", "batch/batch", "Batch", "/batch"):
        yield f"batch at {path}", (request("POST", f"/inference/v1/{free}/{path}", two, JSON),)


def events(free: str, paid: str, talker: str, token: str) -> Iterator[Named]:
    """Of answers in pieces: of ``talker``, which has no others, and of models that are plain."""
    bearer = f"Authorization: Bearer {token}"

    def post(of: str, sent: bytes, *lines: str) -> tuple[bytes, ...]:
        return (request("POST", f"/inference/v1/{of}", sent, JSON, *lines),)

    said = b'{"text": "one two"}'
    yield "events", post(talker, said, EVENTS)
    yield "events, with others", post(talker, said, "Accept: text/html, text/event-stream;q=0.5")
    yield "events, in capitals", post(talker, said, "Accept: TEXT/Event-Stream")
    yield "events, in two lines", post(talker, said, "Accept: text/html", EVENTS)
    yield "events by HTTP/1.0", (
        post(talker, said, EVENTS)[0].replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    )  # fmt: skip
    for accept in ("", "*/*", "text/*", "application/json", "text/event-stream;q=0"):
        yield f"a stream for {accept!r}", post(talker, said, f"Accept: {accept}")
    yield "a stream for whoever", post(talker, said)
    yield "a stream in a batch", (
        request("POST", f"/inference/v1/{talker}/batch", b"[%s]" % said, JSON, EVENTS),
    )  # fmt: skip
    document = {"name": "document", "datatype": "BYTES", "shape": [1], "data": [said.decode()]}
    yield "a stream of tensors", (
        request("POST", f"/v2/models/{talker}/infer", json.dumps({"inputs": [document]}).encode()),
    )  # fmt: skip
    yield "a stream described", (request("GET", f"/inference/v1/{talker}", b"", EVENTS),)
    yield "a stream's metadata", (request("GET", f"/v2/models/{talker}"),)
    yield "a stream's configuration", (request("GET", f"/v2/models/{talker}/config"),)
    for name, words in {
        "no pieces": "",
        "an error": "raise",
        "an error after a piece": "one raise",
        "a wrong piece": "wrong",
        "a wrong piece after one": "one wrong",
        "no document": "one list",
    }.items():
        yield f"events, {name}", post(talker, json.dumps({"text": words}).encode(), EVENTS)
    yield "events, bad input", post(talker, b'{"text": 7}', EVENTS)
    yield "events, no JSON", post(talker, b"{", EVENTS)
    yield "events, text", (
        request("POST", f"/inference/v1/{talker}", said, "Content-Type: text/plain", EVENTS),
    )  # fmt: skip
    yield "events, no such version", post(f"{talker}@7.0.0", said, EVENTS)
    yield "events, a bad token", post(talker, said, EVENTS, "Authorization: Bearer x")
    yield "events of a plain model", post(free, GOOD, EVENTS)
    yield "events of a plain model, bad input", post(free, b"{}", EVENTS)
    yield "events, paid", post(paid, GOOD, EVENTS, bearer)
    yield "events, paid, nobody there", post(paid, GOOD, EVENTS)
    key = "Idempotency-Key: events-{front}"
    yield "events, a key", post(talker, said, EVENTS, bearer, key)
    yield "events, the key again", post(talker, said, EVENTS, bearer, key)
    yield "events, the key for a whole answer", post(talker, said, bearer, key)


def explanations(free: str, private: str, owner: str, token: str) -> Iterator[Named]:
    """Of where a call would go. ``owner`` and ``token`` are the owner's and another's."""

    def ask(query: str, *lines: str, of: str = free, method: str = "GET") -> tuple[bytes, ...]:
        body = GOOD if method == "POST" else b""
        return (request(method, f"/inference/v1/{of}?{query}", body, JSON, *lines),)

    mine = f"Authorization: Bearer {owner}"
    yield "explained to its owner", ask("explain=1", mine)
    yield "explained by POST", ask("explain=1", mine, method="POST")
    yield "explained by HEAD", ask("explain=1", method="HEAD")
    yield "explained, a version", ask("explain=1", mine, of=f"{free}@1.0.0")
    yield "explained, no such version", ask("explain=1", mine, of=f"{free}@7.0.0")
    yield "explained, private", ask("explain=1", mine, of=private)
    yield "explained to a stranger", ask("explain=1")
    yield "explained to another", ask("explain=1", f"Authorization: Bearer {token}")
    yield "explained to a bad token", ask("explain=1", "Authorization: Bearer x")
    yield "private, explained to a stranger", ask("explain=1", of=private)
    yield (
        "private, explained to another",
        ask("explain=1", f"Authorization: Bearer {token}", of=private),
    )
    yield "unknown, explained", ask("explain=1", mine, of="no-such-model")
    for query in ("explain=0", "explain", "explain=TRUE", "explain=1&explain=0", "explain=%ff"):
        yield f"asked {query}", ask(query, mine)
        yield f"called {query}", ask(query, mine, method="POST")


def encoded() -> tuple[bytes, int]:
    """An inference of the doubler as the protocol's library writes it, and its header's length."""
    inputs = []
    for name, data in {
        "values": np.array([1, 2.5], dtype=np.float32),
        "times": np.array([3], dtype=np.float32),
        "label": np.array([b"x"], dtype=object),
    }.items():
        item = triton.InferInput(name, list(data.shape), "BYTES" if name == "label" else "FP32")
        item.set_data_from_numpy(data)
        inputs.append(item)
    body, size = triton.InferenceServerClient.generate_request_body(inputs)
    return bytes(body), size
