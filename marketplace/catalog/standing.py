"""Where a version stands: activation, deprecation, delisting, and which one is current."""

from __future__ import annotations

from datetime import datetime

from django.contrib.postgres.search import SearchVector
from django.db import transaction
from django.db.models import Exists, OuterRef, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from inframind.lib.problem import Problem
from marketplace.catalog import lifecycle, signals
from marketplace.catalog.models import Model, Verification, Version
from marketplace.catalog.ranking import best_first, callable_now
from marketplace.catalog.reasons import required_reason, unusable
from marketplace.catalog.registration import replaced_versions

OPEN_RUNS = (Verification.State.QUEUED, Verification.State.RUNNING)


@transaction.atomic
def activate(*, version: Version) -> None:
    """Makes a version that passed its checks callable, and deprecates what it replaces."""
    locked = locked_version(version)
    if locked.state == Version.State.PENDING:
        locked.state = Version.State.ACTIVE
        locked.state_reason = ""
        locked.activated_at = Now()
        locked.save(update_fields=["state", "state_reason", "activated_at"])
        replaces = str(locked.manifest.get("replaces") or "")
        if replaces:
            for old in replaced_versions(locked.model, replaces):
                if old.pk != locked.pk and old.state in lifecycle.LIVE:
                    deprecate(version=old, successor=locked, sunset_at=None)
        transaction.on_commit(
            lambda: signals.version_activated.send(sender=Version, version=locked)
        )
    choose_current(locked.model_id)


@transaction.atomic
def deprecate(
    *,
    version: Version,
    successor: Version | None,
    sunset_at: datetime | None,
    reason: str = "",
) -> None:
    """Marks a live version as replaced; it stays callable.

    One that is deprecated keeps its time and gets this successor, sunset and reason. Raises
    ``Problem`` 409 or 422.
    """
    locked = locked_version(version)
    if successor is not None and successor.pk == locked.pk:
        raise unusable("A version does not succeed itself.")
    if locked.state != Version.State.DEPRECATED:
        _require_next(locked, Version.State.DEPRECATED)
        locked.state = Version.State.DEPRECATED
        locked.deprecated_at = Now()
    locked.sunset_at = sunset_at
    locked.successor = successor
    locked.state_reason = reason.replace("\0", "").strip()[:200]
    locked.save(update_fields=["state", "state_reason", "deprecated_at", "sunset_at", "successor"])
    choose_current(locked.model_id)


@transaction.atomic
def delist(*, version: Version, reason: str) -> None:
    """Takes a version out of lists and calls. Raises ``Problem`` 409 when it is already."""
    locked = locked_version(version)
    _require_next(locked, Version.State.DELISTED)
    take_down(locked, required_reason(reason))


@transaction.atomic
def refresh_current(*, name: str) -> None:
    """Chooses the model's current version anew, by the database's clock."""
    choose_current(name)


def choose_unexpired() -> int:
    """Lets an older version stand for each model whose current one has expired since.

    Returns how many models that were. Whoever lists models calls it first, so that a list neither
    shows what expired nor lacks what is still valid.
    """
    others = Version.objects.filter(callable_now(), model=OuterRef("pk"))
    late = Model.objects.filter(Exists(others), current__expires_at__lte=Now())
    names = list(late.values_list("pk", flat=True))
    for name in names:
        refresh_current(name=name)
    return len(names)


def take_down(version: Version, reason: str) -> None:
    version.state = Version.State.DELISTED
    version.state_reason = reason
    version.save(update_fields=["state", "state_reason"])
    Verification.objects.filter(version=version, state__in=OPEN_RUNS).update(
        state=Verification.State.FAILED,
        reason_code="delisted",
        reason=reason,
        finished_at=Now(),
        lease_expires_at=None,
    )
    choose_current(version.model_id)


def choose_current(name: str) -> None:
    model = Model.objects.select_for_update(no_key=True).get(pk=name)
    # An expired one still stands for its model when there is no other: its owner sees why.
    callable_ones = Version.objects.filter(model=model, state__in=sorted(lifecycle.CALLABLE))
    chosen = best_first(callable_ones).first()
    model.current = chosen
    model.search = None if chosen is None else _search_vector(model, chosen)
    model.save(update_fields=["current", "search"])


def _search_vector(model: Model, version: Version) -> Combinable:
    words = " ".join([version.description, version.task.replace("-", " "), *version.tags])
    name = f"{model.name} {model.name.replace('-', ' ')}"
    return (
        SearchVector(Value(name), weight="A", config="english")
        + SearchVector(Value(words), weight="B", config="english")
        # The vector has a size limit, and what a reader searches for stands near the top.
        + SearchVector(Value(version.readme[:100_000]), weight="D", config="english")
    )


def locked_version(version: Version) -> Version:
    """The row as it is now, with its model locked first: one order everywhere, so no deadlock."""
    Model.objects.select_for_update(no_key=True).get(pk=version.model_id)
    return (
        Version.objects.select_for_update(no_key=True, of=("self",))
        .select_related("model")
        .get(pk=version.pk)
    )


def _require_next(version: Version, state: str) -> None:
    if not lifecycle.may_become(version.state, state):
        raise Problem(
            "not-in-this-state",
            f"{version} is {version.state} and cannot become {state}.",
            status=409,
        )
