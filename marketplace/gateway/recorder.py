"""The one durable row of a call, and what it costs: written before its answer leaves.

Calls that end while a commit runs gather and go into the next transaction together. Nobody waits
longer for that than the commit under way takes, and nobody who could have been written down pays
for another who could not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from inframind.lib.problem import Problem
from marketplace.gateway import committing
from marketplace.gateway.committing import Entry, Fate
from marketplace.gateway.metrics import CALLS

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 256
_AGAIN: Final[Any] = {
    "status": 503,
    "remedy": "Try again in a moment.",
    "retry_safe": True,
    "retry_after_seconds": 5,
}


class FundsGone(Problem):
    """The 503 of a call whose lease, place or key had ended when it was to be written down: its row
    says that it was refused. ``lease_gone``: nothing more can be charged to its lease."""

    lease_gone = False


@dataclass(eq=False)
class Recorder:
    """Writes the calls of one event loop down."""

    _gathered: list[tuple[Entry, asyncio.Future[Fate]]] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None

    async def record(self, entry: Entry) -> None:
        """Commits the call with all that hangs on it.

        Raises a 503 ``Problem``: what is not written down is not delivered. ``FundsGone`` where the
        call outlived what was set aside for it (its row then says that it was refused); one with
        ``charged`` None where the database fell silent at the very moment.
        """
        entry.prepare()
        loop = asyncio.get_running_loop()
        fate: asyncio.Future[Fate] = loop.create_future()
        self._gathered.append((entry, fate))
        if self._writing is None:
            self._writing = loop.create_task(self._write())
        problem = _problem_of(await fate)
        if problem is not None:
            raise problem

    async def aclose(self) -> None:
        """Waits for what is being written."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        try:
            while self._gathered:
                batch, self._gathered = self._gathered[:BATCH_MAX], self._gathered[BATCH_MAX:]
                fates: Sequence[Fate]
                try:
                    fates = await committing.commit([entry for entry, _ in batch])
                    CALLS.batches.add(len(batch))
                except Exception:
                    log.exception("calls not recorded", calls=len(batch))
                    # Whatever this was, it may have come after the rows were sent.
                    fates = [Fate.UNKNOWN] * len(batch)
                for (_, waiter), fate in zip(batch, fates, strict=True):
                    if not waiter.done():
                        waiter.set_result(fate)
        finally:
            self._writing = None


def no_database() -> Problem:
    """The 503 of a call that came no further than a database that does not answer."""
    return Problem("not-available", "The registry's database does not answer.", **_AGAIN)


def _problem_of(fate: Fate) -> Problem | None:
    if fate is Fate.WRITTEN:
        return None
    if fate in (Fate.REFUSED, Fate.LEASE_GONE):
        gone = FundsGone(
            "not-recorded",
            "The call took longer than its funds, its token's limit or its key could be held for "
            "it, so its result is not delivered. Nothing was charged.",
            **_AGAIN,
        )
        gone.lease_gone = fate is Fate.LEASE_GONE
        return gone
    if fate is Fate.UNKNOWN:
        return Problem(
            "not-recorded",
            "The database fell silent while the call was written down: whether it was is not known "
            "yet, so its result is not delivered. If it was charged, its receipt says so.",
            status=503,
            remedy="Look at the receipt that Inframind-Receipt names: where there is none, nothing "
            "was charged, and you can try again.",
            retry_after_seconds=5,
            charged=None,
        )
    return Problem(
        "not-recorded",
        "The call could not be written down, so its result is not delivered. Nothing was charged.",
        **_AGAIN,
    )
