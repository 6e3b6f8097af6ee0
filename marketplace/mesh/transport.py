"""Connections to nodes, each to an address that was checked the moment before.

The name of a registered node can lead to the public internet while it registers and to our own
network a minute later. Nodes of the settings are exempt: whoever runs the server wrote them there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from inframind.storage.guard import UrlRefused, check_public_url, is_public

CONNECT_SECONDS: Final = 2.0


def request(
    method: str,
    url: str,
    *,
    timeout_seconds: float,
    content: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """One request to a node, redirects not followed. Raises ``httpx.HTTPError``."""
    parts = urlsplit(url)
    try:
        host = pinned(url)
    except UrlRefused as error:
        raise httpx.ConnectError(str(error)) from None
    port = f":{parts.port}" if parts.port else ""
    timeout = httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
    with httpx.Client(verify=certificates(), timeout=timeout) as http:
        return http.request(
            method,
            parts._replace(netloc=f"{host}{port}").geturl(),
            content=content,
            headers={"Host": parts.netloc, **(headers or {})},
            extensions={"sni_hostname": parts.hostname or ""},
        )


def pinned(url: str) -> str:
    """The host to connect to: an address that passed the guard just now. Raises ``UrlRefused``."""
    host = urlsplit(url).hostname or ""
    if host not in _house_hosts():
        found = check_public_url(url, allow_loopback=settings.ALLOW_LOOPBACK_NODES)
        host = str(found.addresses[0])
    return f"[{host}]" if ":" in host else host


async def addresses(host: str, port: int) -> tuple[str, ...]:
    """Where a node of this name is now, of that only what the guard lets pass.

    Raises ``OSError`` when the name leads nowhere that is allowed.
    """
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = dict.fromkeys(str(target[0]) for *_, target in answers)
    if host not in _house_hosts():
        found = {each: None for each in found if _admissible(each)}
    if not found:
        raise OSError(f"{host} does not lead to the public internet")
    return tuple(found)


def _admissible(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    # An IPv4 address in IPv6 clothes reaches the IPv4 host.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    real = mapped or address
    return is_public(real) or (settings.ALLOW_LOOPBACK_NODES and real.is_loopback)


def _house_hosts() -> frozenset[str]:
    return frozenset(urlsplit(each["endpoint"]).hostname or "" for each in settings.TRITON_NODES)


@cache
def certificates() -> ssl.SSLContext:
    """The authorities that nodes' certificates are held against."""
    # Reading the authorities takes httpx longer than a look at a node.
    return httpx.create_ssl_context()
