"""One run of the checks on a version, from the claim of its row to badges and activation."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from marketplace.catalog import checks, review, signals, trial
from marketplace.catalog.models import Badge, Check, Verification, Version
from marketplace.catalog.standing import activate, locked_version

log = structlog.get_logger(__name__)

# Longer than anything between two beats, of which loading is the longest.
LEASE = timedelta(seconds=settings.LOAD_DEADLINE_SECONDS + 120)
BADGE_LIFETIME = timedelta(days=90)
MAX_ATTEMPTS = 2_000
MAX_WORKERS_LOST = 3
_LONGEST_PAUSE_SECONDS = 60

_State = Verification.State
# The verdict rests on these; the other kinds only decide about a badge.
_DECISIVE = frozenset(
    {
        Check.Kind.HASH,
        Check.Kind.MANIFEST,
        Check.Kind.LOAD,
        Check.Kind.EXAMPLES,
        Check.Kind.GENERATED,
    }
)
_BADGES = {
    Check.Kind.HASH: Badge.Kind.HASH_VERIFIED,
    Check.Kind.GENERATED: Badge.Kind.SCHEMA_VALIDATED,
    Check.Kind.STRUCTURED: Badge.Kind.AGENT_COMPATIBLE,
    Check.Kind.PRIVACY: Badge.Kind.PRIVACY_READY,
}


class _LeaseLost(Exception):
    """Another worker has taken the run over; what this one finds no longer counts."""


def due_ids(*, limit: int = 20) -> list[UUID]:
    """Runs that a worker should take now, the longest waiting first."""
    return list(_due().order_by("due_at").values_list("pk", flat=True)[:limit])


def verify_next() -> Verification | None:
    """Takes the run that waits longest and does it here; None when none is due.

    Returns the run as it stands afterwards: passed, failed, or queued again for want of a node.
    """
    return _do(_claim(_due().order_by("due_at")))


def verify(*, verification_id: UUID) -> Verification | None:
    """Does one run if it is due and nobody else does it; None otherwise."""
    return _do(_claim(_due().filter(pk=verification_id)))


def _due() -> QuerySet[Verification]:
    return Verification.objects.filter(
        Q(state=_State.QUEUED, due_at__lte=Now())
        | Q(state=_State.RUNNING, lease_expires_at__lte=Now())
    )


@transaction.atomic
def _claim(due: QuerySet[Verification]) -> Verification | None:
    run = due.select_for_update(skip_locked=True, of=("self",)).first()
    if run is None:
        return None
    run.workers_lost += run.state == _State.RUNNING
    run.attempts += 1
    run.state = _State.RUNNING
    run.node_name = ""
    run.started_at = Now()
    run.lease_expires_at = Now() + LEASE
    run.save()
    # What an earlier, unfinished attempt found is not evidence of this one.
    run.checks.all().delete()
    return Verification.objects.select_related("version__model").get(pk=run.pk)


def _do(run: Verification | None) -> Verification | None:
    if run is None:
        return None
    try:
        _attempt(run)
    except _LeaseLost:
        log.warning("verification.lease_lost", verification=str(run.pk), version=str(run.version))
    return Verification.objects.select_related("version__model").get(pk=run.pk)


def _attempt(run: Verification) -> None:
    if run.workers_lost > MAX_WORKERS_LOST:
        _fail(
            run,
            "workers-lost",
            "The checks were started several times and each time the worker was lost. Make the "
            "package smaller, or tell the registry's operator.",
        )
        return
    waiting = review.waiting_reason(run.version)
    if waiting:
        _fail(run, "review-needed", waiting)
        return
    try:
        for result in checks.results(run.version, beat=lambda: _beat(run)):
            _record(run, result)
            if result.kind in _DECISIVE and not result.passed:
                _fail(run, result.code or f"{result.kind}-failed", result.reason())
                return
    except trial.TrialFailure as failure:
        _put_back(run, failure)
        return
    _pass(run)


def _held(run: Verification) -> Verification:
    """The row, locked, if this attempt still holds it. Raises _LeaseLost."""
    held = (
        Verification.objects.select_for_update()
        .filter(pk=run.pk, state=_State.RUNNING, attempts=run.attempts)
        .first()
    )
    if held is None:
        raise _LeaseLost
    return held


@transaction.atomic
def _beat(run: Verification) -> None:
    held = _held(run)
    held.lease_expires_at = Now() + LEASE
    held.save(update_fields=["lease_expires_at"])


@transaction.atomic
def _record(run: Verification, result: checks.Result) -> None:
    held = _held(run)
    held.lease_expires_at = Now() + LEASE
    held.node_name = result.node_name or held.node_name
    held.save(update_fields=["lease_expires_at", "node_name"])
    Check.objects.create(
        verification=held,
        kind=result.kind,
        passed=result.passed,
        cases_total=result.cases_total,
        cases_passed=result.cases_passed,
        cid=run.version.cid,
        detail=result.detail,
        duration_ms=result.duration_ms,
    )


@transaction.atomic
def _put_back(run: Verification, failure: trial.TrialFailure) -> None:
    """Queues the run again, later each time: the fault lies with the nodes."""
    version = locked_version(run.version)
    held = _held(run)
    if held.attempts >= MAX_ATTEMPTS:
        _close(held, version, failure.code, f"{failure.detail} No node took it in all this time.")
        return
    pause_seconds = min(2 ** min(held.attempts, 10), _LONGEST_PAUSE_SECONDS)
    held.state = _State.QUEUED
    held.reason_code = failure.code
    held.reason = failure.detail
    held.due_at = Now() + timedelta(seconds=pause_seconds)
    held.lease_expires_at = None
    held.save()
    held.checks.all().delete()
    if version.state == Version.State.PENDING:
        version.state_reason = f"Waiting for a node: {failure.detail}"
        version.save(update_fields=["state_reason"])


@transaction.atomic
def _fail(run: Verification, code: str, reason: str) -> None:
    version = locked_version(run.version)
    _close(_held(run), version, code, reason)


def _close(held: Verification, version: Version, code: str, reason: str) -> None:
    """The run failed: a pending version says why, a live one loses badges it cannot back."""
    held.state = _State.FAILED
    held.reason_code = code[:40]
    held.reason = reason
    held.finished_at = Now()
    held.lease_expires_at = None
    held.save()
    passed = held.checks.filter(passed=True).values_list("kind", flat=True)
    backed = [badge for kind, badge in _BADGES.items() if kind in set(passed)]
    Badge.objects.filter(version=version).exclude(kind__in=backed).delete()
    prefix = "" if version.state == Version.State.PENDING else "The latest verification failed: "
    if version.state != Version.State.DELISTED:
        version.state_reason = f"{prefix}{reason}"
        version.save(update_fields=["state_reason"])


@transaction.atomic
def _pass(run: Verification) -> None:
    version = locked_version(run.version)
    held = _held(run)
    held.state = _State.PASSED
    held.reason_code = held.reason = ""
    held.finished_at = Now()
    held.lease_expires_at = None
    held.save()
    kept = []
    for check in held.checks.filter(passed=True):
        badge = _BADGES.get(Check.Kind(check.kind))
        if badge is not None:
            kept.append(badge)
            Badge.objects.update_or_create(
                version=version,
                kind=badge,
                defaults={
                    "evidence": check,
                    "granted_at": Now(),
                    "expires_at": Now() + BADGE_LIFETIME,
                },
            )
    Badge.objects.filter(version=version).exclude(kind__in=kept).delete()
    if version.state != Version.State.PENDING and version.state_reason:
        version.state_reason = ""
        version.save(update_fields=["state_reason"])
    activate(version=version)
    version.refresh_from_db()
    transaction.on_commit(lambda: signals.version_verified.send(sender=Version, version=version))
