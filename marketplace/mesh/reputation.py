"""How well a node serves, by its last calls, and whose fault a failure is: pure rules.

Shares are basis points (10,000 = all).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

WINDOW: Final = 1_000  # the last calls of a node, and
WINDOW_AGE: Final = timedelta(days=7)  # none older than that
MIN_SAMPLE: Final = 50
PAID_FROM_BPS: Final = 8_500  # below it no paid calls,
SERVES_FROM_BPS: Final = 7_000  # below that none at all until staff have looked
ALL_BPS: Final = 10_000
# A node without paid calls that was given nothing for so long cannot recover by serving.
NEW_START_AFTER: Final = timedelta(hours=1)
# So many calls of a version on a node say how it does there.
FAULT_SAMPLE: Final = 10
_SUCCESS_WEIGHT, _SLA_WEIGHT, _LATENCY_WEIGHT = 50, 30, 20  # percent
# A node counts as faster than another by a tenth at least: less is noise.
_FASTER: Final = 0.9


@dataclass(frozen=True)
class Work:
    """What became of a version's calls on a node.

    ``served``, ``failed`` (an error, or against the schema) and ``late`` (past the deadline) were
    taken up by the node, ``missed`` were not answered at all. ``excused``: how many of ``failed``
    and ``late`` are held against the version. ``median_us``: of those served.
    """

    node_id: UUID
    version_id: UUID
    served: int = 0
    failed: int = 0
    late: int = 0
    missed: int = 0
    excused_failed: int = 0
    excused_late: int = 0
    median_us: float | None = None

    @property
    def wrong(self) -> int:
        return self.failed + self.late


@dataclass(frozen=True)
class Standing:
    """A node's reputation with its parts, None while its sample is too small to tell.

    ``calls``: the sample, without what is held against versions. ``answered``: of these, the ones
    that the node took up: by them it may lose paid calls, or all.
    """

    calls: int
    answered: int
    success_bps: int | None = None
    sla_bps: int | None = None
    latency_bps: int | None = None
    reputation_bps: int | None = None

    @property
    def paid_calls(self) -> bool:
        """Whether it may have paid calls."""
        return not self._below(PAID_FROM_BPS)

    @property
    def serves(self) -> bool:
        """Whether it may have any."""
        return not self._below(SERVES_FROM_BPS)

    def _below(self, limit_bps: int) -> bool:
        if self.success_bps is None or self.answered < MIN_SAMPLE:
            return False
        return self.success_bps < limit_bps


def standings(
    works: Iterable[Work],
    *,
    version_medians_us: Mapping[UUID, float],
    active: Collection[UUID],
) -> dict[UUID, Standing]:
    """The standing of every node that was given anything.

    ``version_medians_us``: of a version's served calls on all nodes, so that a node is held
    against the others at the same models. ``active``: the nodes that latency is ranked among.
    """
    by_node: dict[UUID, list[Work]] = {}
    for work in works:
        by_node.setdefault(work.node_id, []).append(work)
    paces = {node: _pace(mine, version_medians_us) for node, mine in by_node.items()}
    rivals = {node: pace for node, pace in paces.items() if pace is not None and node in active}
    return {
        node: _standing(mine, _latency_bps(node, paces[node], rivals))
        for node, mine in by_node.items()
    }


def at_fault(works: Iterable[Work]) -> set[UUID]:
    """Versions whose failures are their own.

    A version is at fault that falls short on two nodes, and on most that run it; or on its only
    node, if that serves other versions well. One that does well on another node is not: then the
    node is at fault. A node that runs nothing else answers for it, since nothing tells the two
    apart.
    """
    by_version: dict[UUID, list[Work]] = {}
    by_node: dict[UUID, list[Work]] = {}
    for work in works:
        by_version.setdefault(work.version_id, []).append(work)
        by_node.setdefault(work.node_id, []).append(work)
    guilty: set[UUID] = set()
    for version, works_of_it in by_version.items():
        told = [work for work in works_of_it if work.served + work.wrong >= FAULT_SAMPLE]
        short = [work for work in told if _falls_short(work.served, work.wrong)]
        if len(short) >= 2:
            guilty |= {version} if 2 * len(short) > len(told) else set()
        elif short and len(told) == 1 and _well_otherwise(by_node[short[0].node_id], version):
            guilty.add(version)
    return guilty


def _well_otherwise(works: Iterable[Work], version_id: UUID) -> bool:
    others = [work for work in works if work.version_id != version_id]
    served, wrong = sum(work.served for work in others), sum(work.wrong for work in others)
    return served + wrong >= MIN_SAMPLE and not _falls_short(served, wrong)


def _falls_short(served: int, wrong: int) -> bool:
    return served * ALL_BPS < PAID_FROM_BPS * (served + wrong)


def _standing(works: Iterable[Work], latency_bps: int) -> Standing:
    served = failed = late = missed = 0
    for work in works:
        served += work.served
        failed += work.failed - work.excused_failed
        late += work.late - work.excused_late
        missed += work.missed
    answered = served + failed + late
    calls = answered + missed
    if calls < MIN_SAMPLE:
        return Standing(calls, answered)
    success_bps = served * ALL_BPS // answered if answered else 0
    sla_bps = (served + failed) * ALL_BPS // calls
    reputation_bps = (
        _SUCCESS_WEIGHT * success_bps + _SLA_WEIGHT * sla_bps + _LATENCY_WEIGHT * latency_bps
    ) // 100
    return Standing(calls, answered, success_bps, sla_bps, latency_bps, reputation_bps)


def _pace(works: Iterable[Work], version_medians_us: Mapping[UUID, float]) -> float | None:
    """How long the node takes, as a multiple of what its models take everywhere."""
    weighted, served = 0.0, 0
    for work in works:
        usual = version_medians_us.get(work.version_id)
        if usual and work.median_us is not None:
            weighted += work.served * work.median_us / usual
            served += work.served
    return weighted / served if served else None


def _latency_bps(node: UUID, pace: float | None, rivals: Mapping[UUID, float]) -> int:
    """The share of the other active nodes that are not faster; all of them where none is."""
    if pace is None:
        return 0
    others = [each for other, each in rivals.items() if other != node]
    faster = sum(each < _FASTER * pace for each in others)
    return (len(others) - faster) * ALL_BPS // len(others) if others else ALL_BPS
