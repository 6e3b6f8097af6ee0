"""Background work of identity."""

from __future__ import annotations

from celery import shared_task

from inframind.identity.services import sweep_narrowings
from inframind.identity.sessions import SessionStore
from inframind.identity.signin import sweep_nonces


@shared_task(name="identity.sweep", expires=3_600)
def sweep() -> None:
    """Deletes nonces, sessions and narrowed tokens that have expired."""
    sweep_nonces()
    SessionStore.clear_expired()
    sweep_narrowings()
