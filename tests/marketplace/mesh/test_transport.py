"""A node's name may lead elsewhere than when it registered: nothing is sent there."""

from __future__ import annotations

import asyncio
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from inframind.storage.guard import UrlRefused
from marketplace.mesh import client, control, sockets, transport
from marketplace.mesh.tensors import Tensor

NAME = "node.example.org"


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says where the name leads from now on."""
    real = socket.getaddrinfo

    def point(address: str) -> None:
        def found(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            return real(address if host == NAME else host, port, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return point


@pytest.fixture
def visited() -> Any:
    """A server on this machine; the list of the Host headers that reached it, and its port."""
    hosts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield hosts, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


async def infer(port: int) -> None:
    tensor = Tensor("document", "BYTES", (1,), [b"secret"])
    pool = sockets.Pool()
    try:
        await client.infer(
            pool,
            f"http://{NAME}:{port}",
            "m",
            client.outgoing_of([tensor]),
            timeout_seconds=2,
        )
    finally:
        await pool.aclose()


def test_a_name_that_turned_inward_gets_nothing(settings: Any, leads_to: Any, visited: Any) -> None:
    settings.TRITON_NODES, settings.ALLOW_LOOPBACK_NODES = [], False
    hosts, port = visited
    leads_to("127.0.0.1")

    assert client.server_live(client.Address(f"http://{NAME}:{port}")) is False
    with pytest.raises(client.NodeUnreachable):
        control.load(
            client.Address(f"http://{NAME}:{port}", "", "x-control", "the secret of the node"),
            "m",
            config_json="{}",
            files=[],
            timeout_seconds=2,
        )
    with pytest.raises(client.NodeUnreachable):
        asyncio.run(infer(port))
    assert hosts == []


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"])
def test_no_inner_address_is_connected_to(settings: Any, leads_to: Any, address: str) -> None:
    settings.TRITON_NODES, settings.ALLOW_LOOPBACK_NODES = [], True
    leads_to(address)

    with pytest.raises(UrlRefused):
        transport.pinned(f"http://{NAME}:8000")
    with pytest.raises(client.NodeUnreachable):
        asyncio.run(infer(8000))


def test_a_pinned_request_names_the_host_it_was_made_for(
    settings: Any, leads_to: Any, visited: Any
) -> None:
    settings.TRITON_NODES, settings.ALLOW_LOOPBACK_NODES = [], True
    hosts, port = visited
    leads_to("127.0.0.1")

    assert client.server_live(client.Address(f"http://{NAME}:{port}")) is True
    assert hosts == [f"{NAME}:{port}"]


def test_a_node_of_the_settings_may_be_inside(settings: Any, leads_to: Any, visited: Any) -> None:
    hosts, port = visited
    settings.ALLOW_LOOPBACK_NODES = False
    settings.TRITON_NODES = [{"name": "node-a", "endpoint": f"http://{NAME}:{port}"}]
    leads_to("127.0.0.1")

    assert client.server_live(client.Address(f"http://{NAME}:{port}")) is True
    asyncio.run(infer(port))
    assert len(hosts) == 2
