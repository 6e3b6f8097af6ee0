"""Versions that fail on several nodes: checked again, and taken off the nodes if they fail that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db.models.functions import Now

from inframind.lib.problem import Problem
from marketplace.catalog.models import Verification, Version
from marketplace.catalog.services import request_verification
from marketplace.mesh.models import Placement
from marketplace.mesh.placing import RETRY_AFTER_FAILURE
from marketplace.mesh.room import SERVABLE, unload_quietly

# Anybody can send what makes a model fail, so its own examples decide, and not at every call.
CHECK_AGAIN_AFTER: Final = timedelta(hours=1)

log = structlog.get_logger(__name__)


def answer_faults(faults: Mapping[UUID, str]) -> int:
    """Has versions at fault verified again, and takes those off the nodes whose last verification
    failed; returns how many went.

    ``faults``: how each fails, in words. What was taken off is loaded afresh after a pause.
    """
    gone = 0
    for version in Version.objects.filter(pk__in=faults, state__in=SERVABLE):
        last = version.verifications.order_by("-created_at").first()
        if last is not None and last.state == Verification.State.FAILED:
            gone += _take_off(version, f"{faults[version.pk]} Its checks failed: {last.reason}")
        if last is None or last.state in (Verification.State.PASSED, Verification.State.FAILED):
            _check_again(version, faults[version.pk])
    return gone


def _take_off(version: Version, reason: str) -> int:
    taken = 0
    loaded = version.placements.filter(state=Placement.State.READY).select_related("node")
    for placement in loaded:
        changed = Placement.objects.filter(
            pk=placement.pk, state=Placement.State.READY, ready_at=placement.ready_at
        ).update(
            state=Placement.State.FAILED,
            reason=reason,
            lease_expires_at=Now() + RETRY_AFTER_FAILURE,
        )
        if changed:
            unload_quietly(placement)
            taken += 1
    if taken:
        log.warning("version at fault", version=str(version), reason=reason, copies=taken)
    return taken


def _check_again(version: Version, reason: str) -> None:
    if version.verifications.filter(created_at__gt=Now() - CHECK_AGAIN_AFTER).exists():
        return
    try:
        request_verification(version=version)
    except Problem as problem:
        log.info("version not checked again", version=str(version), reason=problem.detail)
    else:
        log.warning("version checked again", version=str(version), reason=reason)
