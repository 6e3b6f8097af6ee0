"""Background work of the gateway."""

from __future__ import annotations

from celery import shared_task

from marketplace.gateway import ratings, services
from marketplace.mesh.rounds import alone

_RATE_LEASE_SECONDS = 60.0


@shared_task(name="gateway.sweep")
def sweep() -> int:
    """Clears idempotency keys whose day is over."""
    return services.sweep()


@shared_task(name="gateway.rate_nodes", expires=10)
def rate_nodes() -> None:
    """Rates nodes by their calls, and has copies of models follow what is asked of them."""
    alone("gateway:rate", ratings.rate_nodes, lease_seconds=_RATE_LEASE_SECONDS)
