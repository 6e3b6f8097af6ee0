"""Background work of payouts. Rows drive it: a lost message costs one round, two of one nothing."""

from __future__ import annotations

import structlog
from celery import shared_task

from billing.payouts import onchain, reconciliation, services

log = structlog.get_logger(__name__)


@shared_task(name="payouts.follow", expires=10)
def follow() -> None:
    """Books what the chain has confirmed."""
    if onchain.configured():
        services.follow()


@shared_task(name="payouts.send", expires=10)
def send() -> None:
    """Queues the roots of sealed epochs, and looks after our transactions."""
    services.publish_due()
    services.send_due()


@shared_task(name="payouts.reconcile")
def reconcile() -> None:
    """Compares books, receipts and chain; an error in the log for every row that differs."""
    for each in reconciliation.differences():
        log.error("books differ", row=each.row, what=each.what, difference=str(each))
