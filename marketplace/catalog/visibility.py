"""Who may see which model: the one place that knows, so that lists, counts and errors agree."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from marketplace.catalog import lifecycle
from marketplace.catalog.models import Model


def may_see(viewer: str | None, prefix: str = "") -> Q:
    """A filter for models (or, with ``prefix``, for what points to one) that the viewer may see."""
    allowed = Q(**{f"{prefix}public": True})
    if viewer is not None:
        allowed |= Q(**{f"{prefix}owner": viewer})
        allowed |= Q(**{f"{prefix}allow_list__contains": [viewer]})
    return allowed


def visible(viewer: str | None) -> QuerySet[Model]:
    """Models that stand in the viewer's lists: seen by them, callable, not expired by the
    database's clock."""
    return Model.objects.filter(
        may_see(viewer), current__state__in=sorted(lifecycle.CALLABLE)
    ).exclude(current__expires_at__lte=Now())
