"""The text form of a bearer token: recognisable, typo-proof, selected with a double click.

``infra_`` + base-62 digits of the payload + 6 base-62 digits of their CRC-32. The checksum lets a
secret scanner and this module tell a real token from noise without a look-up.

The payload is 16 bytes of token id, up to five caveats (two bytes of length and its canonical JSON
each), and 24 bytes of MAC. The MAC of a narrowed token is the HMAC of its caveat under the MAC
before it, as in a macaroon: whoever holds a token can make a narrower one without any server, and
nobody can take a caveat off again.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from inframind.lib.scopes import Caveat

PREFIX: Final = "infra_"
LENGTH: Final = 66  # characters of a token that was not narrowed
MAX_CHARACTERS: Final = 4096
MAX_DEPTH: Final = 5
MAC_BYTES: Final = 24

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE: Final = {digit: value for value, digit in enumerate(_ALPHABET)}
_BITS_PER_DIGIT: Final = math.log2(62)
_ID_BYTES: Final = 16
_LENGTH_BYTES: Final = 2
_CHECK_DIGITS: Final = 6


@dataclass(frozen=True)
class BearerText:
    """A token taken apart. ``caveats`` are as signed, first the oldest; ``mac`` has 24 bytes."""

    token_id: UUID
    mac: bytes
    caveats: tuple[bytes, ...] = ()


def encode(token_id: UUID, mac: bytes, caveats: Sequence[bytes] = ()) -> str:
    """The token as its holder sees it. Raises ``ValueError`` for what no token can hold."""
    if len(mac) != MAC_BYTES:
        raise ValueError(f"a MAC has {MAC_BYTES} bytes, not {len(mac)}")
    if len(caveats) > MAX_DEPTH:
        raise ValueError(f"a token can be narrowed {MAX_DEPTH} times, and this one was")
    parts = [token_id.bytes]
    for caveat in caveats:
        if not 0 < len(caveat) < 1 << 8 * _LENGTH_BYTES:
            raise ValueError("a caveat is empty or too long")
        parts += [len(caveat).to_bytes(_LENGTH_BYTES), caveat]
    payload = b"".join([*parts, mac])
    digits = _digits_for(len(payload))
    if len(PREFIX) + digits + _CHECK_DIGITS > MAX_CHARACTERS:
        raise ValueError(f"the token would be longer than {MAX_CHARACTERS} characters")
    body = _digits(int.from_bytes(payload), digits)
    return PREFIX + body + _digits(zlib.crc32(body.encode()), _CHECK_DIGITS)


def decode(text: str) -> BearerText:
    """Raises ``ValueError`` on anything that ``encode`` did not write. A MAC is not checked here,
    and neither is what the caveats say."""
    if not LENGTH <= len(text) <= MAX_CHARACTERS or not text.startswith(PREFIX):
        raise ValueError("not an InfraMind token")
    body, check = text[len(PREFIX) : -_CHECK_DIGITS], text[-_CHECK_DIGITS:]
    if not (text.isascii() and body.isalnum() and check.isalnum()):
        raise ValueError("a token has letters and digits only")
    if _digits(zlib.crc32(body.encode()), _CHECK_DIGITS) != check:
        raise ValueError("the token's checksum is wrong: it was cut or mistyped")
    # Every further byte takes at least one digit more: a number of digits belongs to one length.
    size = int(len(body) * _BITS_PER_DIGIT / 8)
    if _digits_for(size) != len(body):
        raise ValueError("not an InfraMind token")
    try:
        payload = _number(body).to_bytes(size)
    except OverflowError:
        raise ValueError("not an InfraMind token") from None
    caveats = tuple(_caveats(payload[_ID_BYTES:-MAC_BYTES]))
    if len(caveats) > MAX_DEPTH:
        raise ValueError(f"the token is narrowed more than {MAX_DEPTH} times")
    return BearerText(UUID(bytes=payload[:_ID_BYTES]), payload[-MAC_BYTES:], caveats)


def narrow(text: str, caveat: Caveat) -> str:
    """A token that allows what ``text`` allows and the caveat does, made without any server.

    Raises ``ValueError`` for a text that is no token, one narrowed five times, and one that would
    become too long.
    """
    held = decode(text)
    signed = caveat.as_bytes()
    return encode(held.token_id, _next(held.mac, signed), (*held.caveats, signed))


def root_mac(root_key: bytes, token_id: UUID) -> bytes:
    """The MAC of a token that was not narrowed, 24 bytes."""
    return _next(root_key, token_id.bytes)


def chain(mac: bytes, caveats: Sequence[bytes]) -> tuple[bytes, ...]:
    """The MACs after each caveat, from the root's on."""
    found = []
    for caveat in caveats:
        mac = _next(mac, caveat)
        found.append(mac)
    return tuple(found)


def narrowing_id(mac: bytes) -> UUID:
    """The id by which a narrowing with this MAC is known, revoked and counted."""
    digest = hashlib.sha256(b"inframind narrowing" + mac).digest()
    return UUID(bytes=digest[:_ID_BYTES])


def _next(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")[:MAC_BYTES]


def _caveats(octets: bytes) -> Iterator[bytes]:
    while octets:
        size = int.from_bytes(octets[:_LENGTH_BYTES])
        end = _LENGTH_BYTES + size
        if not size or len(octets) < end:
            raise ValueError("not an InfraMind token")
        yield octets[_LENGTH_BYTES:end]
        octets = octets[end:]


def _digits_for(size_bytes: int) -> int:
    return math.ceil(size_bytes * 8 / _BITS_PER_DIGIT)


def _digits(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 62 + _VALUE[digit]
    return number
