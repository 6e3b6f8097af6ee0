"""Hourly limits that hold exactly, however many requests of a wallet come at once."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from django.db import connection, transaction
from django.db.models.functions import Now

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog.models import Attempt

_WINDOW: Final = timedelta(hours=1)
_SECONDS_LEFT: Final = """
    SELECT extract(epoch FROM min(created_at) + interval '1 hour' - statement_timestamp())
    FROM (SELECT created_at FROM catalog_attempt WHERE wallet_id = %s AND kind = %s
          ORDER BY created_at DESC LIMIT %s) AS counted
"""


def require_room(*, wallet: Wallet, kind: Attempt.Kind, limit: int, doing: str) -> None:
    """Holds the wallet's turn until the transaction ends; raises a 429 ``Problem`` at the limit.

    ``doing`` is what the limit is on, as in "asks for access".
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("The turn lasts as long as a transaction.")
    Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
    counted = Attempt.objects.filter(wallet=wallet, kind=kind)
    counted.filter(created_at__lte=Now() - _WINDOW).delete()
    if counted.count() < limit:
        return
    with connection.cursor() as cursor:
        cursor.execute(_SECONDS_LEFT, [wallet.pk, kind.value, limit])
        seconds = cursor.fetchone()[0]
    raise Problem(
        "too-many-requests",
        f"A wallet {doing} at most {limit} times an hour.",
        status=429,
        remedy="Try again as Retry-After says.",
        retry_safe=True,
        retry_after_seconds=max(1, math.ceil(seconds)),
    )


def note(*, wallet: Wallet, kind: Attempt.Kind) -> None:
    """Counts one; call it in the transaction that ``require_room`` was called in."""
    Attempt.objects.create(wallet=wallet, kind=kind)
