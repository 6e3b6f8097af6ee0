"""Reads: shelves as last computed, and the figures their rules are fed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Prefetch, Q
from django.db.models.functions import Now

from curation.lists.models import ShelfEntry, ShelfRun
from curation.lists.shelves import BY_SLUG, RULES, Candidate, Rule
from inframind.lib.problem import not_found
from marketplace.catalog.models import Badge
from marketplace.catalog.queries import visible
from marketplace.gateway.models import Call
from marketplace.gateway.queries import median_latency_us
from marketplace.mesh.models import Pin

WINDOW = timedelta(days=30)


@dataclass(frozen=True)
class Shelf:
    slug: str
    title: str
    rule: str
    empty: str
    computed_at: datetime | None
    entries: list[ShelfEntry]  # .model has its current version and badges at hand
    total: int


def featured(*, entries_per_shelf: int = 4) -> list[Shelf]:
    """The five shelves of ``/models/featured``."""
    return [_shelf(rule, entries_per_shelf) for rule in RULES]


def shelf(slug: str) -> Shelf:
    """One shelf, whole. Raises a 404 ``Problem``."""
    rule = BY_SLUG.get(slug)
    if rule is None:
        raise not_found(f"collection called {slug}", remedy=f"Choose from: {', '.join(BY_SLUG)}.")
    return _shelf(rule, None)


def _shelf(rule: Rule, limit: int | None) -> Shelf:
    run = ShelfRun.objects.filter(pk=rule.slug).first()
    # A model that went private or was delisted since the last count leaves at once.
    entries = (
        ShelfEntry.objects.filter(shelf=rule.slug, model__in=visible(None))
        .select_related("model__current", "model__owner")
        .prefetch_related(
            Prefetch("model__current__badges", Badge.objects.select_related("evidence"))
        )
        .order_by("position")
    )
    return Shelf(
        slug=rule.slug,
        title=rule.title,
        rule=rule.sentence,
        empty=rule.empty,
        computed_at=run.computed_at if run else None,
        entries=list(entries[:limit]),
        total=entries.count(),
    )


def candidates() -> list[Candidate]:
    """Every public, listed model with the figures of the last 30 days, by the database's clock."""
    listed = list(
        visible(None)
        .select_related("current")
        .prefetch_related(
            Prefetch("current__badges", Badge.objects.filter(expires_at__gt=Now())),
            Prefetch(
                "pins",
                Pin.objects.filter(
                    Q(ends_at__isnull=True) | Q(ends_at__gt=Now()), source=Pin.Source.DAO
                ),
            ),
        )
    )
    counted = Q(outcome__in=Call.COUNTED)
    rows = (
        Call.objects.filter(version__model__in=listed, created_at__gt=Now() - WINDOW)
        .values("version__model_id")
        .annotate(
            calls=Count("id", filter=counted),
            served=Count("id", filter=Q(outcome=Call.Outcome.SERVED)),
            mismatched=Count("id", filter=Q(outcome=Call.Outcome.INVALID_OUTPUT)),
            p50_us=median_latency_us(),
        )
    )
    figures = {row["version__model_id"]: row for row in rows}
    found = []
    for model in listed:
        version = model.current
        if version is None or version.activated_at is None:
            continue
        row: dict[str, Any] = figures.get(model.name, {})
        pinned = [pin.created_at for pin in model.pins.all()]
        p50_us = row.get("p50_us")
        found.append(
            Candidate(
                name=model.name,
                activated_at=version.activated_at,
                stability=version.stability,
                badges=frozenset(badge.kind for badge in version.badges.all()),
                dao_pinned_at=max(pinned) if pinned else None,
                calls=row.get("calls", 0),
                served=row.get("served", 0),
                mismatched=row.get("mismatched", 0),
                p50_us=round(p50_us) if p50_us is not None else None,
            )
        )
    return found
