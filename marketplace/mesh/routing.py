"""Choosing a node for a call: of two at random the better one, the sick left alone for a while.

What is here is one event loop's own view; several processes each keep theirs.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from random import random
from typing import Final
from uuid import UUID

from marketplace.mesh.asyncdb import connection, in_thread
from marketplace.mesh.candidates import Candidate, Copy, KnownVersion, View, candidate_of, despair
from marketplace.mesh.load import SPOILED, Load, RetryBudget, Tail
from marketplace.mesh.placing import ensure_placed
from marketplace.mesh.queueing import Overloaded, check_queue, hand_over, queue_max, queued
from marketplace.mesh.routes import Found, Route, RouteReader

__all__ = ["Candidate", "Copy", "Found", "NoRoute", "Overloaded", "Route", "Router", "View"]

# Read again in the background from this age on, so that no call waits for it.
REFRESH_SECONDS: Final = 0.3
# Not used when older: a model that turned private is off foreign nodes within a second.
STALE_SECONDS: Final = 0.8
# So long no second node is asked about a version that gave two of them unusable answers.
AT_FAULT_SECONDS: Final = 30.0
SPOILED_MAX_SECONDS: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 0.2
_MAX_KNOWN: Final = 4096
_MAX_LOADS: Final = 10_000
_LATEST: Final = 0.2  # weight of the latest call in a copy's latency
_NOBODY: Final[frozenset[UUID]] = frozenset()

_LOST: Final = """
    UPDATE mesh_placement
    SET state = 'loading', lease_expires_at = NULL, reason = 'The node no longer holds the model.'
    WHERE version_id = %s AND node_id = %s AND state = 'ready'
"""


class NoRoute(Exception):
    """No node can serve the version now. ``loading`` says that one is getting ready."""

    def __init__(self, detail: str, *, loading: bool = False) -> None:
        super().__init__(detail)
        self.loading = loading


@dataclass(eq=False)
class Router:
    """What one event loop knows about nodes. Not shared between threads."""

    retries: RetryBudget = field(default_factory=RetryBudget)
    _versions: dict[UUID, KnownVersion] = field(default_factory=dict)
    _loads: dict[UUID, Load] = field(default_factory=dict)
    _placing: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    _losing: dict[tuple[UUID, UUID], asyncio.Task[None]] = field(default_factory=dict)
    _reader: RouteReader = field(init=False)

    def __post_init__(self) -> None:
        self._reader = RouteReader(self._take_over)

    # A call's way.

    def pick(
        self, version_id: UUID, *, paid: bool, avoid: Collection[UUID] = _NOBODY
    ) -> Copy | None:
        """A copy with room, its place taken; None where ``take`` has to look closer."""
        known = self._versions.get(version_id)
        if known is None:
            return None
        now = time.monotonic()
        age = now - known.read_at
        if age > REFRESH_SECONDS:
            if age > STALE_SECONDS:
                return None
            self._reader.refresh(version_id)
        copies = known.paid if paid else known.copies
        count = len(copies)
        if count == 2:
            one, other = copies
        elif count > 2:
            at = int(random() * count)  # noqa: S311 - chance spreads the load, it guards nothing
            second = int(random() * (count - 1))  # noqa: S311
            one, other = copies[at], copies[second if second < at else second + 1]
        elif count == 1:
            one = other = copies[0]
        else:
            return None
        if other.score(now) < one.score(now):
            one, other = other, one
        for copy in (one, other) if count < 3 else (one, other, *copies):
            load = copy.load
            if (
                load.in_flight < load.limit
                and not load.ejected_until
                and not load.waiting
                and copy.shunned_until <= now
                and (not avoid or copy.route.node_id not in avoid)
            ):
                load.in_flight += 1
                return copy
            if load.ejected_until and self._on_trial(copy, avoid, now):
                return copy
        return None

    async def take(
        self,
        version_id: UUID,
        *,
        paid: bool,
        avoid: Collection[UUID] = _NOBODY,
        wait_seconds: float,
        queue_seconds: float,
    ) -> Copy:
        """A copy on a node that is not to be avoided, its place taken; loads the version first
        where it runs nowhere.

        Waits for a load at most ``wait_seconds``, in the queue of nodes that are busy
        ``queue_seconds``. Raises ``NoRoute``, ``Overloaded``, ``psycopg.OperationalError``.
        """
        deadline = time.monotonic() + wait_seconds
        queue_until = time.monotonic() + queue_seconds
        known = await self._fresh(version_id)
        while True:
            copy = self.pick(version_id, paid=paid, avoid=avoid)
            if copy is not None:
                return copy
            copies = [each for each in known.of(paid=paid) if each.route.node_id not in avoid]
            now = time.monotonic()
            sound = [
                each for each in copies if not each.load.ejected_until and each.shunned_until <= now
            ]
            # Nobody else is left: one that was down a moment ago may be up by now.
            last = (
                [] if sound else [each for each in copies if each.load.in_flight < each.load.limit]
            )
            if last:
                best = min(last, key=lambda each: despair(each, now))
                best.load.in_flight += 1
                return best
            if copies:
                seconds = queue_until - now
                copy = await self._queued(version_id, known, sound or copies, paid, seconds)
                if copy is not None:
                    return copy
                known = await self._fresh(version_id)
                continue
            known = await self._another(version_id, known, paid, deadline)

    def served(self, copy: Copy, seconds: float) -> None:
        """The node answered the call after so long; its place is free again."""
        now = time.monotonic()
        load = copy.load
        load.in_flight -= 1
        load.answered(seconds, now)
        known = copy.seconds
        copy.seconds = known + _LATEST * (seconds - known) if known else seconds
        copy.served_at = now
        copy.spoils = 0
        copy.tail.note(seconds)
        self.retries.note_call(now)
        if load.waiting:
            hand_over(load)

    def gave_up(
        self,
        copy: Copy,
        *,
        strike: float = 0.0,
        reason: str = "",
        sent_at: float | None = None,
        waited: float = 0.0,
    ) -> None:
        """The call ended there without an answer; a ``strike`` is held against the node.

        Not in full when it answered others after ``sent_at``: the trouble was one connection's.
        ``waited``: another node was faster than that many seconds.
        """
        load = copy.load
        load.in_flight -= 1
        if waited > copy.seconds:
            copy.seconds += _LATEST * (waited - copy.seconds)
            copy.served_at = time.monotonic()
        if strike:
            now = time.monotonic()
            if sent_at is not None and load.answered_at > sent_at:
                strike = 0.0
            if load.struck(strike, reason, now):
                # When it comes back, it starts as others are.
                copy.seconds, copy.served_at = 0.0, now
        if load.waiting:
            hand_over(load)

    def spoiled(self, copy: Copy, reason: str) -> None:
        """The call ended there with an answer that nobody can use, and well on another node: this
        version is left alone there for a while, longer each time in a row."""
        self.gave_up(copy, strike=SPOILED, reason=reason)
        copy.spoils += 1
        seconds = min(SPOILED_MAX_SECONDS, 2.0 ** min(copy.spoils - 1, 10))
        copy.shunned_until = max(copy.shunned_until, time.monotonic() + seconds)

    async def mark_lost(self, version_id: UUID, node_id: UUID) -> None:
        """Notes that the node does not hold the version any more, so that it is loaded again."""
        known = self._versions.get(version_id)
        if known is not None:
            known.copies = tuple(each for each in known.copies if each.route.node_id != node_id)
            known.paid = tuple(each for each in known.paid if each.route.node_id != node_id)
        self._reader.overtake([version_id])
        key = (version_id, node_id)
        task = self._losing.get(key)
        if task is None:
            # Many calls find out at once; one tells the database.
            task = asyncio.create_task(self._lose(version_id, node_id))
            self._losing[key] = task
            task.add_done_callback(lambda _: self._losing.pop(key, None))
        await asyncio.shield(task)
        # What was read before the database knew is wrong.
        self._reader.overtake([version_id])
        if known is not None:
            known.read_at = 0.0

    def begin_placing(self, version_id: UUID) -> asyncio.Task[None]:
        """Loads the version where it runs nowhere. Shared by every call that waits for it, and
        outlives the one that began it."""
        task = self._placing.get(version_id)
        if task is None:
            task = asyncio.create_task(in_thread(ensure_placed, version_id, slow=True))
            self._placing[version_id] = task
            task.add_done_callback(lambda _: self._placing.pop(version_id, None))
        return task

    def blame(self, version_id: UUID) -> None:
        """Two nodes gave answers of the version that nobody can use: it is not the nodes."""
        known = self._versions.get(version_id)
        if known is not None:
            known.at_fault_until = time.monotonic() + AT_FAULT_SECONDS

    def is_to_blame(self, version_id: UUID) -> bool:
        """Whether that was lately: another node would give no better answer."""
        known = self._versions.get(version_id)
        return known is not None and known.at_fault_until > time.monotonic()

    def shed(self, version_id: UUID, *, paid: bool) -> None:
        """Raises ``Overloaded`` where a call that came now would be turned away."""
        known = self._versions.get(version_id)
        if known is not None and known.waiting:
            check_queue(known, known.of(paid=paid))

    # What is known.

    def forget(self, message: str) -> None:
        """Where a model runs, or may, is another now: it is looked up anew, by the next call.

        Takes messages of ``inframind.identity.changes``; "" means that any may have changed.
        """
        if not message:
            for known in self._versions.values():
                known.read_at = 0.0
            self._reader.overtake(None)
            return
        kind, _, name = message.partition(":")
        if kind == "model":
            changed = [key for key, known in self._versions.items() if known.model == name]
            for key in changed:
                self._versions[key].read_at = 0.0
            self._reader.overtake(changed)

    async def view(self, version_id: UUID, *, paid: bool) -> View:
        """What ``explain`` shows of a version; loads nothing. Raises ``OperationalError``."""
        known = await self._fresh(version_id)
        now = time.monotonic()
        return View(
            tuple(candidate_of(each, paid=paid, now=now) for each in known.copies),
            known.loading,
            known.reason,
            now - known.read_at,
            known.waiting,
            queue_max(known.of(paid=paid)),
            known.tail.late_seconds,
            known.tail.count,
            self.retries.left(now),
        )

    async def aclose(self) -> None:
        """Waits for loads that calls have started."""
        await asyncio.gather(
            *self._placing.values(), *self._losing.values(), return_exceptions=True
        )
        await self._reader.aclose()

    async def _fresh(self, version_id: UUID) -> KnownVersion:
        known = self._versions.get(version_id)
        if known is None or time.monotonic() - known.read_at > STALE_SECONDS:
            await asyncio.shield(self._reader.ask(version_id))
            known = self._versions[version_id]
        return known

    async def _queued(
        self, version_id: UUID, known: KnownVersion, copies: list[Copy], paid: bool, seconds: float
    ) -> Copy | None:
        """The copy that has a place first, taken; None where calls may not go there any more."""
        copy = await queued(known, copies, seconds)
        try:
            # Much can have changed meanwhile: a model became private, a node was suspended.
            known = await self._fresh(version_id)
            if copy in known.of(paid=paid):
                return copy
        except BaseException:
            self.gave_up(copy)
            raise
        self.gave_up(copy)
        return None

    async def _read_anew(self, version_id: UUID) -> KnownVersion:
        await asyncio.shield(self._reader.ask(version_id))
        return self._versions[version_id]

    def _take_over(self, version_id: UUID, found: Found) -> None:
        known = self._versions.get(version_id)
        if known is None:
            if len(self._versions) >= _MAX_KNOWN:
                self._drop_unused()
            known = self._versions[version_id] = KnownVersion()
        before = {each.route.node_id: each for each in known.copies}
        copies = tuple(
            self._copy(route, known.tail, before.get(route.node_id)) for route in found.routes
        )
        known.read_at, known.model = found.read_at, found.model or known.model
        known.loading, known.reason = found.loading, found.reason
        known.copies = copies
        known.paid = tuple(each for each in copies if each.route.paid_calls)

    def _copy(self, route: Route, tail: Tail, before: Copy | None) -> Copy:
        load = self._loads.get(route.node_id)
        if load is None:
            if len(self._loads) >= _MAX_LOADS:
                self._loads = {key: each for key, each in self._loads.items() if each.in_flight}
            load = self._loads[route.node_id] = Load(route.capacity)
        elif load.capacity != max(1, route.capacity):
            load.resize(route.capacity)
        if before is None or before.load is not load:
            # As long as nothing is known of it, it is like the others.
            return Copy(
                route,
                load,
                load.capacity * route.weight,
                tail,
                tail.mean,
                time.monotonic(),
                math.inf if route.doubtful else 0.0,
            )
        if before.route != route:
            if route.ready_at != before.route.ready_at or route.endpoint != before.route.endpoint:
                # A probe saw it come back, or it moved.
                load.revive()
                before.seconds, before.shunned_until, before.spoils = 0.0, 0.0, 0
            if route.doubtful or before.route.doubtful:
                before.shunned_until = math.inf if route.doubtful else 0.0
            before.route = route
            before.scale = load.capacity * route.weight
        return before

    def _drop_unused(self) -> None:
        oldest = sorted(self._versions, key=lambda key: self._versions[key].read_at)
        for key in oldest[: _MAX_KNOWN // 4]:
            if not self._versions[key].waiting:
                del self._versions[key]

    @staticmethod
    def _on_trial(copy: Copy, avoid: Collection[UUID], now: float) -> bool:
        load = copy.load
        if (
            not load.opens(now)
            or copy.shunned_until > now
            or copy.route.node_id in avoid
            or load.in_flight >= load.limit
        ):
            return False
        load.try_out(now)
        load.in_flight += 1
        return True

    # Where it runs nowhere.

    async def _placed(self, version_id: UUID, paid: bool, deadline: float) -> KnownVersion:
        known = await self._read_anew(version_id)
        if known.of(paid=paid):
            return known
        task = self.begin_placing(version_id)
        done, _ = await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            raise NoRoute("A node is loading the model.", loading=True)
        task.result()
        while not (known := await self._read_anew(version_id)).of(paid=paid):
            await self._wait_for_load(known, paid, deadline)
        return known

    async def _another(
        self, version_id: UUID, known: KnownVersion, paid: bool, deadline: float
    ) -> KnownVersion:
        """Looks once more where every known node was tried: perhaps another one has loaded it."""
        before = {each.route.node_id for each in known.of(paid=paid)}
        while True:
            known = await self._read_anew(version_id)
            copies = known.of(paid=paid)
            if not copies:
                return await self._placed(version_id, paid, deadline)
            if {each.route.node_id for each in copies} - before:
                return known
            await self._wait_for_load(known, paid, deadline)

    @staticmethod
    async def _wait_for_load(known: KnownVersion, paid: bool, deadline: float) -> None:
        if not known.loading:
            if paid and known.copies and not known.paid:
                raise NoRoute("No node that is given paid calls runs the model.")
            why = known.reason and f"The model does not load: {known.reason}"
            raise NoRoute(why or "No node that could run the model answers.")
        if time.monotonic() + _LOOK_AGAIN_SECONDS > deadline:
            raise NoRoute("A node is loading the model.", loading=True)
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    @staticmethod
    async def _lose(version_id: UUID, node_id: UUID) -> None:
        async with connection() as database:
            await database.execute(_LOST, (version_id, node_id))
