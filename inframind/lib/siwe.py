"""Sign-in messages (EIP-4361), read and written strictly to the ABNF of the proposal.

A wallet shows the text to a person, so there is exactly one reading of it: every byte is accounted
for, lines end in LF, and what the grammar does not allow is refused. Two things are asked beyond
the grammar: the address carries its EIP-55 checksum, and a chain id has no leading zeros.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from inframind.lib.addresses import checksum_address

MAX_CHARACTERS: Final = 8_192
CLOCK_SKEW: Final = timedelta(seconds=60)
_CHAIN_ID_DIGITS: Final = 78  # of the largest uint256

_WANTS: Final = " wants you to sign in with your Ethereum account:"
# Single characters or alternatives that begin differently, so that matching is linear in the text.
_UNRESERVED: Final = r"A-Za-z0-9\-._~"
_SUB_DELIMS: Final = r"!$&'()*+,;="
_PCT: Final = r"%[0-9A-Fa-f]{2}"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
_USERINFO: Final = re.compile(rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:]|{_PCT})*")
_REG_NAME: Final = re.compile(rf"(?:[{_UNRESERVED}{_SUB_DELIMS}]|{_PCT})*")
_IP_FUTURE: Final = re.compile(rf"[vV][0-9A-Fa-f]+\.[{_UNRESERVED}{_SUB_DELIMS}:]+")
_PCHARS: Final = re.compile(rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@]|{_PCT})*")
_PATH: Final = re.compile(rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@/]|{_PCT})*")
_QUERY: Final = re.compile(rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@/?]|{_PCT})*")
_STATEMENT: Final = re.compile(rf"[{_UNRESERVED}{_SUB_DELIMS}:/?#\[\]@ ]+")
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")
_DIGITS: Final = re.compile(r"[0-9]+")
_NONCE: Final = re.compile(r"[A-Za-z0-9]{8,}")
_DATE_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


@dataclass(frozen=True)
class Message:
    """The fields of a sign-in message. Times are RFC 3339 texts, kept as they were written.

    None says that a line is absent; an empty ``request_id`` or ``resources`` that it is there
    without a value. Raises ``ValueError`` for a field that the grammar does not allow.
    """

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    scheme: str | None = None
    statement: str | None = None
    version: str = "1"
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.scheme is not None and not _SCHEME.fullmatch(self.scheme):
            raise ValueError(f"{_shown(self.scheme)} is not a URI scheme")
        if not is_authority(self.domain):
            raise ValueError(f"{_shown(self.domain)} is not a domain (an RFC 3986 authority)")
        _check_address(self.address)
        if self.statement is not None and not _STATEMENT.fullmatch(self.statement):
            raise ValueError(
                "the statement may have the ASCII letters, digits and signs of a URI, and spaces, "
                "on one line"
            )
        if not is_uri(self.uri):
            raise ValueError(f"{_shown(self.uri)} is not an absolute URI (RFC 3986)")
        if self.version != "1":
            raise ValueError(f"the version is {_shown(self.version)}, not 1")
        if self.chain_id < 0 or self.chain_id >= 1 << 256:
            raise ValueError("the chain id does not fit 256 bits")
        if not _NONCE.fullmatch(self.nonce):
            raise ValueError("a nonce has at least 8 letters and digits of ASCII")
        for name in ("issued_at", "expiration_time", "not_before"):
            text = getattr(self, name)
            if text is not None:
                moment(text)
        if self.request_id is not None and not _PCHARS.fullmatch(self.request_id):
            raise ValueError("the request id has characters that a URI's path may not have")
        for resource in self.resources or ():
            if not is_uri(resource):
                raise ValueError(f"the resource {_shown(resource)} is not an absolute URI")

    def __str__(self) -> str:
        return write(self)


def write(message: Message) -> str:
    """The text that a wallet signs: ``parse(write(message)) == message``."""
    lines = [
        f"{message.scheme + '://' if message.scheme is not None else ''}{message.domain}{_WANTS}",
        message.address,
        "",
    ]
    if message.statement is not None:
        lines.append(message.statement)
    lines += [
        "",
        f"URI: {message.uri}",
        f"Version: {message.version}",
        f"Chain ID: {message.chain_id}",
        f"Nonce: {message.nonce}",
        f"Issued At: {message.issued_at}",
    ]
    for label, text in (
        ("Expiration Time", message.expiration_time),
        ("Not Before", message.not_before),
        ("Request ID", message.request_id),
    ):
        if text is not None:
            lines.append(f"{label}: {text}")
    if message.resources is not None:
        lines += ["Resources:", *(f"- {resource}" for resource in message.resources)]
    return "\n".join(lines)


def parse(text: str) -> Message:
    """The message in a text; ``write(parse(text)) == text``.

    Raises ``ValueError`` that says what is wrong, for anything the grammar does not allow and for
    more than ``MAX_CHARACTERS``.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the message is longer than {MAX_CHARACTERS} characters")
    lines = _Lines(text)
    scheme, domain = _origin(lines.take("the line that names the domain"))
    address = lines.take("the address")
    # Before anything else is said: most messages that cannot be read have their lines elsewhere.
    _check_address(address)
    lines.take_empty("after the address")
    statement = lines.take_until_empty()
    uri = lines.take_labelled("URI")
    version = lines.take_labelled("Version")
    chain_id = _chain_id(lines.take_labelled("Chain ID"))
    nonce = lines.take_labelled("Nonce")
    issued_at = lines.take_labelled("Issued At")
    expiration_time = lines.take_optional("Expiration Time")
    not_before = lines.take_optional("Not Before")
    request_id = lines.take_optional("Request ID")
    resources = lines.take_resources()
    lines.end()
    return Message(
        scheme=scheme,
        domain=domain,
        address=address,
        statement=statement,
        uri=uri,
        version=version,
        chain_id=chain_id,
        nonce=nonce,
        issued_at=issued_at,
        expiration_time=expiration_time,
        not_before=not_before,
        request_id=request_id,
        resources=resources,
    )


def check(
    message: Message, *, domain: str, uri: str, chain_id: int, nonce: str, now: datetime
) -> None:
    """Whether this message signs in here and now: at this domain, to this URI, on this chain, with
    this nonce. ``now`` is aware of its zone. Raises ``ValueError`` naming the first difference."""
    if message.domain != domain:
        raise ValueError(f"the message is for {message.domain}, not for {domain}")
    if message.scheme is not None and message.scheme != uri.partition(":")[0]:
        raise ValueError(f"the message is for {message.scheme}://, not for {uri}")
    if message.uri != uri:
        raise ValueError(f"the message's URI is {message.uri}, not {uri}")
    if message.chain_id != chain_id:
        raise ValueError(f"the message is for chain {message.chain_id}, not for chain {chain_id}")
    if message.nonce != nonce:
        raise ValueError("the message has another nonce")
    if moment(message.issued_at) > now + CLOCK_SKEW:
        raise ValueError(f"the message is dated in the future, {message.issued_at}")
    if message.not_before is not None and moment(message.not_before) > now:
        raise ValueError(f"the message is not valid before {message.not_before}")
    if message.expiration_time is not None and moment(message.expiration_time) <= now:
        raise ValueError(f"the message expired at {message.expiration_time}")


def moment(text: str) -> datetime:
    """The instant of an RFC 3339 date-time, in UTC, to the microsecond.

    Raises ``ValueError`` for another form, for days that do not exist, and outside the years 1 to
    9999.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shown(text)} is not an RFC 3339 date and time")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, sign, zone_hours, zone_minutes = found.groups()[6:]
    zone = UTC
    if sign is not None:
        if int(zone_hours) > 23 or int(zone_minutes) > 59:
            raise ValueError(f"{text} has a time zone that does not exist")
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        zone = timezone(-offset if sign == "-" else offset)
    if second > 60:
        raise ValueError(f"{text} has a second that does not exist")
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        # RFC 3339 allows a leap second, which Python's calendar does not have.
        whole = datetime(year, month, day, hour, minute, min(second, 59), microsecond, zone)
        return (whole + timedelta(seconds=second - min(second, 59))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text} is a date or time that does not exist") from None


def rfc3339(instant: datetime) -> str:
    """An instant as it is written into a message: UTC, whole seconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_authority(text: str) -> bool:
    """Whether a text is an RFC 3986 authority whose host is not empty."""
    before, at, after = text.partition("@")
    userinfo, rest = (before, after) if at else ("", before)
    if not _USERINFO.fullmatch(userinfo):
        return False
    if rest.startswith("["):
        literal, bracket, port = rest[1:].partition("]")
        if not bracket or not _is_ip_literal(literal):
            return False
        return port == "" or (port[0] == ":" and _is_port(port[1:]))
    host, _, port = rest.partition(":")
    return host != "" and _REG_NAME.fullmatch(host) is not None and _is_port(port)


def is_uri(text: str) -> bool:
    """Whether a text is an RFC 3986 URI: with its scheme, and characters of ASCII only."""
    scheme, colon, rest = text.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        return False
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    if not _QUERY.fullmatch(query) or not _QUERY.fullmatch(fragment):
        return False
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        # Only here may a host be empty, as in file:///etc/hosts.
        return (authority == "" or is_authority(authority)) and bool(_PATH.fullmatch(slash + path))
    return _PATH.fullmatch(rest) is not None


class _Lines:
    """The lines of a message, taken one after the other."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._next = 0

    def take(self, what: str) -> str:
        if self._next >= len(self._lines):
            raise ValueError(f"the message ends before {what}")
        self._next += 1
        return self._lines[self._next - 1]

    def take_empty(self, where: str) -> None:
        if self.take(f"the empty line {where}") != "":
            raise ValueError(f"line {self._next} has to be empty, {where}")

    def take_until_empty(self) -> str | None:
        """The statement with the empty line below it, or one empty line where there is none."""
        statement = self.take("the statement")
        if statement == "":
            return None
        self.take_empty("after the statement")
        return statement

    def take_labelled(self, label: str) -> str:
        line = self.take(f"`{label}: `")
        if not line.startswith(f"{label}: "):
            raise ValueError(f"line {self._next} has to begin with `{label}: `")
        return line[len(label) + 2 :]

    def take_optional(self, label: str) -> str | None:
        if self._next < len(self._lines) and self._lines[self._next].startswith(f"{label}: "):
            return self.take_labelled(label)
        return None

    def take_resources(self) -> tuple[str, ...] | None:
        if self._next >= len(self._lines) or self._lines[self._next] != "Resources:":
            return None
        self._next += 1
        resources = []
        while self._next < len(self._lines):
            line = self.take("a resource")
            if not line.startswith("- "):
                raise ValueError(f"line {self._next} has to be a resource, after `- `")
            resources.append(line[2:])
        return tuple(resources)

    def end(self) -> None:
        if self._next < len(self._lines):
            raise ValueError(
                f"line {self._next + 1} is unknown, twice there, or out of order: "
                f"{_shown(self._lines[self._next])}"
            )


def _origin(line: str) -> tuple[str | None, str]:
    if not line.endswith(_WANTS):
        raise ValueError(f"the first line has to end with `{_WANTS.strip()}`")
    origin = line.removesuffix(_WANTS)
    scheme, separator, domain = origin.partition("://")
    return (scheme, domain) if separator else (None, origin)


def _check_address(address: str) -> None:
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{_shown(address)} is not an address: 0x and 40 hexadecimal digits")
    try:
        checksummed = checksum_address(address)
    except ValueError:
        checksummed = ""
    if address != checksummed:
        raise ValueError(
            f"the upper and lower case letters of {address} are not those of its EIP-55 checksum"
        )


def _chain_id(text: str) -> int:
    if not _DIGITS.fullmatch(text) or len(text) > _CHAIN_ID_DIGITS:
        raise ValueError(f"the chain id {_shown(text)} is not a decimal number")
    if text != "0" and text.startswith("0"):
        raise ValueError(f"the chain id {text} has leading zeros")
    return int(text)


def _is_port(text: str) -> bool:
    return text == "" or _DIGITS.fullmatch(text) is not None


def _is_ip_literal(text: str) -> bool:
    if _IP_FUTURE.fullmatch(text):
        return True
    if "%" in text or not text.isascii():  # a zone is not part of RFC 3986's grammar
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    """A stranger's text inside an error: short, and on one line."""
    return repr(text if len(text) <= 80 else text[:79] + "…")
