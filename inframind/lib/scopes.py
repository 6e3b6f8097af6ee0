"""What a token is good for, and how its holder narrows it: pure rules of server and client.

A ``Caveat`` is one narrowing, signed into the token's text in its one canonical form. A ``Scope``
is what the issued token and all of its caveats leave over: each caveat is met with the scope
before it, so a later one can only take away.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from inframind.lib import access
from inframind.lib.canonical import canonical_json
from inframind.lib.names import is_name

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Limit = TypeVar("Limit", int, float)

# Acting as the wallet itself is never handed on: it could make tokens wider than this one.
ACTIONS: Final = frozenset(scope.value for scope in access.Scope) - {access.Scope.ACCOUNT.value}
MAX_MODELS: Final = 100
MAX_IP_RANGES: Final = 20
MAX_COUNT: Final = 2**53 - 1  # the largest integer that every reader of JSON keeps
MAX_UNIX_TIME: Final = 253_402_300_799  # the end of the year 9999
MAX_BASE_UNITS: Final = 10**78 - 1

_AMOUNT: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_NONCE: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_KEYS: Final = frozenset({"actions", "calls", "expires", "ip", "models", "nonce", "spend"})


def new_nonce() -> str:
    """16 hexadecimal digits that tell two narrowings with the same limits apart."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Caveat:
    """One narrowing. None: this caveat does not limit that.

    ``expires_at`` is unix time in seconds; ``ip_ranges`` are CIDR ranges in canonical form.
    Raises ``ValueError``, with what is wrong, for anything that could not be kept.
    """

    models: frozenset[str] | None = None
    actions: frozenset[str] | None = None
    expires_at: int | None = None
    spend_limit_base_units: int | None = None
    calls_limit: int | None = None
    ip_ranges: tuple[str, ...] | None = None
    nonce: str = field(default_factory=new_nonce)

    def __post_init__(self) -> None:
        if self.models is not None:
            check_models(self.models)
        if self.actions is not None:
            check_actions(self.actions)
        if self.ip_ranges is not None:
            object.__setattr__(self, "ip_ranges", check_ip_ranges(self.ip_ranges))
        _check_whole("an expiry", self.expires_at, 1, MAX_UNIX_TIME)
        _check_whole("a call limit", self.calls_limit, 1, MAX_COUNT)
        _check_whole("a spend limit", self.spend_limit_base_units, 0, MAX_BASE_UNITS)
        if _NONCE.fullmatch(self.nonce) is None:
            raise ValueError("a caveat's nonce has 16 hexadecimal digits")

    @property
    def metered(self) -> bool:
        """Whether use has to be counted against this caveat."""
        return self.calls_limit is not None or self.spend_limit_base_units is not None

    def as_document(self) -> dict[str, Any]:
        """The JSON object that is signed; amounts are text, since JSON would round them."""
        spend = self.spend_limit_base_units
        document: dict[str, Any] = {
            "actions": None if self.actions is None else sorted(self.actions),
            "calls": self.calls_limit,
            "expires": self.expires_at,
            "ip": None if self.ip_ranges is None else list(self.ip_ranges),
            "models": None if self.models is None else sorted(self.models),
            "nonce": self.nonce,
            "spend": None if spend is None else str(spend),
        }
        return {key: value for key, value in document.items() if value is not None}

    def as_bytes(self) -> bytes:
        """The one spelling of this caveat (RFC 8785)."""
        return canonical_json(self.as_document())

    @classmethod
    def parse(cls, octets: bytes) -> Caveat:
        """Reads what ``as_bytes`` wrote.

        Raises ``ValueError`` for all else: a key that is not understood must not be ignored, and
        a second spelling would be a second token.
        """
        try:
            document = json.loads(octets)
        except (ValueError, RecursionError):
            raise ValueError("a caveat of the token is not JSON") from None
        if not isinstance(document, dict) or not document.keys() <= _KEYS:
            raise ValueError("the token has a caveat that this version does not understand")
        caveat = cls(
            models=_texts(document, "models"),
            actions=_texts(document, "actions"),
            expires_at=_whole(document, "expires"),
            spend_limit_base_units=_amount(document),
            calls_limit=_whole(document, "calls"),
            ip_ranges=_ranges(document),
            nonce=_text(document, "nonce"),
        )
        if caveat.as_bytes() != octets:
            raise ValueError("a caveat of the token is not in its canonical form")
        return caveat


@dataclass(frozen=True)
class Scope:
    """What a token and its narrowings allow together. None: no such limit.

    The limits here are the smallest of the chain, to be told; what is counted against each of
    them is the server's to keep.
    """

    actions: frozenset[str]
    models: frozenset[str] | None = None
    owned_only: bool = False
    expires_at: float | None = None
    spend_limit_base_units: int | None = None
    calls_limit: int | None = None
    ip_ranges: tuple[str, ...] | None = None

    def narrowed(self, caveat: Caveat) -> Scope:
        """What is left of this scope under one more caveat: never more."""
        actions = self.actions & ACTIONS
        return replace(
            self,
            actions=actions if caveat.actions is None else actions & caveat.actions,
            models=_both(self.models, caveat.models, lambda a, b: a & b),
            expires_at=_smaller(self.expires_at, caveat.expires_at),
            spend_limit_base_units=_smaller(
                self.spend_limit_base_units, caveat.spend_limit_base_units
            ),
            calls_limit=_smaller(self.calls_limit, caveat.calls_limit),
            ip_ranges=_both(self.ip_ranges, caveat.ip_ranges, _shared_ranges),
        )

    def allows(
        self,
        action: str,
        model: str | None = None,
        *,
        at: float,
        owned: bool = True,
        calls: int = 1,
        spend_base_units: int = 0,
        address: str = "",
    ) -> bool:
        """Whether a use is within the scope, were it the only one ever made.

        ``at`` is unix time; ``owned``: whether the wallet owns the model; ``calls`` and
        ``spend_base_units`` count this use; ``address`` is where it comes from.
        """
        return (
            action in self.actions
            and (model is None or self.models is None or model in self.models)
            and (owned or not self.owned_only)
            and (self.expires_at is None or at < self.expires_at)
            and (self.calls_limit is None or calls <= self.calls_limit)
            and (
                self.spend_limit_base_units is None
                or spend_base_units <= self.spend_limit_base_units
            )
            and (self.ip_ranges is None or in_ranges(address, self.ip_ranges))
        )


def check_models(models: Iterable[str]) -> None:
    """Raises ``ValueError`` unless these are 1 to 100 names that a model could have."""
    names = sorted(models)
    if not 1 <= len(names) <= MAX_MODELS:
        raise ValueError(f"a token names 1 to {MAX_MODELS} models, not {len(names)}")
    for name in names:
        if not is_name(name):
            raise ValueError(f"{name[:80]!r} is not a model name")


def check_actions(actions: Iterable[str]) -> None:
    """Raises ``ValueError`` unless there is one and a token can be given each."""
    wanted = set(actions)
    unknown = sorted(wanted - ACTIONS)
    if unknown or not wanted:
        given = ", ".join(repr(action[:40]) for action in unknown[:5]) or "no action at all"
        raise ValueError(
            f"a token cannot be given {given}; choose from {', '.join(sorted(ACTIONS))}"
        )


def check_ip_ranges(ranges: Iterable[str]) -> tuple[str, ...]:
    """The ranges in canonical form, each once, in order. Raises ``ValueError``."""
    networks = {_network(text) for text in ranges}
    if not 1 <= len(networks) <= MAX_IP_RANGES:
        raise ValueError(f"a token names 1 to {MAX_IP_RANGES} address ranges, not {len(networks)}")
    return tuple(sorted(str(network) for network in networks))


def in_ranges(address: str, ranges: Iterable[str]) -> bool:
    """Whether an IP address lies in one of the ranges; an IPv4 address mapped into IPv6 is IPv4."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(text) for text in ranges)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text.strip())
        if "%" in text:
            raise ValueError("it has a zone")
    except ValueError as error:
        raise ValueError(
            f"{text[:60]!r} is not an address range such as 10.0.0.0/8: {error}"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return ipaddress.ip_network((inner, network.prefixlen - 96))
    return network


def _shared_ranges(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    shared = set()
    for mine in map(ipaddress.ip_network, left):
        for theirs in map(ipaddress.ip_network, right):
            if mine.version != theirs.version:
                continue
            # Two ranges overlap only where one holds the other.
            if mine.overlaps(theirs):
                shared.add(str(mine if mine.prefixlen >= theirs.prefixlen else theirs))
    return tuple(sorted(shared))


Value = TypeVar("Value")


def _both(
    left: Value | None, right: Value | None, meet: Callable[[Value, Value], Value]
) -> Value | None:
    if left is None:
        return right
    return left if right is None else meet(left, right)


def _smaller(left: Limit | None, right: Limit | None) -> Limit | None:
    return _both(left, right, min)


def _check_whole(what: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not (type(value) is int and least <= value <= most):
        raise ValueError(f"{what} is a whole number from {least} to {most}")


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} of a caveat is a text")
    return value


def _texts(document: dict[str, Any], key: str) -> frozenset[str] | None:
    if key not in document:
        return None
    value = document[key]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{key!r} of a caveat is a list of texts")
    return frozenset(value)


def _ranges(document: dict[str, Any]) -> tuple[str, ...] | None:
    found = _texts(document, "ip")
    return None if found is None else tuple(sorted(found))


def _whole(document: dict[str, Any], key: str) -> int | None:
    if key not in document:
        return None
    value = document[key]
    if type(value) is not int:
        raise ValueError(f"{key!r} of a caveat is a whole number")
    return value


def _amount(document: dict[str, Any]) -> int | None:
    if "spend" not in document:
        return None
    text = _text(document, "spend")
    if _AMOUNT.fullmatch(text) is None:
        raise ValueError("'spend' of a caveat is a whole number of base units, as text")
    return int(text)
