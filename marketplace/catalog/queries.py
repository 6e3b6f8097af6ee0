"""Reads of the catalog. To those who may not see it, a private model does not exist."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import Case, Prefetch, When

from inframind.lib import semver
from inframind.lib.problem import Problem, not_found
from marketplace.catalog.models import Badge, Model, Verification, Version
from marketplace.catalog.ranking import best_first, unexpired
from marketplace.catalog.search import Facet, SearchPage, SearchRequest, search
from marketplace.catalog.tensorspec import Tensors
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
    "verifications_of",
    "versions_of",
    "visible",
]


_CONTRACTS_KEPT = 1024
# A call reads these and none of the long columns.
_LIGHT = (
    "number", "cid", "runtime", "state", "state_reason", "fee_base_units", "expires_at",
    "deprecated_at", "sunset_at",
    "model__name", "model__owner_id", "model__auth_required", "model__public",
    "successor__number", "successor__model_id",
)  # fmt: skip
_LONG = ("manifest", "readme", "files")


@dataclass(frozen=True)
class Servable:
    """All that a call needs to know of a version."""

    version_id: UUID
    name: str
    number: str
    cid: str
    owner: str
    auth_required: bool
    public: bool
    fee_base_units: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None
    runtime: str
    max_batch_size: int
    deprecated_at: datetime | None
    sunset_at: datetime | None
    successor_number: str | None
    state: str


@dataclass(frozen=True)
class _Contract:
    """The part of a manifest that calls are held against; shared, so never changed."""

    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None


def get_model(name: str, *, viewer: str | None) -> Model:
    """A model that the viewer may see, with its current version. Raises a 404 ``Problem``."""
    model = (
        Model.objects.filter(may_see(viewer), pk=name)
        .select_related("current", "owner")
        .prefetch_related("current__badges__evidence")
        .first()
    )
    if model is None or (model.current_id is None and model.owner_id != viewer):
        raise _unknown(name)
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
        version = versions.filter(number=_number(name, number)).first()
    hidden = version is not None and version.state == Version.State.PENDING
    if version is None or (hidden and model.owner_id != viewer):
        raise _unknown(name, number)
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


def servable(name: str, number: str | None, *, viewer: str | None) -> Servable:
    """What a call of ``name`` (its current version, unless a number is given) needs.

    Raises ``Problem``: 404 unknown or not the viewer's to see, 410 expired by the database's clock
    or delisted, 409 ``not-active`` to the owner of a pending version.
    """
    versions = (
        Version.objects.filter(may_see(viewer, "model__"), model=name)
        .select_related("model", "successor")
        .only(*_LIGHT)
        .annotate(expired=Case(When(unexpired(), then=False), default=True))
    )
    if number is None:
        # Where nothing can be called, the best of the rest says why.
        version = best_first(versions).first()
    else:
        version = versions.filter(number=_number(name, number)).first()
    if version is None:
        raise _unknown(name, number)
    _require_callable(version, viewer, number)
    contract = _contract(version.pk)
    model = version.model
    return Servable(
        version_id=version.pk,
        name=model.name,
        number=version.number,
        cid=version.cid,
        owner=model.owner_id,
        auth_required=model.auth_required,
        public=model.public,
        fee_base_units=int(version.fee_base_units),
        input_schema=contract.input_schema,
        output_schema=contract.output_schema,
        tensors=contract.tensors,
        runtime=version.runtime,
        max_batch_size=contract.tensors.max_batch_size if contract.tensors else 0,
        deprecated_at=version.deprecated_at,
        sunset_at=version.sunset_at,
        successor_number=_successor(version),
        state=version.state,
    )


@lru_cache(maxsize=_CONTRACTS_KEPT)
def _contract(version_id: UUID) -> _Contract:
    """What a version's manifest promises; it never changes, so it is read once a process."""
    manifest = Version.objects.values_list("manifest", flat=True).get(pk=version_id)
    tensors = manifest.get("tensors")
    return _Contract(
        input_schema=manifest["input_schema"],
        output_schema=manifest["output_schema"],
        tensors=Tensors.model_validate(tensors) if tensors else None,
    )


def _successor(version: Version) -> str | None:
    """The successor's number, or name@number when it is another model."""
    successor = version.successor
    if successor is None:
        return None
    return successor.number if successor.model_id == version.model_id else str(successor)


def _require_callable(version: Any, viewer: str | None, number: str | None) -> None:
    owner = version.model.owner_id == viewer
    if version.state == Version.State.PENDING:
        if not owner:
            raise _unknown(version.model_id, number)
        raise Problem(
            "not-active",
            f"{version} is not active yet. {version.state_reason}".strip(),
            status=409,
            remedy=f"See its checks: infra model verify {version}",
            retry_safe=True,
        )
    if version.state == Version.State.DELISTED:
        raise Problem(
            "delisted",
            f"{version} was delisted. {version.state_reason}".strip(),
            status=410,
            remedy="Call another version, or another model.",
        )
    if version.expired:
        raise Problem(
            "expired",
            f"{version} expired at {version.expires_at:%Y-%m-%dT%H:%M:%SZ}.",
            status=410,
            remedy="Call another version; its owner may extend this one.",
        )


def _number(name: str, number: str) -> str:
    try:
        return semver.normalize(number)
    except ValueError:
        raise _unknown(name, number) from None


def _unknown(name: str, number: str | None = None) -> Problem:
    what = f"{name[:80]}@{number[:80]}" if number else name[:80]
    return not_found(
        f"model called {what}", "Look for it at /models; a private one needs its owner's leave."
    )
