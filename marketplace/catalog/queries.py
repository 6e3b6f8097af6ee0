"""Reads of the catalog. To those who may not see it, a private model does not exist."""

from __future__ import annotations

from django.db.models import Prefetch, Q, Value

from inframind.identity.caller import Caller
from inframind.lib.problem import Problem, Violation
from marketplace.catalog.models import Badge, Model, Verification, Version
from marketplace.catalog.ranking import best_first
from marketplace.catalog.search import Facet, SearchPage, SearchRequest, search
from marketplace.catalog.serving import (
    Servable,
    normal_number,
    not_on_the_list,
    servable,
    servable_on,
    unknown,
    well_formed,
)
from marketplace.catalog.visibility import may_see, names_successor, on_list, visible

__all__ = [
    "Facet",
    "SearchPage",
    "SearchRequest",
    "Servable",
    "find_successor",
    "get_model",
    "get_version",
    "latest_verification",
    "not_on_the_list",
    "search",
    "servable",
    "servable_on",
    "verifications_of",
    "versions_of",
    "visible",
]


_LONG = ("manifest", "readme", "files")


def get_model(name: str, *, viewer: Caller | None) -> Model:
    """A model that the viewer may see, with its current version. Raises a 404 ``Problem``."""
    if not well_formed(name):
        raise unknown(name)
    # The list is looked into first and always, so that an unknown name costs as much time.
    listed = viewer is not None and on_list(viewer.address, name)
    model = (
        Model.objects.filter(may_see(viewer, listed=Q(Value(listed))), pk=name)
        .select_related("current", "owner")
        .prefetch_related("current__badges__evidence")
        .first()
    )
    if model is None or (model.current_id is None and not _owns(viewer, model)):
        raise unknown(name)
    return model


def get_version(name: str, number: str | None, *, viewer: Caller | None) -> Version:
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
    if version is None or (hidden and not _owns(viewer, model)):
        raise unknown(name, number)
    if version.successor_id and not _successor_told(version, viewer):
        version.successor = None
    return version


def find_successor(model: Model, text: str, viewer: Caller | None) -> Version | None:
    """The version that ``1.2.0`` of the model or ``name@1.2.0`` names; None for no text.

    Raises a 422 ``Problem`` for what the viewer does not see.
    """
    text = text.strip()
    if not text:
        return None
    name, at, number = text.partition("@")
    try:
        return get_version(name if at else model.pk, number if at else text, viewer=viewer)
    except Problem:
        detail = f"You see no version {text[:80]}."
        raise Problem(
            "invalid-request", detail, status=422, violations=(Violation("/successor", detail),)
        ) from None


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


def _successor_told(version: Version, viewer: Caller | None) -> bool:
    """Whether the successor may be named: its model can have become private since."""
    return Version.objects.filter(names_successor(viewer), pk=version.pk).exists()


def _owns(viewer: Caller | None, model: Model) -> bool:
    return viewer is not None and viewer.owns(model.owner_id, model.pk)
