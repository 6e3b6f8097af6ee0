"""A model as the shelves and lists show it: its current version, its badges and three figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from marketplace.catalog.models import Badge, Model, Version
from marketplace.gateway.queries import Figures, figures_for


@dataclass(frozen=True)
class BadgeView:
    """A badge as shown: granted or expired, with the address of its evidence."""

    kind: str
    granted_at: datetime
    url: str
    expired: bool


@dataclass(frozen=True)
class Card:
    """What a card or a row shows. `calls` are per hour, oldest first."""

    name: str
    public: bool
    url: str
    cid: str
    version: str
    task: str
    owner: str
    description: str
    stage: str
    badges: tuple[BadgeView, ...]
    price_base_units: int
    p50_ms: float | None
    success_share: float | None
    calls: tuple[int, ...]
    calls_24h: int
    calls_label: str


_BADGE_ORDER: dict[str, int] = {
    kind: place
    for place, kind in enumerate(
        (
            Badge.Kind.SCHEMA_VALIDATED,
            Badge.Kind.HASH_VERIFIED,
            Badge.Kind.AGENT_COMPATIBLE,
            Badge.Kind.PRIVACY_READY,
        )
    )
}


def badges_of(version: Version, *, now: datetime) -> tuple[BadgeView, ...]:
    """The version's badges, each linked to its evidence; the expired ones are marked."""
    return tuple(
        BadgeView(
            kind=badge.kind,
            granted_at=badge.granted_at,
            url=f"/models/{version.model_id}?tab=evidence&version={version.number}#{badge.kind}",
            expired=badge.expires_at <= now,
        )
        for badge in sorted(version.badges.all(), key=lambda badge: _BADGE_ORDER[badge.kind])
    )


def calls_label(hourly: Sequence[int]) -> str:
    """The text equivalent of a chart of calls per hour."""
    return (
        f"Calls per hour over 24 hours: {sum(hourly)} in all, {max(hourly, default=0)} in the "
        "busiest hour"
    )


def _card(model: Model, version: Version, figures: Figures | None, now: datetime) -> Card:
    hourly: Sequence[int] = figures.hourly if figures is not None else ()
    total = figures.calls_24h if figures is not None else 0
    return Card(
        name=model.name,
        public=model.public,
        url=f"/models/{model.name}",
        cid=version.cid,
        version=version.number,
        task=version.task,
        owner=model.owner_id,
        description=version.description,
        stage=version.state,
        badges=badges_of(version, now=now),
        price_base_units=int(version.fee_base_units),
        p50_ms=figures.p50_ms if figures is not None else None,
        success_share=figures.success_rate if figures is not None else None,
        calls=tuple(hourly) if total else (),
        calls_24h=total,
        calls_label=calls_label(hourly),
    )


def cards_of(models: Iterable[Model]) -> tuple[Card, ...]:
    """Cards in the order given, figures in one query; without a current version, no card."""
    return cards_of_lists([models])[0]


def cards_of_lists(lists: Iterable[Iterable[Model]]) -> tuple[tuple[Card, ...], ...]:
    """Cards for several lists, figures of all of them in one query."""
    listed = [
        [(model, model.current) for model in models if model.current is not None]
        for models in lists
    ]
    figures = figures_for(sorted({model.name for pairs in listed for model, _ in pairs}))
    now = timezone.now()
    return tuple(
        tuple(_card(model, version, figures.get(model.name), now) for model, version in pairs)
        for pairs in listed
    )
