"""The text form of a bearer token: recognisable, typo-proof, selected with a double click.

``infra_`` + 54 base-62 digits (16 bytes of token id, 24 bytes of MAC) + 6 base-62 digits of CRC-32.
The checksum lets a secret scanner and this module tell a real token from noise without a look-up.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from uuid import UUID

PREFIX = "infra_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE = {digit: value for value, digit in enumerate(_ALPHABET)}
_ID_BYTES = 16
_MAC_BYTES = 24
_BODY_DIGITS = 54
_CHECK_DIGITS = 6
LENGTH = len(PREFIX) + _BODY_DIGITS + _CHECK_DIGITS


@dataclass(frozen=True)
class BearerText:
    token_id: UUID
    mac: bytes  # 24 bytes


def encode(token_id: UUID, mac: bytes) -> str:
    """The token as its holder sees it, once."""
    if len(mac) != _MAC_BYTES:
        raise ValueError(f"a MAC has {_MAC_BYTES} bytes, not {len(mac)}")
    payload = token_id.bytes + mac
    body = _digits(int.from_bytes(payload), _BODY_DIGITS)
    return PREFIX + body + _digits(zlib.crc32(body.encode()), _CHECK_DIGITS)


def decode(text: str) -> BearerText:
    """Raises ``ValueError`` on anything that ``encode`` did not write."""
    if len(text) != LENGTH or not text.startswith(PREFIX):
        raise ValueError("not an InfraMind token")
    body, check = text[len(PREFIX) : -_CHECK_DIGITS], text[-_CHECK_DIGITS:]
    if not all(digit in _VALUE for digit in body + check):
        raise ValueError("a token has letters and digits only")
    if _digits(zlib.crc32(body.encode()), _CHECK_DIGITS) != check:
        raise ValueError("the token's checksum is wrong: it was cut or mistyped")
    try:
        payload = _number(body).to_bytes(_ID_BYTES + _MAC_BYTES)
    except OverflowError:
        raise ValueError("not an InfraMind token") from None
    return BearerText(UUID(bytes=payload[:_ID_BYTES]), payload[_ID_BYTES:])


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
