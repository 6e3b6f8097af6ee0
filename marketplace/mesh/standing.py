"""What nodes' calls do to nodes and versions: jobs noted, reputation, suspension, review."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from inframind.lib.problem import Problem
from marketplace.mesh import reputation
from marketplace.mesh.models import Node, NodeJob, Placement
from marketplace.mesh.reputation import Standing, Work

log = structlog.get_logger(__name__)

_TRIM: Final = """
    DELETE FROM mesh_nodejob WHERE id IN (
        SELECT id FROM (
            SELECT id, created_at, row_number() OVER (
                PARTITION BY node_id ORDER BY created_at DESC, call_id DESC
            ) AS place FROM mesh_nodejob
        ) AS held
        WHERE place > %(window)s OR created_at < %(oldest)s
    )
"""
# A row per node and version, and one per version with the median over all nodes.
_WORKS: Final = """
    SELECT job.node_id, job.version_id,
           count(*) FILTER (WHERE result = 'served'),
           count(*) FILTER (WHERE result = 'failed'),
           count(*) FILTER (WHERE result = 'late'),
           count(*) FILTER (WHERE result = 'missed'),
           count(*) FILTER (WHERE result = 'failed' AND excused),
           count(*) FILTER (WHERE result = 'late' AND excused),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_us) FILTER (WHERE result = 'served'),
           count(*) FILTER (WHERE result = 'served' AND job.created_at >= placement.ready_at),
           count(*) FILTER (
               WHERE result IN ('failed', 'late') AND job.created_at >= placement.ready_at)
    FROM mesh_nodejob job
    LEFT JOIN mesh_placement placement
           ON placement.node_id = job.node_id AND placement.version_id = job.version_id
    GROUP BY GROUPING SETS ((job.node_id, job.version_id), (job.version_id))
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A call that a node was given; ``latency_us`` inside the node, where it was served."""

    node_id: UUID
    version_id: UUID
    call_id: UUID
    result: str  # of NodeJob.Result
    latency_us: int | None
    created_at: datetime


@transaction.atomic
def note_jobs(jobs: Iterable[Job]) -> None:
    """Adds calls to the nodes' windows. Safe twice: a call counts once on a node.

    Calls on nodes that are gone, and from before a node's new start, are left out.
    """
    since = dict(Node.objects.values_list("pk", "rated_since"))
    NodeJob.objects.bulk_create(
        [
            NodeJob(
                node_id=job.node_id,
                version_id=job.version_id,
                call_id=job.call_id,
                result=job.result,
                latency_us=job.latency_us,
                created_at=job.created_at,
            )
            for job in jobs
            if job.node_id in since and _counts(job, since[job.node_id])
        ],
        batch_size=1_000,
        ignore_conflicts=True,
    )


def judge(*, until: datetime) -> dict[UUID, str]:
    """Rates every node by its window, as of ``until``, to which calls have been noted.

    Takes paid calls from nodes below 85 % success and suspends those below 70 %. Returns the
    versions that are at fault themselves by what they did since they were loaded, and how.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _TRIM, {"window": reputation.WINDOW, "oldest": until - reputation.WINDOW_AGE}
        )
    nodes = list(Node.objects.all())
    works, fresh, medians = _works()
    guilty = reputation.at_fault(works)
    if guilty:
        _excuse(guilty)
        works, fresh, medians = _works()
    active = {node.pk for node in nodes if node.state == Node.State.READY}
    standings = reputation.standings(works, version_medians_us=medians, active=active)
    for node in nodes:
        _apply(node, standings.get(node.pk, Standing(0, 0)), until)
    _note_lately(works)
    names = {node.pk: node.name for node in nodes}
    return _in_words(reputation.at_fault(fresh), fresh, names)


@transaction.atomic
def suspend(*, node: Node, reason: str) -> Node:
    """Takes a node out of service until it is reviewed. Raises ``Problem`` 409."""
    changed = (
        Node.objects.filter(pk=node.pk)
        .exclude(state=Node.State.SUSPENDED)
        .update(state=Node.State.SUSPENDED, state_reason=reason)
    )
    if not changed:
        raise Problem(
            "already-suspended",
            f"{node.name} is suspended already.",
            status=409,
            remedy="Nothing is left to do.",
        )
    node.refresh_from_db()
    return node


@transaction.atomic
def reinstate(*, node: Node) -> Node:
    """Lets a suspended node serve again after a review, rated afresh. Raises ``Problem`` 409.

    The next probe that it answers makes it ready.
    """
    locked = Node.objects.select_for_update().get(pk=node.pk)
    if locked.state != Node.State.SUSPENDED:
        raise Problem(
            "not-suspended",
            f"{node.name} is not suspended.",
            status=409,
            remedy="Nothing is left to do.",
        )
    _start_afresh(
        locked,
        state=Node.State.DOWN,
        state_reason="Not looked at since its review.",
        failures_in_a_row=0,
    )
    locked.refresh_from_db()
    return locked


def walked_until() -> datetime | None:
    """Up to when calls have been noted; None: never."""
    return (
        Node.objects.exclude(rated_at=None)
        .order_by("-rated_at")
        .values_list("rated_at", flat=True)
        .first()
    )


def _counts(job: Job, since: datetime | None) -> bool:
    return since is None or job.created_at > since


def _works() -> tuple[list[Work], list[Work], dict[UUID, float]]:
    """(work by the windows, by what followed the last load, medians of versions in µs)"""
    with connection.cursor() as cursor:
        cursor.execute(_WORKS)
        rows = cursor.fetchall()
    works, fresh, medians = [], [], {}
    for node, version, *counts, fresh_served, fresh_wrong in rows:
        if node is not None:
            works.append(Work(node, version, *counts))
            fresh.append(Work(node, version, served=fresh_served, failed=fresh_wrong))
        elif counts[-1] is not None:
            medians[version] = counts[-1]
    return works, fresh, medians


def _excuse(versions: Collection[UUID]) -> None:
    NodeJob.objects.filter(
        version__in=versions,
        result__in=[NodeJob.Result.FAILED, NodeJob.Result.LATE],
        excused=False,
    ).update(excused=True)


def _apply(node: Node, standing: Standing, until: datetime) -> None:
    if node.state == Node.State.SUSPENDED:
        # What it was suspended for stays to be read at its review.
        Node.objects.filter(pk=node.pk).update(rated_at=until)
        return
    if not node.paid_calls and not standing.paid_calls and _is_idle(node, until):
        log.info("node starts afresh", node=node.name)
        _start_afresh(node, rated_at=until)
        return
    changes: dict[str, Any] = {
        "reputation_bps": standing.reputation_bps,
        "success_bps": standing.success_bps,
        "sla_bps": standing.sla_bps,
        "latency_bps": standing.latency_bps,
        "rated_calls": standing.calls,
        "rated_at": until,
        "paid_calls": standing.paid_calls,
    }
    if node.paid_calls != standing.paid_calls:
        log.warning("node's paid calls", node=node.name, allowed=standing.paid_calls)
    if not standing.serves:
        changes |= {
            "state": Node.State.SUSPENDED,
            "state_reason": (
                f"Only {_percent(standing.success_bps or 0)} of the last {standing.answered} calls "
                "that it took up succeeded. It serves again once staff have reviewed it."
            ),
        }
        log.warning("node suspended", node=node.name, success_bps=standing.success_bps)
    # A review meanwhile has made these figures old.
    Node.objects.filter(pk=node.pk, rated_since=node.rated_since).exclude(
        state=Node.State.SUSPENDED
    ).update(**changes)


def _is_idle(node: Node, until: datetime) -> bool:
    recent = node.jobs.filter(created_at__gt=until - reputation.NEW_START_AFTER)
    return not recent.exists()


def _start_afresh(node: Node, **more: Any) -> None:
    Node.objects.filter(pk=node.pk).update(
        reputation_bps=None,
        success_bps=None,
        sla_bps=None,
        latency_bps=None,
        rated_calls=0,
        rated_since=Now(),
        paid_calls=True,
        **more,
    )
    node.jobs.all().delete()


def _note_lately(works: Sequence[Work]) -> None:
    """Writes what became of calls on each placement, where that has changed."""
    counts = {(work.node_id, work.version_id): (work.served, work.wrong) for work in works}
    changed = []
    for row in Placement.objects.only(
        "node_id", "version_id", "served_lately", "failed_lately"
    ).iterator():
        served, failed = counts.get((row.node_id, row.version_id), (0, 0))
        if (row.served_lately, row.failed_lately) != (served, failed):
            row.served_lately, row.failed_lately = served, failed
            changed.append(row)
    Placement.objects.bulk_update(changed, ["served_lately", "failed_lately"], batch_size=500)


def _in_words(
    guilty: Collection[UUID], works: Iterable[Work], names: dict[UUID, str]
) -> dict[UUID, str]:
    words: dict[UUID, list[str]] = {version: [] for version in guilty}
    for work in sorted(works, key=lambda each: names.get(each.node_id, "")):
        if work.version_id in words and work.wrong:
            words[work.version_id].append(
                f"{work.wrong} of {work.served + work.wrong} calls on {names[work.node_id]}"
            )
    return {version: f"Failed: {', '.join(told)}." for version, told in words.items()}


def _percent(bps: int) -> str:
    return f"{bps / 100:.1f} %"
