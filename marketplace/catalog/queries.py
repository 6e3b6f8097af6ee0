"""Reads of the catalog. To those who may not see it, a private model does not exist."""

from __future__ import annotations

from django.db.models import Prefetch

from marketplace.catalog.models import Badge, Model, Verification, Version
from marketplace.catalog.ranking import best_first
from marketplace.catalog.search import Facet, SearchPage, SearchRequest, search
from marketplace.catalog.serving import (
    Servable,
    normal_number,
    servable,
    servable_on,
    unknown,
)
from marketplace.catalog.visibility import may_see, visible

__all__ = [
    "Facet",
    "SearchPage",
    "SearchRequest",
    "Servable",
    "get_model",
    "get_version",
    "latest_verification",
    "search",
    "servable",
    "servable_on",
    "verifications_of",
    "versions_of",
    "visible",
]


_LONG = ("manifest", "readme", "files")


def get_model(name: str, *, viewer: str | None) -> Model:
    """A model that the viewer may see, with its current version. Raises a 404 ``Problem``."""
    model = (
        Model.objects.filter(may_see(viewer), pk=name)
        .select_related("current", "owner")
        .prefetch_related("current__badges__evidence")
        .first()
    )
    if model is None or (model.current_id is None and model.owner_id != viewer):
        raise unknown(name)
    return model


def get_version(name: str, number: str | None, *, viewer: str | None) -> Version:
    """A version by number, or the current one. Raises a 404 ``Problem``.

    A version that is not yet active is seen by its model's owner only.
    """
    model = get_model(name, viewer=viewer)
    versions = (
        Version.objects.filter(model=model)
        .select_related("model", "model__owner", "successor")
        .defer("model__search", *(f"successor__{column}" for column in _LONG))
        .prefetch_related(
            Prefetch("badges", Badge.objects.select_related("evidence__verification"))
        )
    )
    if number is None:
        version = best_first(versions).first()
    else:
        version = versions.filter(number=normal_number(name, number)).first()
    hidden = version is not None and version.state == Version.State.PENDING
    if version is None or (hidden and model.owner_id != viewer):
        raise unknown(name, number)
    return version


def versions_of(model: Model) -> list[Version]:
    """Every version, the highest first, with badges."""
    return list(
        Version.objects.filter(model=model)
        .select_related("successor")
        .defer(*_LONG, *(f"successor__{column}" for column in _LONG))
        .prefetch_related("badges__evidence")
        .order_by("-precedence", "-created_at")
    )


def verifications_of(version: Version) -> list[Verification]:
    """Every run, the newest first, with its checks."""
    return list(Verification.objects.filter(version=version).prefetch_related("checks"))


def latest_verification(version: Version) -> Verification | None:
    """The newest run with its checks."""
    runs = Verification.objects.filter(version=version).prefetch_related("checks")
    return runs.order_by("-created_at").first()
