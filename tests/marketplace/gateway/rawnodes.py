"""Servers that answer as a node with the doubler would, or in whatever way a test makes them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from django.db.models.functions import Now

from inframind.identity.models import Wallet
from marketplace.catalog.models import Version
from marketplace.mesh.models import Node, Placement

OPERATOR = "0x9999999999999999999999999999999999999999"
# To the document {"values": [1]}.
OUTPUTS: list[dict[str, Any]] = [
    {"name": "scaled", "datatype": "FP32", "shape": [1], "data": [2.0]},
    {"name": "label_out", "datatype": "BYTES", "shape": [1], "data": ["none"]},
]
Writer = asyncio.StreamWriter


def answer_of(content: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    """An HTTP answer, with a Content-Length that may lie."""
    given = len(content) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {given}\r\n\r\n"
    return head.encode() + content


def served(outputs: Any = OUTPUTS) -> bytes:
    return answer_of(json.dumps({"model_name": "m", "outputs": outputs}).encode())


async def well(writer: Writer) -> bool:
    writer.write(served())
    return True


async def hangs(writer: Writer) -> bool:
    await asyncio.sleep(60)
    return False


async def is_slow(writer: Writer) -> bool:
    await asyncio.sleep(1.5)
    return await well(writer)


async def talks_garbage(writer: Writer) -> bool:
    writer.write(bytes(range(256)) * 4)
    return False


async def breaks_off(writer: Writer) -> bool:
    writer.write(answer_of(b'{"model_name": "m", "outp', length=400))
    return False


async def closes(writer: Writer) -> bool:
    return False


async def gives_half_a_document(writer: Writer) -> bool:
    writer.write(answer_of(b'{"model_name": "m", "outp'))
    return True


async def gives_a_wrong_shape(writer: Writer) -> bool:
    writer.write(served([{**OUTPUTS[0], "shape": [3, 3]}, OUTPUTS[1]]))
    return True


async def gives_another_tensor(writer: Writer) -> bool:
    writer.write(served([{**OUTPUTS[0], "name": "other"}, OUTPUTS[1]]))
    return True


async def is_a_proxy_without_a_server(writer: Writer) -> bool:
    writer.write(answer_of(b"<html>Bad Gateway</html>", status="502 Bad Gateway"))
    return True


async def lost_the_model(writer: Writer) -> bool:
    said = b'{"error": "Request for unknown model: \'m\' is not found"}'
    writer.write(answer_of(said, status="400 Bad Request"))
    return True


async def has_a_model_that_fails(writer: Writer) -> bool:
    writer.write(answer_of(b'{"error": "division by zero"}', status="500 Internal Server Error"))
    return True


@dataclass
class RawNode:
    """A listening server. ``behaves`` writes the answer to an inference and says whether the
    connection goes on; a node that ``hangs`` answers no look either."""

    behaves: Callable[[Writer], Awaitable[bool]]
    endpoint: str = ""
    calls: int = 0
    _writers: set[Writer] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            goes_on = True
            while goes_on:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                if head.startswith(b"GET"):
                    if self.behaves is hangs:
                        await asyncio.sleep(60)
                    writer.write(answer_of(b""))
                else:
                    self.calls += 1
                    goes_on = await self.behaves(writer)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


@contextmanager
def listening(*nodes: RawNode) -> Iterator[None]:
    """Serves all of them, on ports of their own, in a thread beside the test."""
    ready = threading.Event()
    end: list[Callable[[], object]] = []

    async def serve() -> None:
        servers = []
        for node in nodes:
            server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
            node.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            servers.append(server)
        over = asyncio.Event()
        running = asyncio.get_running_loop()
        end.append(lambda: running.call_soon_threadsafe(over.set))
        ready.set()
        await over.wait()
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        end[0]()
        thread.join()


def placed(name: str, endpoint: str, version: Version, **facts: Any) -> Node:
    """The node's row, ready, with the version on it."""
    made = Node.objects.create(
        name=name,
        operator=Wallet.objects.of(OPERATOR),
        endpoint=endpoint,
        **{"state": "ready", "backends": ["python"], "trusted": True, **facts},
    )
    Placement.objects.create(version=version, node=made, state="ready", ready_at=Now())
    return made


def closed_port() -> str:
    """An address that refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
