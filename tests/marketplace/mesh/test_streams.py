"""Answers in pieces, from real nodes: they come as they are made, and end when nobody reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from marketplace.catalog.models import Version
from marketplace.mesh import client, control, placing, streams
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Node, Placement

from . import serving

TALKER = """
import time

class Model:
    def __init__(self, package):
        self.closed = 0

    def predict(self, document):
        text = document["text"]
        if text == "closed":
            yield {"said": str(self.closed)}
            return
        try:
            for word in text.split():
                if word == "raise":
                    raise ValueError("out of words")
                if word == "die":
                    import os
                    os._exit(3)
                if word == "hang":
                    time.sleep(3600)
                if word == "list":
                    yield ["no", "dict"]
                if word == "wrong":
                    yield {"said": 5}
                if word == "flood":
                    while True:
                        yield {"said": "x" * (1 << 20)}
                if word == "slow":
                    time.sleep(0.2)
                yield {"said": word}
        finally:
            self.closed += 1
"""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def talker(mesh: list[Node]) -> Version:
    """A streaming model on the sandbox."""
    return placed(TALKER)


def placed(code: str) -> Version:
    version = serving.list_python(serving.fresh_name("talker"), code, streaming=True)
    (node,) = placing.eligible_nodes(version)
    placement = placing.place(version_id=version.pk, node_id=node.pk)
    assert (placement.state, placement.reason) == (Placement.State.READY, "")
    return version


def on(version: Version, work: Callable[[Callable[[str], Any]], Awaitable[Any]]) -> Any:
    """Runs ``work(begin)`` on a loop of its own; ``begin`` asks the version's node a text."""
    node = Placement.objects.select_related("node").get(version=version).node

    async def run() -> Any:
        channels = streams.Channels()

        async def begin(text: str, timeout_seconds: float = 20.0) -> streams.Pieces:
            return await channels.begin(
                node.grpc_endpoint,
                triton_name(version.pk),
                orjson.dumps({"text": text}),
                timeout_seconds=timeout_seconds,
                connect_seconds=2.0,
            )

        try:
            return await work(begin)
        finally:
            await channels.aclose()

    return asyncio.run(run())


async def all_of(pieces: streams.Pieces) -> list[str]:
    found = []
    try:
        while (piece := await pieces.take()) is not None:
            found.append(orjson.loads(piece)["said"])
    finally:
        pieces.end()
    return found


def test_pieces_come_in_order_and_end(talker: Version) -> None:
    async def work(begin: Any) -> Any:
        return (
            await all_of(await begin("one two three")),
            await all_of(await begin("")),
            await all_of(await begin("four")),
        )

    assert on(talker, work) == (["one", "two", "three"], [], ["four"])


def test_a_piece_leaves_before_the_next_is_made(talker: Version) -> None:
    async def work(begin: Any) -> Any:
        pieces = await begin("first hang")
        piece = await asyncio.wait_for(pieces.take(), 5)
        pieces.end()
        return piece

    assert orjson.loads(on(talker, work)) == {"said": "first"}


def test_calls_take_turns(talker: Version) -> None:
    async def work(begin: Any) -> Any:
        long = await begin("slow " * 40)
        assert orjson.loads(await long.take() or b"") == {"said": "slow"}
        short = await all_of(await begin("short"))
        long.end()
        return short

    started = time.monotonic()
    assert on(talker, work) == ["short"]
    assert time.monotonic() - started < 8


def test_what_the_model_raises_ends_that_call_alone(talker: Version) -> None:
    async def work(begin: Any) -> Any:
        other = await begin("slow " * 5)
        await other.take()
        pieces = await begin("one raise")
        assert orjson.loads(await pieces.take() or b"") == {"said": "one"}
        with pytest.raises(client.ModelFailed, match="ValueError: out of words"):
            await pieces.take()
        pieces.end()
        return await all_of(other)

    assert on(talker, work) == ["slow"] * 4


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("list", "predict yielded list, not a dict"),
        ("die", "process ended with status 3"),
        ("flood", "more than 64 MiB"),
    ],
)
def test_a_model_that_misbehaves_is_told_and_serves_the_next(
    talker: Version, text: str, detail: str
) -> None:
    async def work(begin: Any) -> Any:
        with pytest.raises(client.ModelFailed, match=detail):
            await all_of(await begin(text))
        return await all_of(await begin("well again"))

    assert on(talker, work) == ["well", "again"]


def test_a_cancelled_call_closes_the_generator(talker: Version) -> None:
    async def work(begin: Any) -> Any:
        assert await all_of(await begin("closed")) == ["0"]
        pieces = await begin("slow " * 1000)
        await pieces.take()
        pieces.end()
        for _ in range(100):
            if await all_of(await begin("closed")) == ["1"]:
                return True
            await asyncio.sleep(0.1)
        return False

    assert on(talker, work)


def test_a_call_that_never_yields_is_out_of_time(talker: Version, settings: Any) -> None:
    async def work(begin: Any) -> Any:
        with pytest.raises(client.NodeTimeout):
            await all_of(await begin("hang", timeout_seconds=1.0))

    on(talker, work)


def test_an_unloaded_model_is_not_loaded(talker: Version) -> None:
    placement = Placement.objects.get(version=talker)
    node = placement.node
    control.unload(placing.address_of(node), triton_name(talker.pk))

    async def work(begin: Any) -> Any:
        with pytest.raises(client.NotLoaded):
            await all_of(await begin("one"))

    on(talker, work)
    assert node.state == Node.State.READY


def test_nobody_there_is_unreachable(settings: Any) -> None:
    settings.ALLOW_LOOPBACK_NODES = True

    async def work() -> None:
        channels = streams.Channels()
        with pytest.raises(client.NodeUnreachable):
            await channels.begin("127.0.0.1:1", "m", b"{}", timeout_seconds=2, connect_seconds=0.3)
        await channels.aclose()

    asyncio.run(work())


@pytest.mark.parametrize("address", ["10.0.0.7:8001", "http://169.254.169.254:80", "[::1]:8001"])
def test_an_address_inside_is_never_connected_to(settings: Any, address: str) -> None:
    settings.ALLOW_LOOPBACK_NODES = False
    settings.TRITON_NODES = []

    async def work() -> None:
        channels = streams.Channels()
        with pytest.raises(client.NodeUnreachable, match="not an address on the public internet"):
            await channels.begin(address, "m", b"{}", timeout_seconds=2, connect_seconds=0.3)
        await channels.aclose()

    asyncio.run(work())
    with pytest.raises(client.NodeUnreachable):
        streams.pieces_once(client.Address("http://x", address), "m", b"{}", timeout_seconds=2)
