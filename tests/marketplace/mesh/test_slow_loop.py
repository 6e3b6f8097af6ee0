"""A machine so busy that our own loop stands still: nodes that live are not taken for dead."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from pytest_django import Settings

from marketplace.mesh.sockets import NoConnection, Pool, Reply

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECT_SECONDS = 0.05


@pytest.fixture(autouse=True)
def loopback(settings: Settings) -> None:
    settings.ALLOW_LOOPBACK_NODES = True


async def ask(pool: Pool, port: int) -> Reply:
    return await pool.request(
        "GET",
        f"http://127.0.0.1:{port}",
        "/v2",
        timeout_seconds=30,
        connect_seconds=CONNECT_SECONDS,
    )


@pytest.mark.parametrize("after_seconds", [0, 0.0005, 0.001, 0.002, 0.004])
def test_calls_connect_however_long_the_loop_stood_still(after_seconds: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async def run() -> list[Reply]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        pool = Pool()
        async with server:
            port = server.sockets[0].getsockname()[1]
            calls = [asyncio.ensure_future(ask(pool, port)) for _ in range(9)]
            asyncio.get_running_loop().call_later(after_seconds, time.sleep, 4 * CONNECT_SECONDS)
            try:
                return list(await asyncio.gather(*calls))
            finally:
                await pool.aclose()

    assert [reply.status for reply in asyncio.run(run())] == [200] * 9


def test_an_address_that_swallows_everything_is_given_up() -> None:
    async def run() -> None:
        pool = Pool()
        try:
            with pytest.raises(NoConnection):
                await ask(pool, full.getsockname()[1])
        finally:
            await pool.aclose()

    # Nobody accepts, and the queue is full.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(64):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(full.getsockname())
            waiting.append(each)
        try:
            asyncio.run(run())
        finally:
            for each in waiting:
                each.close()
