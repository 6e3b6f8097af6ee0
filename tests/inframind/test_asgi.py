"""The ASGI front: one thread a request, streamed answers piece by piece."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import signals
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.urls import path

from inframind.asgi import ThreadedHandler

threads: list[str] = []


def plain(request: HttpRequest) -> HttpResponse:
    threads.append(threading.current_thread().name)
    return HttpResponse(b"read " + request.body)


def streamed(request: HttpRequest) -> HttpResponseBase:
    def pieces() -> Iterator[bytes]:
        for each in (b"one", b"two", b"three"):
            sent.append("made")
            yield each

    return StreamingHttpResponse(pieces())


sent: list[str] = []
urlpatterns = [path("plain", plain), path("streamed", streamed)]


def ask(
    address: str, body: bytes = b"", kind: str = "http", **changes: Any
) -> list[dict[str, Any]]:
    """What the handler sends for one POST."""
    messages: list[dict[str, Any]] = []
    scope = {
        "type": kind,
        "method": "POST",
        "path": address,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    incoming = iter(
        [
            {"type": "http.request", "body": body[:2], "more_body": True},
            {"type": "http.request", "body": body[2:], "more_body": False},
        ]
    )

    async def receive() -> dict[str, Any]:
        return next(incoming)

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            sent.append("sent")
        messages.append(message)

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[], **changes):
        asyncio.run(ThreadedHandler()(scope, receive, send))
    return messages


def test_a_request_is_begun_answered_and_ended_in_one_thread() -> None:
    threads.clear()

    def note(**_: Any) -> None:
        threads.append(threading.current_thread().name)

    signals.request_started.connect(note)
    signals.request_finished.connect(note)
    try:
        start, body = ask("/plain", b"whole")
    finally:
        signals.request_started.disconnect(note)
        signals.request_finished.disconnect(note)

    assert (start["status"], body["body"]) == (200, b"read whole")
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0] != threading.current_thread().name


def test_a_streamed_answer_leaves_piece_by_piece() -> None:
    sent.clear()

    _, *bodies = ask("/streamed")

    assert b"".join(each.get("body", b"") for each in bodies) == b"onetwothree"
    assert sent == ["made", "sent"] * 3


def test_other_protocols_are_refused() -> None:
    with pytest.raises(ValueError, match="Only HTTP"):
        ask("/plain", kind="websocket")


def test_a_body_above_the_limit_is_refused_while_it_comes_in() -> None:
    limits: dict[str, Any] = {
        "DATA_UPLOAD_MAX_MEMORY_SIZE": 10,
        "CALL_BODY_MAX_BYTES": 9,
        "PACKAGE_MAX_BYTES": 99,
    }
    start, body = ask("/plain", b"x" * 11, **limits)
    assert start["status"] == 413
    assert (b"Content-Type", b"application/problem+json") in start["headers"]
    assert b"larger than 10 bytes" in body["body"]
    start, body = ask("/plain", b"x" * 10, **limits)
    assert (start["status"], body["body"]) == (200, b"read " + b"x" * 10)


def test_only_the_ways_for_packages_take_more() -> None:
    start, _ = ask("/publish", b"x" * 11, DATA_UPLOAD_MAX_MEMORY_SIZE=10, CALL_BODY_MAX_BYTES=9)
    assert start["status"] == 404  # it was read whole, and this test has no such page


def test_the_access_log_masks_a_token_that_stood_in_an_address() -> None:
    token = "infra_" + "0aZ" * 20
    code = (
        "import logging, logging.config, uvicorn.config\n"
        # As uvicorn does: its own logging first, then the application.
        "logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)\n"
        "import inframind.asgi\n"
        "log = logging.getLogger('uvicorn.access')\n"
        f"seen = ('192.0.2.7:5', 'GET', '/?token={token}', '1.1', 401)\n"
        "log.info('%s - \"%s %s HTTP/%s\" %d', *seen)\n"
        "logging.getLogger('uvicorn.error').info('up')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [each["event"] for each in lines] == [
        '192.0.2.7:5 - "GET /?token=[token] HTTP/1.1" 401',
        "up",
    ]
    assert token not in done.stdout + done.stderr
