"""On how many nodes a version runs: more while calls wait, fewer when they stay away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import connection
from django.db.models.functions import Now

from marketplace.catalog.models import Version
from marketplace.mesh import room
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.placing import REPLICAS, eligible_nodes

# Of the calls that its copies take at once: above it there are more copies, and so many more that
# they come down to the middle; a copy less goes where the rest stay far below it.
BUSY: Final = 0.7
WANTED: Final = 0.5
CALM: Final = 0.25
IDLE_AFTER: Final = timedelta(minutes=30)
_YOUNG: Final = timedelta(minutes=2)

log = structlog.get_logger(__name__)
_USED: Final = """
    UPDATE mesh_placement AS placement SET used_at = given.at
    FROM unnest(%(versions)s::uuid[], %(nodes)s::uuid[], %(times)s::timestamptz[])
         AS given (version_id, node_id, at)
    WHERE placement.version_id = given.version_id AND placement.node_id = given.node_id
      AND (placement.used_at IS NULL OR placement.used_at < given.at)
"""


@dataclass(frozen=True)
class Demand:
    """A version's calls over the last seconds.

    ``load``: how many were under way or waiting at a time, on average. ``turned_away``: how many
    found every copy full.
    """

    load: float
    turned_away: int = 0


def copies_wanted(demand: Demand, *, copies: int, capacity: int) -> int:
    """How many copies a version in use should have that has ``copies``, which together take
    ``capacity`` calls at once; both at least 1."""
    each = capacity / copies
    if demand.turned_away or demand.load > BUSY * capacity:
        return max(copies + 1, math.ceil(demand.load / (WANTED * each)))
    if copies > REPLICAS and demand.load < CALM * each * (copies - 1):
        return copies - 1
    return max(copies, REPLICAS)


def note_used(used: Mapping[tuple[UUID, UUID], datetime]) -> None:
    """Writes when each (version, node) was last called."""
    pairs = sorted(used)
    with connection.cursor() as cursor:
        cursor.execute(
            _USED,
            {
                "versions": [version for version, _ in pairs],
                "nodes": [node for _, node in pairs],
                "times": [used[pair] for pair in pairs],
            },
        )


def follow_demand(demands: Mapping[UUID, Demand]) -> tuple[int, int]:
    """Makes due what busy versions lack, unloads what idle ones have too many of.

    Returns how many copies are new and how many went. What is pinned is on every node it may be
    on, and stays.
    """
    grown, spare = 0, list[Placement]()
    pinned = set(room.pinned().values_list("pk", flat=True))
    for version_id, copies in _copies().items():
        if version_id in pinned:
            continue
        demand = demands.get(version_id)
        if demand is not None:
            capacity = sum(max(1, each.node.capacity) for each in copies)
            wanted = copies_wanted(demand, copies=len(copies), capacity=capacity)
        elif _is_idle(version_id):
            wanted = 1
        else:
            continue
        if wanted > len(copies):
            grown += _add(version_id, wanted - len(copies))
        elif wanted < len(copies):
            spare += _spare(copies, len(copies) - wanted)
    return grown, room.vacate(spare)


def _copies() -> dict[UUID, list[Placement]]:
    """What versions in service have on ready nodes, loaded or being loaded."""
    rows = (
        Placement.objects.filter(node__state=Node.State.READY, version__state__in=room.SERVABLE)
        .exclude(state=Placement.State.FAILED)
        .select_related("node")
        .order_by("pk")
    )
    found: dict[UUID, list[Placement]] = {}
    for row in rows:
        found.setdefault(row.version_id, []).append(row)
    return found


def _is_idle(version_id: UUID) -> bool:
    """Whether nobody has called it for long, nor was it loaded."""
    mine = Placement.objects.filter(version=version_id)
    since = Now() - IDLE_AFTER
    return (
        not mine.filter(used_at__gt=since).exists() and not mine.filter(ready_at__gt=since).exists()
    )


def _add(version_id: UUID, number: int) -> int:
    version = Version.objects.select_related("model").get(pk=version_id)
    has = set(Placement.objects.filter(version=version).values_list("node_id", flat=True))
    nodes = [node for node in eligible_nodes(version, for_calls=True) if node.pk not in has]
    made = 0
    for node in nodes[:number]:
        _, created = Placement.objects.get_or_create(
            version=version, node=node, defaults={"state": Placement.State.LOADING}
        )
        made += created
    if made:
        log.info("copies added", version=str(version), copies=made)
    return made


def _spare(copies: list[Placement], number: int) -> list[Placement]:
    """The copies to go: those that were used the longest ago, and none that has just come."""
    ready = [each.pk for each in copies if each.state == Placement.State.READY]
    if len(ready) < len(copies):
        # What is being loaded is not there yet to take over.
        return []
    mine = Placement.objects.filter(pk__in=ready, ready_at__lt=Now() - _YOUNG)
    return list(room.least_used(mine)[:number])
