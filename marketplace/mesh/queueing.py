"""Calls that wait for a busy node: the first come first, and only so many."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from marketplace.mesh.candidates import Copy, KnownVersion
from marketplace.mesh.load import Load

# Waiting calls beyond so many for every one that may run are turned away at once.
QUEUE_FACTOR: Final = 8
QUEUE_MIN: Final = 64


class Overloaded(Exception):
    """Every node is busy, and as many calls wait as may; look again in ``retry_after_seconds``."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Every node that runs the model is busy, and enough calls wait already.")
        self.retry_after_seconds = retry_after_seconds


async def queued(known: KnownVersion, copies: list[Copy], seconds: float) -> Copy:
    """The copy that has a place first, taken; waits so long. Raises ``Overloaded``."""
    check_queue(known, copies)
    turn: asyncio.Future[Load] = asyncio.get_running_loop().create_future()
    for each in copies:
        each.load.waiting.append(turn)
        # A node whose last call ended the moment before has nobody who would wake us.
        hand_over(each.load)
    known.waiting += 1
    try:
        async with asyncio.timeout(seconds):
            load = await turn
    except BaseException as error:
        if turn.done() and not turn.cancelled():
            # Given a place and gone in the same moment: the place is another's.
            turn.result().in_flight -= 1
            hand_over(turn.result())
        if isinstance(error, TimeoutError):
            raise Overloaded(_patience(known, copies)) from None
        raise
    finally:
        known.waiting -= 1
        for each in copies:
            if turn in each.load.waiting:
                each.load.waiting.remove(turn)
    return next(each for each in copies if each.load is load)


def hand_over(load: Load) -> None:
    """Gives free places of a node to those who wait for it, the first one first."""
    while load.waiting and load.in_flight < load.limit:
        turn = load.waiting.popleft()
        if not turn.done():
            load.in_flight += 1
            turn.set_result(load)


def check_queue(known: KnownVersion, copies: Collection[Copy]) -> None:
    """Raises ``Overloaded`` where no more calls may wait for these."""
    if known.waiting >= queue_max(copies):
        raise Overloaded(_patience(known, copies))


def queue_max(copies: Collection[Copy]) -> int:
    """How many calls may wait for these."""
    return max(QUEUE_MIN, QUEUE_FACTOR * sum(each.load.limit for each in copies))


def _patience(known: KnownVersion, copies: Collection[Copy]) -> int:
    places = sum(each.load.limit for each in copies) or 1
    return max(1, min(30, round(known.waiting * known.tail.mean / places)))
