"""Identifiers that sort by the time they were made (UUIDv7, RFC 9562)."""

import secrets
import time
import uuid
from typing import Final

RANDOM_BYTES: Final = 10


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
    return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(RANDOM_BYTES))
