"""Identifiers that sort by the time they were made (UUIDv7, RFC 9562)."""

import os
import time
import uuid
from typing import Final

RANDOM_BYTES: Final = 10
_FIXED: Final = 0x7 << 76 | 0b10 << 62
_RANDOM: Final = 0xFFF << 64 | (1 << 62) - 1
_bare: Final = object.__new__
_set: Final = object.__setattr__


def uuid7(now_ms: int, random: bytes) -> uuid.UUID:
    """Builds a UUIDv7 from unix milliseconds (below 2**48) and 10 random bytes.

    Raises ValueError when either is outside its range.
    """
    if not 0 <= now_ms < 1 << 48:
        raise ValueError(f"{now_ms} is not a time in unix milliseconds below 2**48.")
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"A UUIDv7 takes {RANDOM_BYTES} random bytes, not {len(random)}.")
    bits = int.from_bytes(random, "big")
    value = now_ms << 80 | 0x7 << 76 | (bits >> 62 & 0xFFF) << 64 | 0b10 << 62
    return uuid.UUID(int=value | bits & (1 << 62) - 1)


def new_uuid7() -> uuid.UUID:
    """Returns a UUIDv7 of this moment with bits from the system's secure source."""
    bits = int.from_bytes(os.urandom(RANDOM_BYTES), "big")
    made = _bare(uuid.UUID)
    # Every call makes one, and the constructor checks what cannot be wrong here.
    _set(made, "int", time.time_ns() // 1_000_000 << 80 | _FIXED | bits & _RANDOM)
    _set(made, "is_safe", uuid.SafeUUID.unknown)
    return made
