"""What calls say of nodes and of demand, read off their rows as they come in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Q

from billing.epochs.models import Epoch
from marketplace.mesh import reputation
from marketplace.mesh import services as mesh
from marketplace.mesh.models import Node

# A row is seen by others once its batch is committed, so much later than its time says at most; a
# call that is read twice is counted once. Demand is measured over the same seconds.
LATE: Final = timedelta(seconds=15)
STEP: Final = timedelta(minutes=1)
# Quiet times are crossed in longer ones, none so long that a busy time in it would be too much.
LONGEST_STEP: Final = timedelta(minutes=15)
_QUIET_CALLS: Final = 1_000
LOOK_BACK: Final = timedelta(days=1)
# A worker that was away catches up in so many seconds of each round.
ROUND_SECONDS: Final = 5.0
# A caller may have set a shorter deadline, which says nothing of the node.
_FULL_DEADLINE: Final = 0.9

# An index per node would cost every call; the one by version and time is there, and this walks it
# from the last look on. OFFSET 0 keeps the planner from reading the whole table for many versions.
_WALK: Final = """
    WITH walked AS MATERIALIZED (
        SELECT call.*, version.id AS version_id
        FROM catalog_version version CROSS JOIN LATERAL (
            SELECT id, node_id, missed_nodes, outcome, problem_code, latency_us, node_latency_us,
                   linked, created_at
            FROM gateway_call
            WHERE version_id = version.id AND epoch >= %(epoch)s
              AND created_at > %(since)s AND created_at <= %(until)s
            OFFSET 0
        ) AS call
    ), given AS (
        SELECT node_id, version_id, id, created_at,
               CASE WHEN outcome = 'served' THEN 'served' WHEN outcome = 'timed-out' THEN 'late'
                    ELSE 'failed' END AS result,
               CASE WHEN outcome = 'served' AND problem_code = '' THEN node_latency_us END
                   AS latency_us
        FROM walked
        WHERE node_id IS NOT NULL AND NOT linked
          AND (outcome IN ('served', 'invalid-output', 'model-failed')
               OR outcome = 'timed-out' AND latency_us >= %(full_deadline_us)s)
        UNION ALL
        SELECT missed, version_id, id, created_at, 'missed', NULL
        FROM walked CROSS JOIN LATERAL (SELECT DISTINCT unnest(missed_nodes)) AS given (missed)
        WHERE NOT linked AND (node_id IS NULL OR missed <> node_id)
    ), numbered AS (
        SELECT *, row_number() OVER (PARTITION BY node_id ORDER BY created_at DESC, id DESC)
            AS place
        FROM given
    )
    SELECT node_id, version_id, id, result, latency_us, created_at, NULL, NULL, NULL
    FROM numbered WHERE place <= %(window)s
    UNION ALL
    SELECT node_id, version_id, NULL, NULL, NULL, max(created_at),
           count(*) FILTER (WHERE created_at > %(demand_since)s),
           coalesce(sum(latency_us) FILTER (WHERE created_at > %(demand_since)s), 0),
           count(*) FILTER (WHERE created_at > %(demand_since)s AND problem_code = 'overloaded')
    FROM walked GROUP BY node_id, version_id
"""


@dataclass
class Walked:
    """Calls of a span of time: what nodes were given, and what was asked of versions.

    ``used``: when each (version, node) was last called.
    """

    jobs: list[mesh.Job] = field(default_factory=list)
    used: dict[tuple[UUID, UUID], datetime] = field(default_factory=dict)
    demands: dict[UUID, mesh.Demand] = field(default_factory=dict)


def rate_nodes() -> int:
    """Notes the calls since the last look, rates nodes, answers faults and follows demand.

    Returns how many of the nodes' calls were read. Safe twice, and twice at once.
    """
    if not Node.objects.exists():
        return 0
    began = time.monotonic()
    read, until = 0, _now()
    at = max(mesh.walked_until() or until - LOOK_BACK, until - LOOK_BACK)
    step = STEP
    while True:
        reached = min(at + step, until)
        walked = walk(since=at - LATE, until=reached)
        mesh.note_jobs(walked.jobs)
        mesh.note_used(walked.used)
        read += len(walked.jobs)
        at = reached
        step = min(2 * step, LONGEST_STEP) if len(walked.jobs) < _QUIET_CALLS else STEP
        if at >= until or time.monotonic() - began > ROUND_SECONDS:
            break
    faults = mesh.judge(until=at)
    mesh.answer_faults(faults)
    if at >= until:
        mesh.follow_demand(walked.demands)
    return read


def walk(*, since: datetime, until: datetime) -> Walked:
    """The calls written in between: of each node's the newest that its rating goes by.

    Demand is that of the last ``LATE`` before ``until``. Calls of people with a stake in them count
    in no rating, nor do such that ended at a deadline of the caller's own.
    """
    found = Walked()
    statement, parameters = walk_statement(since=since, until=until)
    seconds = LATE.total_seconds()
    loads: dict[UUID, tuple[int, int, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        for node, version, call, result, latency_us, at, calls, busy_us, shed in cursor:
            if call is not None:
                found.jobs.append(mesh.Job(node, version, call, result, latency_us, at))
                continue
            if node is not None:
                found.used[version, node] = at
            before = loads.get(version, (0, 0, 0))
            loads[version] = (before[0] + calls, before[1] + int(busy_us), before[2] + shed)
    found.demands = {
        version: mesh.Demand(busy_us / 1_000_000 / seconds, shed)
        for version, (calls, busy_us, shed) in loads.items()
        if calls
    }
    return found


def walk_statement(*, since: datetime, until: datetime) -> tuple[str, dict[str, Any]]:
    """What ``walk`` asks the database."""
    # Older partitions hold nothing as new, and are not even looked into.
    epochs = Epoch.objects.filter(Q(closed_at=None) | Q(closed_at__gte=since - LATE))
    return _WALK, {
        "epoch": epochs.order_by("number").values_list("number", flat=True).first() or 0,
        "since": since,
        "until": until,
        "demand_since": until - LATE,
        "full_deadline_us": round(settings.CALL_DEADLINE_SECONDS * 1_000_000 * _FULL_DEADLINE),
        "window": reputation.WINDOW,
    }


def _now() -> datetime:
    """The time of the clock that stamps calls."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now
