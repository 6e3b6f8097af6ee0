"""Background work of epochs. Rows drive it: a lost message costs one round, two of one nothing."""

from __future__ import annotations

from celery import shared_task

from billing.epochs import services


@shared_task(name="epochs.close_due")
def close_due() -> None:
    """Closes the open epoch when it is due, and goes on with what is closing."""
    services.close_due()


@shared_task(name="epochs.retire")
def retire() -> None:
    """Lets the receipts of old epochs leave the database."""
    services.retire_due()
