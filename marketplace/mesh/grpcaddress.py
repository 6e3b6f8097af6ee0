"""Where a node's gRPC address leads, once the guard has looked at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inframind.storage.guard import UrlRefused
from marketplace.mesh import transport
from marketplace.mesh.client import NodeUnreachable


@dataclass(frozen=True)
class Target:
    """An address that passed the guard just now, as a channel takes it."""

    address: str  # host:port, the host an IP address unless the settings name it
    encrypted: bool
    options: tuple[tuple[str, Any], ...]


def target_of(grpc_endpoint: str) -> Target:
    """Resolves ``host:port`` or ``http(s)://host:port`` and pins what it led to.

    Looks the name up, so it blocks. Raises ``NodeUnreachable``.
    """
    encrypted = grpc_endpoint.startswith("https://")
    host = grpc_endpoint.removeprefix("https://").removeprefix("http://")
    name, _, port = host.rpartition(":")
    try:
        address = f"{transport.pinned(f'http://{host}')}:{port}"
    except UrlRefused as error:
        raise NodeUnreachable(str(error)) from None
    # A proxy of the environment would look the address up once more.
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
    if encrypted:
        options.append(("grpc.ssl_target_name_override", name.strip("[]")))
    return Target(address, encrypted, tuple(options))
