"""The guard before every URL that came from outside: it leads to the public internet only."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_CHARACTERS: Final = 2048
# Below these only the web's own ports: the others belong to mail, shells, databases and the like.
_FIRST_FREE_PORT: Final = 1024
_WEB_PORTS: Final = frozenset({80, 443})

# Ranges that reach private hosts through translation, which `is_global` does not know everywhere.
_TRANSLATING: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)


class UrlRefused(ValueError):
    """A URL must not be fetched. The text says why and what to give instead."""


@dataclass(frozen=True, slots=True)
class ResolvedUrl:
    """A URL that passed, with what it led to at that moment."""

    url: str
    scheme: str
    host: str
    port: int
    addresses: tuple[Address, ...]


def check_public_url(url: str, *, allow_loopback: bool) -> ResolvedUrl:
    """Parses an http(s) URL, resolves its host and checks that every address is public.

    `allow_loopback` lets addresses of this machine pass too, for development. A name can resolve
    differently a moment later, so whoever connects must pin the address or check it again.
    Raises UrlRefused.
    """
    if len(url) > MAX_URL_CHARACTERS or any(letter <= " " or letter == "\x7f" for letter in url):
        raise UrlRefused(
            f"A URL has at most {MAX_URL_CHARACTERS} characters and no spaces. Check it for typing "
            "mistakes."
        )
    try:
        parts = urlsplit(url)
        host, given_port = parts.hostname, parts.port
    except ValueError as error:
        raise UrlRefused(f"{url!r} is not a URL ({error}).") from error
    if parts.scheme not in ("http", "https"):
        raise UrlRefused(f"{url!r} is neither http nor https. Give an http(s) URL.")
    if not host or "\\" in parts.netloc or "%" in host:
        raise UrlRefused(f"{url!r} names no host. Write it like https://models.example.org/.")
    if "@" in parts.netloc:
        raise UrlRefused("The URL carries a user name or password. Leave them out.")
    port = given_port if given_port is not None else (443 if parts.scheme == "https" else 80)
    addresses = _resolve(host, port)
    if allow_loopback and all(address.is_loopback for address in addresses):
        return ResolvedUrl(url, parts.scheme, host, port, addresses)
    if port not in _WEB_PORTS and port < _FIRST_FREE_PORT:
        raise UrlRefused(
            f"Port {port} is not used for this. Use 80, 443 or a port from {_FIRST_FREE_PORT} up."
        )
    inside = [address for address in addresses if not is_public(address)]
    if inside:
        raise UrlRefused(
            f"{host} leads to {inside[0]}, which is not an address on the public internet. Use a "
            "host that everyone can reach."
        )
    return ResolvedUrl(url, parts.scheme, host, port, addresses)


def is_public(address: Address) -> bool:
    """Says whether an address is of one host on the public internet."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _TRANSLATING)


def _resolve(host: str, port: int) -> tuple[Address, ...]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UrlRefused(
            f"The host {host!r} cannot be found. Check its spelling and that its DNS works."
        ) from error
    found: dict[Address, None] = {}
    for *_, target in answers:
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        # An IPv4 address in IPv6 clothes reaches the IPv4 host.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        found[mapped or address] = None
    if not found:
        raise UrlRefused(f"The host {host!r} has no address.")
    return tuple(found)
