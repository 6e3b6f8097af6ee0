"""A second node for calls that take longer than nearly all others: the first answer counts.

Only for calls that cost nothing and change nothing. One timer looks at all calls under way, so that
a call that is answered in time pays for two entries in a dictionary and no timer of its own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from marketplace.mesh import client
from marketplace.mesh.load import LOST, REFUSED
from marketplace.mesh.routing import Copy

if TYPE_CHECKING:
    from marketplace.gateway.context import Context

# Also the shortest wait before a second node is asked.
TICK_SECONDS: Final = 0.025


@dataclass(eq=False, slots=True)
class Answered:
    """A node's answer, the copy that gave it, and how long it took there."""

    copy: Copy
    incoming: client.Incoming
    seconds: float


@dataclass(eq=False, slots=True)
class Flight:
    """A call under way on its first node, and what a second node made of it."""

    call: Context
    copy: Copy
    sent_at: float
    task: asyncio.Task[object]
    second: asyncio.Task[None] | None = None
    unasked: Copy | None = None  # the second node's, as long as that task has not begun
    won: Answered | None = None
    waiting: bool = False  # for the second node alone
    ended: bool = False


@dataclass(eq=False)
class Hedges:
    """The calls of one event loop that may be given to a second node."""

    _flights: dict[int, Flight] = field(default_factory=dict)  # the oldest first
    _timer: asyncio.TimerHandle | None = None

    async def infer(self, call: Context, copy: Copy, connect_seconds: float) -> Answered:
        """As ``client.infer``. The place at the copy that answered is still taken, the other one's
        is free again."""
        sent_at = time.monotonic()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A call runs in a task.")
        flight = Flight(call, copy, sent_at, task)
        key = id(flight)
        self._flights[key] = flight
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        try:
            incoming = await ask(call, copy, connect_seconds)
            return Answered(copy, incoming, time.monotonic() - sent_at)
        except asyncio.CancelledError:
            if flight.won is None:
                raise
            if task.uncancel() > 0:
                # The caller has gone as well.
                call.resources.router.gave_up(flight.won.copy)
                raise
        except client.NodeError:
            if flight.second is None:
                raise
            # The other one is at it already: better than to begin anew.
            flight.waiting = True
            try:
                await asyncio.wait({flight.second})
            except asyncio.CancelledError:
                if flight.won is not None:
                    call.resources.router.gave_up(flight.won.copy)
                raise
            if flight.won is None:
                raise
        finally:
            flight.ended = True
            del self._flights[key]
            if flight.second is not None and not flight.second.done():
                flight.second.cancel()
                if flight.unasked is not None:
                    # A task that is cancelled before it begins gives nothing back by itself.
                    call.resources.router.gave_up(flight.unasked)
        call.resources.router.gave_up(copy, waited=time.monotonic() - sent_at)
        return flight.won

    async def aclose(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        if not self._flights:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_SECONDS, self._tick)
        now = time.monotonic()
        for flight in list(self._flights.values()):
            waited = now - flight.sent_at
            if waited < TICK_SECONDS:
                break
            late = flight.copy.tail.late_seconds
            if flight.second is None and late is not None and waited > late:
                self._hedge(flight, now)

    def _hedge(self, flight: Flight, now: float) -> None:
        router, version_id = flight.call.resources.router, flight.call.version.version_id
        first = flight.copy.route.node_id
        if router.retries.left(now) < 1:
            return
        copy = router.pick(version_id, paid=False, avoid=(first,))
        if copy is None:
            return
        # A node with calls waiting in it would answer late as well, and make others late.
        if copy.load.in_flight > copy.load.capacity or not router.retries.take(now):
            router.gave_up(copy)
            return
        flight.call.attempts += 1
        flight.unasked = copy
        flight.second = asyncio.get_running_loop().create_task(self._ask_second(flight, copy))

    @staticmethod
    async def _ask_second(flight: Flight, copy: Copy) -> None:
        flight.unasked = None
        call, sent_at = flight.call, time.monotonic()
        router = call.resources.router
        try:
            incoming = await ask(call, copy, client.CONNECT_SECONDS)
        except client.NotConnected as error:
            router.gave_up(copy, strike=REFUSED, reason=str(error), sent_at=sent_at)
        except client.NodeUnreachable as error:
            router.gave_up(copy, strike=LOST, reason=str(error), sent_at=sent_at)
        except client.NodeError:
            # The first one may do better, and is waited for.
            router.gave_up(copy)
        except BaseException:
            router.gave_up(copy)
            raise
        else:
            seconds = time.monotonic() - sent_at
            if flight.ended:
                router.served(copy, seconds)
                return
            flight.won = Answered(copy, incoming, seconds)
            if not flight.waiting:
                flight.task.cancel()


async def ask(call: Context, copy: Copy, connect_seconds: float) -> client.Incoming:
    """Has one node run the model. Raises as ``client.infer``."""
    outgoing = call.outgoing
    if outgoing is None:
        raise RuntimeError("The input has not been read yet.")
    route = copy.route
    return await client.infer(
        call.resources.nodes,
        route.endpoint,
        route.triton_model,
        outgoing,
        timeout_seconds=call.remaining,
        connect_seconds=connect_seconds,
    )
