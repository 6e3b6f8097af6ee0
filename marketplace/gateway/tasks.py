"""Background work of the gateway."""

from __future__ import annotations

from celery import shared_task

from marketplace.gateway import services


@shared_task(name="gateway.sweep")
def sweep() -> int:
    """Clears idempotency keys whose day is over."""
    return services.sweep()
