"""Background work of the gateway."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings
from redis import Redis

from marketplace.gateway import ratings, services

_RATE_LEASE_SECONDS = 60.0


@shared_task(name="gateway.sweep")
def sweep() -> int:
    """Clears idempotency keys whose day is over."""
    return services.sweep()


@shared_task(name="gateway.rate_nodes", expires=10)
def rate_nodes() -> None:
    """Rates nodes by their calls, and has copies of models follow what is asked of them."""
    with Redis.from_url(settings.REDIS_URL) as redis:
        lock = redis.lock("inframind:gateway:rate", timeout=_RATE_LEASE_SECONDS, blocking=False)
        if not lock.acquire():
            return
        try:
            ratings.rate_nodes()
        finally:
            # Taken over by another worker if this one was slower than its lease.
            if lock.owned():
                lock.release()
