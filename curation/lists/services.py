"""Writes: recomputing the shelves."""

from __future__ import annotations

from django.db import connection, transaction

from curation.lists.models import ShelfEntry, ShelfRun
from curation.lists.queries import candidates
from curation.lists.shelves import RULES, rank
from marketplace.catalog.services import set_calls_30d

_REFRESH_LOCK = 0x5E1F  # names this work among PostgreSQL's advisory locks


@transaction.atomic
def refresh() -> dict[str, int]:
    """Rank every shelf anew, one refresh at a time. Returns the number of entries per shelf."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s), now()", [_REFRESH_LOCK])
        _, now = cursor.fetchone()
    found = candidates()
    ShelfEntry.objects.all().delete()
    counts: dict[str, int] = {}
    for rule in RULES:
        placed = rank(rule, found)
        ShelfEntry.objects.bulk_create(
            ShelfEntry(
                shelf=rule.slug,
                position=position,
                model_id=each.name,
                score=each.score,
                figures=each.figures,
                computed_at=now,
            )
            for position, each in enumerate(placed, start=1)
        )
        ShelfRun.objects.update_or_create(shelf=rule.slug, defaults={"computed_at": now})
        counts[rule.slug] = len(placed)
    set_calls_30d({candidate.name: candidate.served for candidate in found})
    return counts
