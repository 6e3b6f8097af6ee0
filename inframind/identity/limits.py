"""How often a stranger may ask for something, counted in the cache, exact across processes."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from inframind.lib.problem import Problem

WINDOW_SECONDS: Final = 60
log = structlog.get_logger(__name__)


def take(policy: str, remote_address: str, limit: int) -> None:
    """Counts one of ``limit`` that a line may have within a minute. Raises a 429 ``Problem``.

    Where the cache does not answer nothing is counted: the limit protects, it does not decide.
    """
    key = f"limit:{policy}:{line_of(remote_address)}"
    try:
        cache.add(key, 0, WINDOW_SECONDS)
        taken = cache.incr(key)
    except ValueError:  # the minute ended between the two
        return
    except (RedisError, OSError) as error:
        log.warning("rate limit not checked", reason=f"{type(error).__name__}: {error}")
        return
    if taken > limit:
        raise Problem(
            "too-many-requests",
            f"There were more than {limit} of these in a minute from your address.",
            status=429,
            remedy=f"Wait {WINDOW_SECONDS} seconds, then try again.",
            retry_safe=True,
            retry_after_seconds=WINDOW_SECONDS,
        )


@lru_cache(maxsize=4096)
def line_of(remote_address: str) -> str:
    """Who a stranger is: an IPv4 address, or the /64 that one IPv6 line has."""
    try:
        parsed = ipaddress.ip_address(remote_address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
