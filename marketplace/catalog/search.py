"""Finding models: full text, facets with counts, order and pages, over what the viewer may see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from django.contrib.postgres.search import SearchQuery, SearchRank
from django.db.models import Case, Count, Exists, F, OuterRef, Prefetch, Q, QuerySet, Value, When
from django.db.models.functions import Now

from inframind.identity.caller import Caller
from marketplace.catalog.manifest import TASKS
from marketplace.catalog.models import Badge, Model, Version
from marketplace.catalog.standing import choose_unexpired
from marketplace.catalog.visibility import visible

PAGE_SIZE = 20
MAX_TEXT_CHARACTERS = 200
MAX_FACET_VALUES = 50
PRICES = {"free": "Free", "paid": "Paid per call"}
SORTS = ("relevance", "newest", "name", "price", "calls")


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for; values inside one facet widen, facets narrow each other."""

    text: str = ""
    tasks: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    badges: tuple[str, ...] = ()
    stabilities: tuple[str, ...] = ()
    price: str = ""
    sort: str = "relevance"
    page: int = 1


@dataclass(frozen=True)
class Facet:
    """A value of a facet and how many models it would show."""

    value: str
    label: str
    count: int
    selected: bool


@dataclass(frozen=True)
class SearchPage:
    """One page of models, each with ``current`` and its badges, and the facets beside it."""

    models: list[Model]
    total: int
    page: int
    pages: int
    facets: dict[str, tuple[Facet, ...]] = field(default_factory=dict)


def matching(request: SearchRequest, *, viewer: Caller | None) -> QuerySet[Model]:
    """The models a request finds, unordered."""
    found = _by_text(visible(viewer), request.text)
    for condition in _filters(request).values():
        if condition is not None:
            found = found.filter(condition)
    return found


def search(request: SearchRequest, *, viewer: Caller | None) -> SearchPage:
    """One page of what is found; a page beyond the last is the last one."""
    choose_unexpired()
    found = matching(request, viewer=viewer)
    total = found.count()
    pages = max(1, math.ceil(total / PAGE_SIZE))
    page = min(max(1, request.page), pages)
    ordered = _ordered(found, request)
    start = (page - 1) * PAGE_SIZE
    models = list(with_current(ordered)[start : start + PAGE_SIZE])
    return SearchPage(models, total, page, pages, _facets(request, viewer))


def with_current(models: QuerySet[Model]) -> QuerySet[Model]:
    """Adds what a card shows, in three queries however many models there are."""
    badges = Badge.objects.select_related("evidence")
    return (
        models.select_related("current", "owner")
        .defer("search", "current__manifest", "current__readme", "current__files")
        .prefetch_related(Prefetch("current__badges", badges))
    )


def _by_text(models: QuerySet[Model], text: str) -> QuerySet[Model]:
    text = text.replace("\0", "").strip()[:MAX_TEXT_CHARACTERS]
    if not text:
        return models
    query = _query(text)
    return models.filter(Q(search=query) | Q(name__icontains=text))


def _query(text: str) -> SearchQuery:
    return SearchQuery(text, search_type="websearch", config="english")


def _filters(request: SearchRequest) -> dict[str, Q | None]:
    badge = Badge.objects.filter(
        version=OuterRef("current"), kind__in=request.badges, expires_at__gt=Now()
    )
    price = {"free": Q(current__fee_base_units=0), "paid": Q(current__fee_base_units__gt=0)}
    return {
        "task": Q(current__task__in=request.tasks) if request.tasks else None,
        "runtime": Q(current__runtime__in=request.runtimes) if request.runtimes else None,
        "license": Q(current__license__in=request.licenses) if request.licenses else None,
        "badge": Q(Exists(badge)) if request.badges else None,
        "stability": Q(current__stability__in=request.stabilities) if request.stabilities else None,
        "price": price.get(request.price),
    }


def _ordered(models: QuerySet[Model], request: SearchRequest) -> QuerySet[Model]:
    if request.sort == "newest":
        return models.order_by("-current__activated_at", "name")
    if request.sort == "name":
        return models.order_by("name")
    if request.sort == "price":
        return models.order_by("current__fee_base_units", "name")
    text = request.text.replace("\0", "").strip()[:MAX_TEXT_CHARACTERS]
    if request.sort == "relevance" and text:
        named = Case(
            When(name=text.lower(), then=Value(2)),
            When(name__icontains=text, then=Value(1)),
            default=Value(0),
        )
        return models.annotate(named=named, rank=SearchRank(F("search"), _query(text))).order_by(
            "-named", "-rank", "-calls_30d", "name"
        )
    return models.order_by("-calls_30d", "-current__activated_at", "name")


def _facets(request: SearchRequest, viewer: Caller | None) -> dict[str, tuple[Facet, ...]]:
    filters = _filters(request)
    columns: tuple[tuple[str, str, tuple[str, ...], Callable[[str], str]], ...] = (
        ("task", "current__task", request.tasks, _task_label),
        ("runtime", "current__runtime", request.runtimes, _runtime_label),
        ("license", "current__license", request.licenses, str),
        ("badge", "current__badges__kind", request.badges, _badge_label),
        ("stability", "current__stability", request.stabilities, _stability_label),
    )
    base = _by_text(visible(viewer), request.text)
    facets: dict[str, tuple[Facet, ...]] = {}
    for key, column, selected, label in columns:
        models = _others(base, filters, key)
        if key == "badge":
            models = models.filter(current__badges__expires_at__gt=Now())
        counts = dict(
            models.order_by()
            .values_list(column)
            .annotate(count=Count("name", distinct=True))
            .order_by("-count", column)[:MAX_FACET_VALUES]
        )
        counts |= {value: 0 for value in selected if value not in counts}
        facets[key] = tuple(
            Facet(value, label(value), count, value in selected) for value, count in counts.items()
        )
    facets["price"] = _price_facet(_others(base, filters, "price"), request.price)
    return facets


def _others(models: QuerySet[Model], filters: dict[str, Q | None], key: str) -> QuerySet[Model]:
    """Narrowed by every facet but this one, so that its counts say what choosing would show."""
    for other, condition in filters.items():
        if other != key and condition is not None:
            models = models.filter(condition)
    return models


def _price_facet(models: QuerySet[Model], selected: str) -> tuple[Facet, ...]:
    counts = models.aggregate(
        free=Count("name", filter=Q(current__fee_base_units=0)),
        paid=Count("name", filter=Q(current__fee_base_units__gt=0)),
    )
    return tuple(
        Facet(value, label, counts[value], value == selected)
        for value, label in PRICES.items()
        if counts[value] or value == selected
    )


def _task_label(value: str) -> str:
    return TASKS.get(value, value.replace("-", " ").capitalize())


def _runtime_label(value: str) -> str:
    return dict(Version.Runtime.choices).get(value, value)


def _stability_label(value: str) -> str:
    return dict(Version.Stability.choices).get(value, value)


def _badge_label(value: str) -> str:
    return dict(Badge.Kind.choices).get(value, value)
