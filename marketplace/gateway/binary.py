"""Values as PostgreSQL receives them in binary: one array for each column of a batch's rows.

Arrays of one dimension whose elements may be null. Every paid call waits for this, and a general
adapter takes many times as long for each value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

# The clock of PostgreSQL's timestamps starts in 2000.
EPOCH_UNIX_US: Final = 946_684_800_000_000
_HEADER: Final = struct.Struct(">iiIii")
_MAY_HOLD_NULLS: Final = 1
_FIRST_INDEX: Final = 1
_BASE: Final = 10_000  # a digit of a numeric
_NULL: Final = (-1).to_bytes(4, "big", signed=True)
_LENGTH_1: Final = (1).to_bytes(4, "big")
_LENGTH_8: Final = (8).to_bytes(4, "big")
_LENGTH_16: Final = (16).to_bytes(4, "big")
_TRUE: Final = _LENGTH_1 + b"\x01"
_FALSE: Final = _LENGTH_1 + b"\x00"
_EMPTY_LIST: Final = (2).to_bytes(4, "big") + b"{}"


def integer(number: int) -> bytes:
    """An ``int4``. Raises OverflowError."""
    return number.to_bytes(4, "big", signed=True)


def bigint(number: int) -> bytes:
    """An ``int8``. Raises OverflowError."""
    return number.to_bytes(8, "big", signed=True)


@lru_cache(maxsize=8192)
def numeric(number: int) -> bytes:
    """A whole ``numeric`` that is not below zero. Raises ValueError, OverflowError."""
    if number < 0:
        raise ValueError(f"{number} is below zero.")
    digits: list[int] = []
    left = number
    while left:
        left, digit = divmod(left, _BASE)
        digits.append(digit)
    if len(digits) > 0x7FFF:
        raise OverflowError(f"A numeric of {len(digits)} digits to the base of {_BASE}.")
    weight = max(0, len(digits) - 1)
    return struct.pack(f">hhHH{len(digits)}h", len(digits), weight, 0, 0, *reversed(digits))


def timestamp(unix_us: int) -> bytes:
    """A ``timestamptz``, of unix microseconds."""
    return bigint(unix_us - EPOCH_UNIX_US)


def unix_us(octets: bytes) -> int:
    """The unix microseconds of a ``timestamptz``."""
    return int.from_bytes(octets, "big", signed=True) + EPOCH_UNIX_US


def uuids(values: Sequence[UUID | None]) -> bytes:
    """A ``uuid[]``."""
    return _array(
        2950,
        [_NULL if each is None else _LENGTH_16 + each.int.to_bytes(16, "big") for each in values],
    )


def texts(values: Sequence[str | None]) -> bytes:
    """A ``text[]`` of values that come again and again. Raises ValueError."""
    return _array(25, list(map(_text, values)))


def rare_texts(values: Sequence[str]) -> bytes:
    """A ``text[]`` of values that hardly ever come twice. Raises ValueError."""
    return _array(25, [_sized(each.encode()) for each in values])


def bigints(values: Sequence[int]) -> bytes:
    """An ``int8[]``. Raises OverflowError."""
    return _array(20, [_LENGTH_8 + each.to_bytes(8, "big", signed=True) for each in values])


def numerics(values: Sequence[int]) -> bytes:
    """A ``numeric[]`` of whole numbers. Raises ValueError, OverflowError."""
    return _array(1700, list(map(_numeric, values)))


def booleans(values: Sequence[bool]) -> bytes:
    """A ``bool[]``."""
    return _array(16, [_TRUE if each else _FALSE for each in values])


def octets(values: Sequence[bytes]) -> bytes:
    """A ``bytea[]``."""
    return _array(17, list(map(_sized, values)))


def uuid_lists(values: Sequence[Iterable[UUID]]) -> bytes:
    """A ``text[]`` of literals of ``uuid[]``: an array of arrays would have to be rectangular."""
    if not any(values):
        return _array(25, [_EMPTY_LIST] * len(values))
    return _array(25, [_text(f"{{{','.join(map(str, each))}}}") for each in values])


def _array(element: int, items: list[bytes]) -> bytes:
    items.insert(0, _HEADER.pack(1, _MAY_HOLD_NULLS, element, len(items), _FIRST_INDEX))
    return b"".join(items)


def _sized(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


@lru_cache(maxsize=8192)
def _text(value: str | None) -> bytes:
    return _NULL if value is None else _sized(value.encode())


@lru_cache(maxsize=8192)
def _numeric(number: int) -> bytes:
    return _sized(numeric(number))
