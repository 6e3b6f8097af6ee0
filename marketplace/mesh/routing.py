"""Choosing a node for a call: the ready and least busy first, the dead left alone for a while."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from marketplace.mesh.asyncdb import connection, in_thread
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.placing import ensure_placed

# A model that turned private is off foreign nodes within a second.
ROUTES_FRESH_SECONDS: Final = 0.5
REST_SECONDS: Final = 2.0
REST_MAX_SECONDS: Final = 20.0
_LOOK_AGAIN_SECONDS: Final = 0.2
_MAX_CACHED: Final = 4096

_ROUTES: Final = """
    SELECT n.id, n.name, n.operator_id, n.endpoint, n.capacity, p.state, p.reason
    FROM mesh_placement p
    JOIN mesh_node n ON n.id = p.node_id
    JOIN catalog_version v ON v.id = p.version_id
    JOIN catalog_model m ON m.name = v.model_id
    WHERE p.version_id = %s AND n.state = 'ready'
      -- A model can have become private after it was placed.
      AND (m.public OR n.trusted OR n.operator_id = m.owner_id OR EXISTS (
        SELECT FROM mesh_nodegrant g WHERE g.node_id = n.id AND g.model_id = m.name
      ))
"""
_LOST: Final = """
    UPDATE mesh_placement
    SET state = 'loading', lease_expires_at = NULL, reason = 'The node no longer holds the model.'
    WHERE version_id = %s AND node_id = %s AND state = 'ready'
"""


@dataclass(frozen=True)
class Route:
    """A node that holds the model."""

    node_id: UUID
    node_name: str
    operator: str  # the wallet that is paid for what the node serves
    endpoint: str
    triton_model: str
    capacity: int


class NoRoute(Exception):
    """No node can serve the version now. ``loading`` says that one is getting ready."""

    def __init__(self, detail: str, *, loading: bool = False) -> None:
        super().__init__(detail)
        self.loading = loading


@dataclass
class _Rest:
    until: float = 0.0
    failures: int = 0


@dataclass
class _Known:
    expires: float
    routes: list[Route]


@dataclass
class Router:
    """What one event loop knows about nodes. Not shared between threads."""

    _known: dict[UUID, _Known] = field(default_factory=dict)
    _rests: dict[UUID, _Rest] = field(default_factory=dict)
    _in_flight: Counter[UUID] = field(default_factory=Counter)
    _placing: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    _turn: Iterator[int] = field(default_factory=itertools.count)

    async def candidates(self, version_id: UUID, *, wait_seconds: float) -> list[Route]:
        """Nodes to try in this order; places the version first where it runs nowhere.

        Waits for a load at most so long. Raises ``NoRoute``.
        """
        routes = await self._routes(version_id)
        if not routes:
            routes = await self._placed(version_id, wait_seconds)
        now = time.monotonic()
        turn = next(self._turn)
        ordered = sorted(
            enumerate(routes),
            key=lambda each: (
                self._resting(each[1].node_id, now),
                self._in_flight[each[1].node_id] / max(1, each[1].capacity),
                (each[0] + turn) % len(routes),
            ),
        )
        return [route for _, route in ordered]

    @contextmanager
    def busy(self, route: Route) -> Iterator[None]:
        """Counts a call on the node while it lasts."""
        self._in_flight[route.node_id] += 1
        try:
            yield
        finally:
            self._in_flight[route.node_id] -= 1

    def mark_failed(self, node_id: UUID) -> None:
        """Leaves a dead node alone, longer each time in a row."""
        rest = self._rests.setdefault(node_id, _Rest())
        if rest.until > time.monotonic():
            # One death seen by many calls at once is one failure.
            return
        rest.failures += 1
        seconds = min(REST_MAX_SECONDS, REST_SECONDS * 2 ** min(rest.failures - 1, 10))
        rest.until = time.monotonic() + seconds

    def mark_well(self, node_id: UUID) -> None:
        """Ends a node's rest after a call that it answered."""
        self._rests.pop(node_id, None)

    async def mark_lost(self, version_id: UUID, node_id: UUID) -> None:
        """Notes that the node does not hold the version any more, so that it is loaded again."""
        self._known.pop(version_id, None)
        async with connection() as database:
            await database.execute(_LOST, (version_id, node_id))

    async def aclose(self) -> None:
        """Waits for loads that calls have started."""
        await asyncio.gather(*self._placing.values(), return_exceptions=True)

    def _resting(self, node_id: UUID, now: float) -> bool:
        rest = self._rests.get(node_id)
        return rest is not None and rest.until > now

    async def _routes(self, version_id: UUID) -> list[Route]:
        known = self._known.get(version_id)
        now = time.monotonic()
        if known is not None and known.expires > now:
            return known.routes
        routes, _, _ = await self._look(version_id)
        return routes

    async def _look(self, version_id: UUID) -> tuple[list[Route], bool, str]:
        """(ready routes, whether one is loading, why the last one failed)"""
        async with connection() as database:
            cursor = await database.execute(_ROUTES, (version_id,))
            rows = await cursor.fetchall()
        name = triton_name(version_id)
        routes = [
            Route(node_id, node_name, operator, endpoint, name, capacity)
            for node_id, node_name, operator, endpoint, capacity, state, _ in rows
            if state == "ready"
        ]
        if routes:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            self._known[version_id] = _Known(time.monotonic() + ROUTES_FRESH_SECONDS, routes)
        loading = any(row[5] == "loading" for row in rows)
        reason = next((row[6] for row in rows if row[5] == "failed"), "")
        return routes, loading, reason

    async def _placed(self, version_id: UUID, wait_seconds: float) -> list[Route]:
        deadline = time.monotonic() + wait_seconds
        task = self._placing.get(version_id)
        if task is None:
            # Shared by every call that waits for this version, and outlives the one that began it.
            task = asyncio.create_task(in_thread(ensure_placed, version_id, slow=True))
            self._placing[version_id] = task
            task.add_done_callback(lambda _: self._placing.pop(version_id, None))
        done, _ = await asyncio.wait({task}, timeout=wait_seconds)
        if done:
            task.result()
        while True:
            routes, loading, reason = await self._look(version_id)
            if routes:
                return routes
            if not loading:
                why = f"The model does not load: {reason}" if reason else "No node is ready."
                raise NoRoute(why)
            if time.monotonic() + _LOOK_AGAIN_SECONDS > deadline:
                raise NoRoute("A node is loading the model.", loading=True)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
