"""Rounds of background work that no two workers do at once."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from redis import Redis


def alone(name: str, work: Callable[[], object], *, lease_seconds: float) -> bool:
    """Does the work unless another worker is at it; whether it did. The other one's hold ends by
    itself after ``lease_seconds``, should it die."""
    with Redis.from_url(settings.REDIS_URL) as redis:
        lock = redis.lock(f"inframind:{name}", timeout=lease_seconds, blocking=False)
        if not lock.acquire():
            return False
        try:
            work()
        finally:
            # Taken over by another worker if this one was slower than its lease.
            if lock.owned():
                lock.release()
    return True
