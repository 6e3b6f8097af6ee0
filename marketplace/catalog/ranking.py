"""Which version stands for its model, decided in one query and by the database's clock."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Case, Q, QuerySet, Value, When
from django.db.models.functions import Now

from marketplace.catalog import lifecycle
from marketplace.catalog.models import Version

_Versions = TypeVar("_Versions", bound=QuerySet[Version])

_CALLABLE = Q(state__in=sorted(lifecycle.CALLABLE))
_LIVE = Q(state__in=sorted(lifecycle.LIVE))
_RELEASE = Q(precedence__endswith=lifecycle.RELEASE_MARK)


def unexpired() -> Q:
    """A filter for versions whose time is not over."""
    return Q(expires_at__isnull=True) | Q(expires_at__gt=Now())


def callable_now() -> Q:
    """A filter for versions that a call may reach."""
    return _CALLABLE & unexpired()


def best_first(versions: _Versions) -> _Versions:
    """Sorts versions of one model so that the one that stands for it is the first.

    Those that can be called come before expired ones, and these before the rest; among equals a
    live release, a live pre-release, a deprecated release, a deprecated pre-release; then the
    highest number.
    """
    return versions.order_by(
        Case(When(callable_now(), then=Value(0)), When(_CALLABLE, then=Value(1)), default=Value(2)),
        Case(
            When(_LIVE & _RELEASE, then=Value(0)),
            When(_LIVE, then=Value(1)),
            When(_CALLABLE & _RELEASE, then=Value(2)),
            default=Value(3),
        ),
        "-precedence",
    )
