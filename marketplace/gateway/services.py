"""Writes of the gateway beside calls themselves."""

from __future__ import annotations

from django.db.models.functions import Now

from marketplace.gateway.models import KeyedCall


def sweep() -> int:
    """Deletes idempotency keys whose time is over, answers and all; how many."""
    deleted, _ = KeyedCall.objects.filter(expires_at__lte=Now()).delete()
    return deleted
