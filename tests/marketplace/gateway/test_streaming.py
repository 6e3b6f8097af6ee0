"""Answers in pieces over both fronts, from real nodes: what leaves, what it costs, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn

from inframind.lib import canonical
from marketplace.catalog.models import Version
from marketplace.gateway import events, loop, streaming
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node

from ..mesh import serving
from ..mesh.test_streams import TALKER, placed
from . import money
from .money import FEE

pytestmark = pytest.mark.django_db(transaction=True)

Event = tuple[str, Any]
KEY = "6c1e2a52-6f0e-4b36-9c6b-7d2f1c0a9f12"


@pytest.fixture
def talker(mesh: list[Node]) -> Version:
    """A streaming model on the sandbox."""
    return placed(TALKER)


@pytest.fixture
def dear(talker: Version) -> Version:
    """The same at a price, and a guest who can pay it twenty times."""
    money.fund(money.GUEST, 20 * FEE)
    Version.objects.filter(pk=talker.pk).update(fee_base_units=FEE)
    return Version.objects.get(pk=talker.pk)


@pytest.fixture(params=["application", "reference"])
def server(request: pytest.FixtureRequest, mesh: list[Node]) -> Iterator[str]:
    """The address of each front in turn, over real HTTP."""
    with serving_on(request.param) as address:
        yield address


@contextlib.contextmanager
def serving_on(front: str) -> Iterator[str]:
    """A server of this process, on a thread of its own."""
    from inframind import asgi

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    lifespan: Any = "on" if front == "application" else "off"
    config = uvicorn.Config(
        getattr(asgi, front), log_level="warning", lifespan=lifespan, loop="uvloop"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "The server ended before it started."
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def events_of(lines: Iterator[str]) -> Iterator[Event]:
    kind = "message"
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
            kind = "message"


@contextlib.contextmanager
def asking(
    server: str, version: Version, document: Any, *, token: str = "", **headers: str
) -> Iterator[httpx.Response]:
    """An answer, its body unread; leaving the block closes the connection."""
    headers = {"Accept": "text/event-stream", **headers}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    document = {"text": document} if isinstance(document, str) else document
    with (
        httpx.Client(timeout=30) as http,
        http.stream(
            "POST",
            f"{server}/inference/v1/{version.model_id}",
            json=document,
            headers=headers,
        ) as answer,
    ):
        yield answer


def told(server: str, version: Version, document: Any, **wish: str) -> list[Event]:
    """All events of an answer."""
    with asking(server, version, document, **wish) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events_of(answer.iter_lines()))


def row_of(receipt: str, *, wait_seconds: float = 15.0) -> Call:
    """The call's row; waits for that of a call whose caller did not."""
    deadline = time.monotonic() + wait_seconds
    while True:
        found = Call.objects.filter(pk=UUID(receipt)).first()
        if found is not None:
            return found
        assert time.monotonic() < deadline, "The call was not written down."
        time.sleep(0.05)


def said(*words: str) -> list[Event]:
    return [("message", {"said": word}) for word in words]


def test_pieces_then_done_with_a_row(server: str, talker: Version) -> None:
    with asking(server, talker, "one two") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        found = list(events_of(answer.iter_lines()))
    receipt = answer.headers["inframind-receipt"]
    row = Call.objects.get(pk=UUID(receipt))
    done = {
        "model": f"{talker.model_id}@1.0.0",
        "receipt": receipt,
        "fee": {"base_units": "0", "text": "0 IFM"},
        "node": row.node_name,
        "pieces": 2,
    }
    assert found == [*said("one", "two"), ("done", done)]
    assert (row.outcome, row.problem_code) == (Call.Outcome.SERVED, "")
    pieces = canonical.canonical_json([{"said": "one"}, {"said": "two"}])
    assert row.output_digest == f"sha256:{hashlib.sha256(pieces).hexdigest()}"


def test_a_piece_leaves_before_the_next_is_made(server: str, talker: Version) -> None:
    with asking(server, talker, "first " + "slow " * 100) as answer:
        lines = events_of(answer.iter_lines())
        assert next(lines) == said("first")[0]
        assert not Call.objects.exists()


def test_a_served_stream_is_charged_before_done(server: str, dear: Version) -> None:
    token = money.token_of()
    with asking(server, dear, "one two", token=token) as answer:
        found = []
        for kind, document in events_of(answer.iter_lines()):
            if kind == "done":
                # Whoever reads this finds the row there already.
                assert Call.objects.get(pk=UUID(document["receipt"])).fee_base_units == FEE
                assert document["fee"]["base_units"] == str(FEE)
            found.append(kind)
    assert found == ["message", "message", "done"]
    assert money.spent() == FEE


@pytest.mark.parametrize(
    ("text", "code", "outcome"),
    [
        ("one raise", "model-failed", Call.Outcome.MODEL_FAILED),
        ("one die", "model-failed", Call.Outcome.MODEL_FAILED),
        ("one wrong", "invalid-output", Call.Outcome.INVALID_OUTPUT),
    ],
)
def test_an_error_after_a_piece_is_an_event_and_costs_nothing(
    server: str, dear: Version, text: str, code: str, outcome: str
) -> None:
    (first, (kind, problem)) = told(server, dear, text, token=money.token_of())
    assert first == said("one")[0]
    assert (kind, problem["type"], problem["charged"]) == ("error", f"/problems/{code}", False)
    row = row_of(problem["instance"].removeprefix("urn:uuid:"))
    assert (row.outcome, row.problem_code, int(row.fee_base_units)) == (outcome, code, 0)
    assert (money.balance(), money.spent()) == (20 * FEE, 0)


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({"text": 5}, 422, "invalid-input"),
        ("raise", 502, "model-failed"),
        ("wrong", 502, "invalid-output"),
        ("", 502, "model-failed"),
    ],
)
def test_an_error_before_a_piece_has_a_status(
    server: str, dear: Version, document: Any, status: int, code: str
) -> None:
    with asking(server, dear, document, token=money.token_of()) as answer:
        problem = json.loads(answer.read())
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{code}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert row_of(answer.headers["inframind-receipt"]).problem_code == code
    assert money.spent() == 0


def test_leaving_after_a_piece_is_charged_and_cancels(server: str, dear: Version) -> None:
    token = money.token_of()
    with asking(server, dear, "slow " * 1000, token=token) as answer:
        assert next(events_of(answer.iter_lines())) == said("slow")[0]
    row = row_of(answer.headers["inframind-receipt"])
    assert (row.outcome, row.problem_code) == (Call.Outcome.SERVED, "cancelled")
    assert (int(row.fee_base_units), money.spent()) == (FEE, FEE)
    # The generator was closed, on the node.
    for _ in range(100):
        if told(server, dear, "closed", token=token)[0] == said("1")[0]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("The generator goes on.")


def test_leaving_before_a_piece_costs_nothing(dear: Version) -> None:
    # The reference front sees who has gone when it has something to send.
    with serving_on("application") as server:
        with (
            contextlib.suppress(httpx.ReadTimeout),
            httpx.Client(timeout=1.0) as http,
        ):
            http.post(
                f"{server}/inference/v1/{dear.model_id}",
                json={"text": "hang"},
                headers={
                    "Accept": "text/event-stream",
                    "Authorization": f"Bearer {money.token_of()}",
                },
            )
        deadline = time.monotonic() + 15
        while not Call.objects.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    row = Call.objects.get()
    assert (row.outcome, row.problem_code) == (Call.Outcome.REFUSED, "cancelled")
    assert (money.spent(), money.balance()) == (0, 20 * FEE)
    money.books_are_right()


def test_a_key_gives_the_same_events_for_one_fee(server: str, dear: Version) -> None:
    token = money.token_of()
    wish = {"token": token, "Idempotency-Key": KEY}
    first = told(server, dear, "one two", **wish)
    with asking(server, dear, "one two", **wish) as answer:
        assert answer.headers["idempotency-replayed"] == "true"
        assert answer.headers["content-type"] == "text/event-stream"
        assert list(events_of(answer.iter_lines())) == first
    assert (Call.objects.count(), money.spent()) == (1, FEE)


def test_a_key_of_a_cancelled_call_is_charged_once(server: str, dear: Version) -> None:
    wish = {"token": money.token_of(), "Idempotency-Key": KEY}
    with asking(server, dear, "slow " * 1000, **wish) as answer:
        next(events_of(answer.iter_lines()))
    row_of(answer.headers["inframind-receipt"])
    *pieces, (kind, problem) = told(server, dear, "slow " * 1000, **wish)
    assert pieces == said(*["slow"] * len(pieces))
    assert len(pieces) >= 1
    assert (kind, problem["type"], problem["charged"]) == ("error", "/problems/cancelled", True)
    assert (Call.objects.count(), money.spent()) == (1, FEE)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0"])
def test_a_streaming_model_asked_for_one_answer_says_what_to_send(
    server: str, dear: Version, accept: str
) -> None:
    with asking(server, dear, "one", token=money.token_of(), Accept=accept) as answer:
        problem = json.loads(answer.read())
    assert (answer.status_code, problem["type"]) == (406, "/problems/stream-only")
    assert "Accept: text/event-stream" in problem["remedy"]
    assert money.spent() == 0


def test_another_model_gives_its_document_and_done(server: str, mesh: list[Node]) -> None:
    version = serving.list_doubler(serving.fresh_name("doubler"))
    (piece, (kind, done)) = told(server, version, {"values": [1, 2]})
    assert piece == ("message", {"values": [2.0, 4.0], "label": "none"})
    assert (kind, done["pieces"]) == ("done", 1)
    assert row_of(done["receipt"]).outcome == Call.Outcome.SERVED


def test_a_reader_who_does_not_read_is_a_caller_who_went(dear: Version, settings: Any) -> None:
    settings.STREAM_DEADLINE_SECONDS = 2
    request = money.request_of(dear.model_id, money.token_of(), {"text": "one two"}, streamed=True)

    async def run() -> list[bytes]:
        answer = await streaming.call(request, None)
        assert not isinstance(answer.body, bytes)
        found = [await anext(answer.body)]
        await asyncio.sleep(2.5)
        return [*found, *[event async for event in answer.body]]

    (first, last) = loop.submit(run(), 60)
    assert first == events.piece(b'{"said":"one"}')
    assert last.startswith(b"event: error\n")
    row = Call.objects.get()
    assert (row.outcome, row.problem_code) == (Call.Outcome.SERVED, "cancelled")
    assert money.spent() == FEE


def test_an_answer_nobody_begins_to_read_costs_nothing(dear: Version) -> None:
    request = money.request_of(dear.model_id, money.token_of(), {"text": "one two"}, streamed=True)

    async def run() -> None:
        answer = await streaming.call(request, None)
        await answer.body.aclose()  # type: ignore[union-attr]

    loop.submit(run(), 60)
    row = Call.objects.get()
    assert (row.outcome, row.problem_code) == (Call.Outcome.REFUSED, "cancelled")
    money.idle()
    money.books_are_right()


def test_gathered_is_the_array_of_the_pieces(dear: Version) -> None:
    request = money.request_of(dear.model_id, money.token_of(), {"text": "one two"}, streamed=True)
    answer = loop.submit(streaming.gathered(request), 60)
    assert (answer.status, json.loads(answer.document)) == (200, [{"said": "one"}, {"said": "two"}])
    assert answer.headers["Content-Type"] == "application/json"
    assert money.call_of(answer).outcome == Call.Outcome.SERVED


def test_many_at_once_are_each_charged_once_or_not(server: str, dear: Version) -> None:
    token = money.token_of()
    results: list[str] = []

    def one(index: int) -> None:
        text = ("one two", "one raise", "slow " * 1000)[index % 3]
        with asking(server, dear, text, token=token) as answer:
            for kind, _ in events_of(answer.iter_lines()):
                if kind != "message" or index % 3 == 2:
                    results.append(kind)
                    return

    threads = [threading.Thread(target=one, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["done"] * 4 + ["error"] * 4 + ["message"] * 4
    deadline = time.monotonic() + 15
    while Call.objects.count() < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Call.objects.count() == 12
    assert money.spent() == 8 * FEE
