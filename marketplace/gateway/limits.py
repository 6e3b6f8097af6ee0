"""How many calls a caller may make: token buckets in Redis, exact across processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

WINDOW_SECONDS: Final = 60
log = structlog.get_logger(__name__)

# KEYS[1] bucket; ARGV limit, window seconds. Returns allowed, tokens left, wait in milliseconds.
_TAKE: Final = """
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1]) or limit, tonumber(kept[2]) or now
tokens = math.min(limit, tokens + math.max(0, now - at) * limit / window)
local allowed = 0
if tokens >= 1 then tokens = tokens - 1; allowed = 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], window)
local wait = 0
if tokens < 1 then wait = math.ceil((1 - tokens) * window / limit) end
return {allowed, math.floor(tokens), wait}
"""


@dataclass(frozen=True)
class Allowance:
    """What is left after one call was taken. ``wait_ms``: until another is possible."""

    policy: str
    limit: int
    allowed: bool
    remaining: int
    wait_ms: int

    @property
    def retry_after_seconds(self) -> int:
        return max(1, -(-self.wait_ms // 1000))

    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers)."""
        reset = -(-self.wait_ms // 1000) if self.remaining == 0 else 0
        return {
            "RateLimit": f'"{self.policy}";r={self.remaining};t={reset}',
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w={WINDOW_SECONDS}',
        }


async def take(redis: Redis, *, policy: str, subject: str, limit: int) -> Allowance:
    """Takes one call from the subject's bucket of ``limit`` a minute.

    Where Redis does not answer the call is let through: the limit protects, it does not pay.
    """
    script = redis.register_script(_TAKE)
    try:
        allowed, remaining, wait_ms = await script(
            keys=[f"inframind:limit:{policy}:{subject}"], args=[limit, WINDOW_SECONDS]
        )
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("rate limit not checked", reason=f"{type(error).__name__}: {error}")
        return Allowance(policy, limit, True, limit, 0)
    return Allowance(policy, limit, bool(allowed), int(remaining), int(wait_ms))
