"""Background work of the ledger."""

from __future__ import annotations

from celery import shared_task

from billing.ledger import holds, leases

# The beat comes again, so a message that waited this long has a younger twin.
_MESSAGE_EXPIRES_SECONDS = 30


@shared_task(name="ledger.sweep", expires=_MESSAGE_EXPIRES_SECONDS)
def sweep() -> None:
    """Brings back expired leases, and what remains of expired holds."""
    leases.sweep()
    holds.expire_due()
