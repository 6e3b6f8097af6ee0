"""Where versions can run just now, as the database says: read in the background, never long ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from marketplace.mesh.asyncdb import POOL_CONNECTIONS, connection
from marketplace.mesh.modelconfig import triton_name

log = structlog.get_logger(__name__)

_NEUTRAL_BPS: Final = 9_500  # of a node that has not served enough calls to be rated

# A node that a probe missed may be busy, not dead: it stands last.
_ROUTES: Final = """
    SELECT p.version_id, m.name, n.id, n.name, n.operator_id, n.endpoint, n.grpc_endpoint,
           n.capacity, n.reputation_bps, n.paid_calls, n.state = 'down', n.ready_at,
           p.state, p.reason
    FROM mesh_placement p
    JOIN mesh_node n ON n.id = p.node_id
    JOIN catalog_version v ON v.id = p.version_id
    JOIN catalog_model m ON m.name = v.model_id
    WHERE p.version_id = ANY(%s) AND n.state IN ('ready', 'down')
      -- A model can have become private after it was placed.
      AND (m.public OR n.trusted OR n.operator_id = m.owner_id OR EXISTS (
        SELECT FROM mesh_nodegrant g WHERE g.node_id = n.id AND g.model_id = m.name
      ))
    ORDER BY n.name
"""


@dataclass(frozen=True)
class Route:
    """A node that holds the model. ``doubtful``: it did not answer the last probes."""

    node_id: UUID
    node_name: str
    operator: str  # the wallet that is paid for what the node serves
    endpoint: str
    triton_model: str
    capacity: int
    grpc_endpoint: str = ""
    reputation_bps: int | None = None
    paid_calls: bool = True
    doubtful: bool = False
    ready_at: datetime | None = None

    @property
    def weight(self) -> float:
        """How much of the load it deserves beside others that are as fast: above 0, at most 1."""
        bps = _NEUTRAL_BPS if self.reputation_bps is None else self.reputation_bps
        return max(0.01, (bps / 10_000) ** 2)


@dataclass(frozen=True)
class Found:
    """What one look found of a version. ``read_at``: the moment before the database was asked."""

    read_at: float
    model: str = ""
    routes: tuple[Route, ...] = ()
    loading: bool = False
    reason: str = ""  # why it failed to load, where it did


@dataclass(eq=False)
class RouteReader:
    """Asks the database for many versions at once, one question at a time.

    ``on_found`` is given every answer that nothing has overtaken.
    """

    on_found: Callable[[UUID, Found], None]
    _wanted: dict[UUID, asyncio.Future[Found]] = field(default_factory=dict)
    _asked: dict[UUID, asyncio.Future[Found]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _overtaken: set[UUID] = field(default_factory=set)
    _all_overtaken: bool = False

    def ask(self, version_id: UUID) -> asyncio.Future[Found]:
        """The answer of a question that has not been sent yet."""
        found = self._wanted.get(version_id)
        if found is None:
            found = self._wanted[version_id] = asyncio.get_running_loop().create_future()
            # A refresh in the background has nobody who would see its error.
            found.add_done_callback(_seen)
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._run())
        return found

    def refresh(self, version_id: UUID) -> None:
        """Asks anew unless that is under way."""
        if version_id not in self._asked:
            self.ask(version_id)

    def overtake(self, version_ids: Iterable[UUID] | None) -> None:
        """What is being read of these (None: of all) may be old already: it is read once more."""
        if version_ids is None:
            self._all_overtaken = True
        else:
            self._overtaken.update(version_ids)

    async def aclose(self) -> None:
        """Ends the reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._wanted:
            self._asked, self._wanted = self._wanted, {}
            self._overtaken.clear()
            self._all_overtaken = False
            try:
                found = await _read(list(self._asked))
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("routes not read", reason=type(error).__name__)
                for future in self._asked.values():
                    if not future.done():
                        future.set_exception(error)
                self._asked = {}
                continue
            except BaseException:
                for future in (*self._asked.values(), *self._wanted.values()):
                    future.cancel()
                raise
            for version_id, future in self._asked.items():
                if self._all_overtaken or version_id in self._overtaken:
                    again = self._wanted.setdefault(version_id, future)
                    if again is not future:
                        _follow(again, future)
                    continue
                self.on_found(version_id, found[version_id])
                if not future.done():
                    future.set_result(found[version_id])
            self._asked = {}


async def _read(version_ids: list[UUID]) -> dict[UUID, Found]:
    # After a restart of the database every connection of the pool can be dead; each goes when it
    # is used, and reading twice does no harm.
    for _ in range(POOL_CONNECTIONS):
        try:
            return await _read_once(version_ids)
        except PoolTimeout:
            raise
        except psycopg.OperationalError:
            continue
    return await _read_once(version_ids)


async def _read_once(version_ids: list[UUID]) -> dict[UUID, Found]:
    async with connection() as database:
        read_at = time.monotonic()
        cursor = await database.execute(_ROUTES, (version_ids,))
        rows = await cursor.fetchall()
    by_version: dict[UUID, list[Any]] = {each: [] for each in version_ids}
    for row in rows:
        by_version[row[0]].append(row)
    return {each: _found(each, found, read_at) for each, found in by_version.items()}


def _found(version_id: UUID, rows: list[Any], read_at: float) -> Found:
    model = triton_name(version_id)
    routes = []
    loading, reason = False, ""
    for _, _, node, name, operator, http, grpc, capacity, bps, paid, down, at, state, why in rows:
        if state == "ready":
            routes.append(
                Route(node, name, operator, http, model, capacity, grpc, bps, paid, down, at)
            )
        elif not down:
            loading = loading or state == "loading"
            reason = reason or (str(why) if state == "failed" else "")
    name_of_model = str(rows[0][1]) if rows else ""
    return Found(read_at, name_of_model, tuple(routes), loading, reason)


def _follow(first: asyncio.Future[Found], then: asyncio.Future[Found]) -> None:
    def done(future: asyncio.Future[Found]) -> None:
        if then.done():
            return
        if future.cancelled():
            then.cancel()
        elif (error := future.exception()) is not None:
            then.set_exception(error)
        else:
            then.set_result(future.result())

    first.add_done_callback(done)


def _seen(future: asyncio.Future[Found]) -> None:
    if not future.cancelled():
        future.exception()
