"""Reads: shelves as last computed, and the figures their rules are fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.db.models import Count, F, Prefetch, Q, Window
from django.db.models.functions import Now, RowNumber

from curation.lists.models import ShelfEntry, ShelfRun
from curation.lists.shelves import BY_SLUG, RULES, SHELF_LENGTH, Candidate, Rule
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
    entries: Sequence[ShelfEntry]  # .model has its current version and badges at hand
    total: int


def featured(*, entries_per_shelf: int = 4) -> list[Shelf]:
    """The five shelves of ``/models/featured``, in a number of queries that does not grow."""
    return _shelves(RULES, entries_per_shelf)


def shelf(slug: str) -> Shelf:
    """One shelf, whole. Raises a 404 ``Problem``."""
    rule = BY_SLUG.get(slug)
    if rule is None:
        raise not_found(f"collection called {slug}", remedy=f"Choose from: {', '.join(BY_SLUG)}.")
    return _shelves((rule,), SHELF_LENGTH)[0]


def _shelves(rules: Sequence[Rule], length: int) -> list[Shelf]:
    slugs = [rule.slug for rule in rules]
    computed = dict(ShelfRun.objects.filter(pk__in=slugs).values_list("shelf", "computed_at"))
    # A model that went private or was delisted since the last count leaves at once.
    standing = ShelfEntry.objects.filter(shelf__in=slugs, model__in=visible(None))
    totals = dict(standing.order_by().values_list("shelf").annotate(Count("id")))
    entries = (
        standing.annotate(place=Window(RowNumber(), partition_by=F("shelf"), order_by="position"))
        .filter(place__lte=length)
        .select_related("model__current", "model__owner")
        .defer("model__current__manifest", "model__current__readme", "model__current__files")
        .prefetch_related(
            Prefetch("model__current__badges", Badge.objects.select_related("evidence"))
        )
        .order_by("shelf", "position")
    )
    by_shelf = {
        slug: list(group) for slug, group in groupby(entries, key=lambda entry: entry.shelf)
    }
    for shown in by_shelf.values():
        for place, entry in enumerate(shown, start=1):
            # A gap would tell that somebody turned private since the last count.
            entry.position = place
    return [
        Shelf(
            slug=rule.slug,
            title=rule.title,
            rule=rule.sentence,
            empty=rule.empty,
            computed_at=computed.get(rule.slug),
            entries=by_shelf.get(rule.slug, []),
            total=totals.get(rule.slug, 0),
        )
        for rule in rules
    ]


def candidates() -> list[Candidate]:
    """Every public, listed model with the figures of the last 30 days, by the database's clock.

    Calls of those who are paid for them, or who vote with them, are left out: nobody ranks
    themselves.
    """
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
        Call.objects.filter(version__model__in=listed, created_at__gt=Now() - WINDOW, linked=False)
        .values("version__model_id")
        .annotate(
            calls=Count("id", filter=counted),
            served=Count("id", filter=Q(outcome=Call.Outcome.SERVED)),
            mismatched=Count("id", filter=Q(outcome=Call.Outcome.INVALID_OUTPUT)),
            p50_us=median_latency_us(),
        )
    )
    figures: dict[str, dict[str, Any]] = {row["version__model_id"]: {**row} for row in rows}
    found = []
    for model in listed:
        version = model.current
        if version is None or version.activated_at is None:
            continue
        row = figures.get(model.name, {})
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
