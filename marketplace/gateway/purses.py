"""Funds of callers, leased from the books for several calls and spent in memory, call by call.

One event loop has one purse per wallet. A purse holds leases; every call takes its fee from one of
them before it runs and gives it back unless it was served. What a lease has spent for good is
written by the transaction that writes the calls' rows, never here: a purse that is lost with its
process loses nothing, its leases end by themselves.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from billing.ledger import leases
from inframind.lib.amounts import amount_document, format_ifm
from inframind.lib.problem import Problem
from marketplace.mesh.asyncdb import connection

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 1.0
# Longer than another process's purse stays idle: what it does not need has come back by then.
PATIENCE_SECONDS: Final = 1.5
# A lease lives this much longer than one call may take, so that it serves more than one.
SPARE_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.1
# A lease that is spent sooner is followed by one of twice as many calls, and one that lasts much
# longer by half as many: under load the books are asked about once a second, and not per call.
SPENT_SOON_SECONDS: Final = 1.0
SPENT_SLOWLY_SECONDS: Final = 4.0
LEASE_CALLS_MAX: Final = 4096
_PROCESS: Final = f"{socket.gethostname()[:30]}:{os.getpid()}:{secrets.token_hex(3)}"


@dataclass(eq=False, slots=True)
class _Held:
    """A lease in this process's hands. ``until`` is of the monotonic clock, and early."""

    id: UUID
    left_base_units: int
    until: float
    calls: int = 0  # under way on it


@dataclass(eq=False, slots=True)
class Funds:
    """What one call may cost, taken from its wallet's purse. ``give_back`` or ``keep`` ends it."""

    fee_base_units: int
    _purse: Purse
    _held: _Held
    _ended: bool = False

    @property
    def lease_id(self) -> UUID:
        """The lease that the call's fee is charged to."""
        return self._held.id

    def give_back(self) -> None:
        """Nothing was charged: another call may have it."""
        self._end(self.fee_base_units)

    def keep(self) -> None:
        """The fee was charged, or may have been."""
        self._end(0)

    def drop(self) -> None:
        """The lease turned out to be gone: no other call may be given of it."""
        self._purse.forget(self._held)
        self._end(0)

    def _end(self, back_base_units: int) -> None:
        if not self._ended:
            self._ended = True
            self._held.left_base_units += back_base_units
            self._held.calls -= 1
            self._purse.ended()


@dataclass(eq=False)
class Purse:
    """The leases of one wallet on one event loop."""

    wallet: str
    _held: list[_Held] = field(default_factory=list)
    _under_way: int = 0  # calls with funds of these leases that have not ended
    _waiting: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _asked_at: float = 0.0
    _lease_calls: int = 0  # what the last lease was asked for; 0: it was not given so much
    _leased_at: float = 0.0
    _refusal: leases.OutOfFunds | None = None  # what the books said when they were last asked
    _idle_since: float = 0.0  # by the loop's clock, while nothing is under way
    _idle: asyncio.TimerHandle | None = None  # one at a time, however many calls come and go
    _ending: asyncio.Task[None] | None = None

    async def take(self, fee_base_units: int, call_seconds: float) -> Funds:
        """Sets the fee of one call aside that may take ``call_seconds`` until it is written down.

        Raises a 402 ``Problem`` where the funds are not there, ``psycopg.OperationalError``.
        """
        found = self._spend(fee_base_units, call_seconds)
        if found is not None:
            return found
        came = time.monotonic()
        self._waiting += 1
        try:
            # One call at a time asks the books; what it leaves is for those behind it.
            async with self._lock:
                return await self._spend_or_lease(fee_base_units, call_seconds, came)
        finally:
            self._waiting -= 1
            self._watch()

    def _spend(self, fee_base_units: int, call_seconds: float) -> Funds | None:
        """As ``take`` from what is leased already; None where that is not enough."""
        needed_until = time.monotonic() + call_seconds
        for held in self._held:
            if held.left_base_units >= fee_base_units and held.until >= needed_until:
                held.left_base_units -= fee_base_units
                held.calls += 1
                self._under_way += 1
                return Funds(fee_base_units, self, held)
        return None

    @property
    def unused(self) -> bool:
        """Whether no call is under way or waiting here and no lease is held."""
        return not self._held and not self._waiting and not self._lock.locked()

    def forget(self, gone: _Held) -> None:
        """Takes no more of a lease that the books do not have."""
        self._held = [held for held in self._held if held is not gone]

    def ended(self) -> None:
        """A call ended: those who wait look again, and an idle purse is emptied after a while."""
        self._under_way -= 1
        self._changed.set()
        if not self._under_way:
            self._watch()

    def _watch(self) -> None:
        """Begins to count how long nothing has been under way."""
        if self._busy():
            return
        loop = asyncio.get_running_loop()
        self._idle_since = loop.time()
        if self._idle is None and self._held:
            self._idle = loop.call_later(IDLE_SECONDS, self._look_idle)

    async def empty(self) -> None:
        """Gives every lease back, also those that calls are under way on: they cannot be charged
        any more."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        async with self._lock:
            await self._end(list(self._held))

    def _busy(self) -> bool:
        return self._waiting > 0 or self._under_way > 0

    async def _spend_or_lease(self, fee_base_units: int, call_seconds: float, came: float) -> Funds:
        while True:
            found = self._spend(fee_base_units, call_seconds)
            if found is not None:
                return found
            refusal = self._refusal_of(fee_base_units, came)
            if refusal is None:
                self._asked_at, self._refusal = time.monotonic(), None
                try:
                    await self._lease(fee_base_units, call_seconds)
                except leases.OutOfFunds as problem:
                    self._refusal = problem
            elif not self._may_come_back(refusal, fee_base_units) or (
                self._asked_at >= came + PATIENCE_SECONDS
            ):
                raise _refused(refusal, fee_base_units)
            else:
                next_look = min(self._asked_at + _LOOK_AGAIN_SECONDS, came + PATIENCE_SECONDS)
                await self._change(next_look - time.monotonic())

    def _refusal_of(self, fee_base_units: int, came: float) -> leases.OutOfFunds | None:
        """What the books last said, where that answers a call that ``came`` then, and is fresh."""
        refusal, now = self._refusal, time.monotonic()
        if refusal is None or self._asked_at < came or fee_base_units < refusal.fee_base_units:
            return None
        patient_until = came + PATIENCE_SECONDS
        if self._asked_at >= patient_until or not self._may_come_back(refusal, fee_base_units):
            return refusal
        fresh = now < min(self._asked_at + _LOOK_AGAIN_SECONDS, patient_until)
        return refusal if fresh else None

    async def _change(self, seconds: float) -> None:
        """Waits for funds to come back to the purse, at most so long."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    @staticmethod
    def _may_come_back(refusal: leases.OutOfFunds, fee_base_units: int) -> bool:
        return refusal.under_way_base_units > 0 and (
            refusal.by_day_limit
            or refusal.available_base_units + refusal.under_way_base_units >= fee_base_units
        )

    async def _lease(self, fee_base_units: int, call_seconds: float) -> None:
        # What is too little here may be enough together with what the books have.
        await self._end([held for held in self._held if not held.calls])
        ttl_seconds = call_seconds + SPARE_SECONDS
        asked_at = time.monotonic()
        calls = self._calls_to_lease(asked_at)
        self._lease_calls = 0
        async with connection() as database:
            lease = await leases.take_on(
                database,
                wallet=self.wallet,
                process=_PROCESS,
                fee_base_units=fee_base_units,
                calls=calls,
                waiting=max(1, self._waiting),
                ttl_seconds=ttl_seconds,
            )
        self._held.append(_Held(lease.id, lease.amount_base_units, asked_at + lease.ttl_seconds))
        self._leased_at = asked_at
        if lease.amount_base_units == calls * fee_base_units:
            self._lease_calls = calls

    def _calls_to_lease(self, now: float) -> int:
        at_least: int = settings.LEASE_CALLS
        if not self._lease_calls:
            return at_least
        lasted_seconds, calls = now - self._leased_at, self._lease_calls
        if lasted_seconds < SPENT_SOON_SECONDS:
            calls = min(2 * calls, LEASE_CALLS_MAX)
        elif lasted_seconds > SPENT_SLOWLY_SECONDS:
            calls //= 2
        return max(at_least, calls)

    def _look_idle(self) -> None:
        self._idle = None
        if self._busy() or not self._held:
            return
        loop = asyncio.get_running_loop()
        idle_at = self._idle_since + IDLE_SECONDS
        if loop.time() < idle_at:
            self._idle = loop.call_at(idle_at, self._look_idle)
        elif not self._lock.locked():
            self._ending = loop.create_task(self._empty_idle())

    async def _empty_idle(self) -> None:
        async with self._lock:
            if not self._busy():
                self._lease_calls = 0
                await self._end(list(self._held))

    async def _end(self, ending: list[_Held]) -> None:
        if not ending:
            return
        # Out of reach first: nothing may be spent from a lease that is being given back.
        self._held = [held for held in self._held if held not in ending]
        try:
            async with connection() as database:
                await leases.end_on(database, [held.id for held in ending])
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("leases left to expire", wallet=self.wallet, reason=type(error).__name__)


@dataclass
class Purses:
    """The purses of one event loop."""

    _by_wallet: dict[str, Purse] = field(default_factory=dict)

    async def take(self, wallet: str, fee_base_units: int, call_seconds: float) -> Funds:
        """As ``Purse.take``, from the wallet's purse."""
        purse = self._by_wallet.get(wallet)
        if purse is None:
            if len(self._by_wallet) >= 1000:
                self._by_wallet = {
                    key: each for key, each in self._by_wallet.items() if not each.unused
                }
            purse = self._by_wallet.setdefault(wallet, Purse(wallet))
        return await purse.take(fee_base_units, call_seconds)

    async def aclose(self) -> None:
        """Gives every lease back."""
        purses, self._by_wallet = list(self._by_wallet.values()), {}
        await asyncio.gather(*(purse.empty() for purse in purses))


def _refused(refusal: leases.OutOfFunds, fee_base_units: int) -> Problem:
    page = f"{settings.SITE_URL}/account/balance"
    price = amount_document(fee_base_units)
    extra = {**refusal.extra, "price": price, "top_up": page}
    if refusal.by_day_limit:
        return Problem(
            refusal.code,
            refusal.detail,
            status=402,
            remedy=f"Raise the wallet's limit at {page}, or wait until midnight UTC.",
            retry_safe=True,
            extra=extra,
        )
    under_way = refusal.under_way_base_units
    held = f", {format_ifm(under_way)} of it held for calls under way" if under_way else ""
    return Problem(
        "insufficient-balance",
        f"The call costs {format_ifm(fee_base_units)}, and the balance is "
        f"{format_ifm(refusal.balance_base_units)}{held}. Nothing was charged.",
        status=402,
        remedy=f"Top up at {page}, or with `infra deposit`.",
        retry_safe=True,
        extra=extra,
    )
