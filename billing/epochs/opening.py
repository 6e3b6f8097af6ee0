"""The open epoch and the parameters in force: found, or made where there are none yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max
from psycopg import AsyncConnection

from billing.epochs import signals, sources
from billing.epochs.models import Epoch, Parameters

FIRST_NODE_BASIS_POINTS: Final = 3_000
FIRST_OWNER_BASIS_POINTS: Final = 6_000
FIRST_EPOCH_SECONDS: Final = 7 * 86_400

# Any number that nothing else in this database locks.
_OPENING_LOCK: Final = 0x1F3A_0001
# Shared by the transactions that write calls, alone for the one that closes. A row's share lock
# would let them overlap for ever and the closer never come in; this one has a queue. The number is
# written in the function ``epochs_enter`` too.
_ENTERING_LOCK: Final = 0x1F3A_0002
_ENTER: Final = """
    SELECT number, parameters_version, at, took
    FROM epochs_enter(%(leases)s::uuid[], %(amounts)s::numeric[], %(lock_seconds)s::int)
"""
# One try for each epoch that may be closed between a statement's start and its lock; more in a row
# would be a closer gone wild.
_TRIES: Final = 16


def current() -> Epoch:
    """The open epoch; number 1, with parameters version 1, where there never was one."""
    found = Epoch.objects.filter(state=Epoch.State.OPEN).first()
    if found is not None:
        return found
    with transaction.atomic():
        alone()
        found = Epoch.objects.filter(state=Epoch.State.OPEN).first()
        if found is not None:
            return found
        last = Epoch.objects.aggregate(last=Max("number"))["last"]
        return open_next((last or 0) + 1, at=database_time())


class Entered(NamedTuple):
    """The epoch that calls are written to, the parameters' version for them, and the time; the
    leases that took all of what was charged to them."""

    number: int
    parameters_version: int
    at: datetime
    took: frozenset[UUID] = frozenset()


async def open_epoch_on(
    database: AsyncConnection[Any],
    charges: Sequence[tuple[UUID, int]] = (),
    *,
    lock_seconds: int | None = None,
) -> Entered:
    """The open epoch, for calls that are about to be written, once their leases are charged.

    Has to run inside the transaction that writes them: until it ends the epoch cannot close.
    ``charges`` (base units) are as ``leases.charge_on`` takes them. ``lock_seconds`` is how long
    the transaction waits for any lock from here on; None: as the connection does. One statement, in
    one round trip. Opens the first epoch where there is none. Raises ``RuntimeError`` where none
    stays open.
    """
    took: frozenset[UUID] = frozenset()
    for _ in range(_TRIES):
        cursor = await database.execute(
            _ENTER,
            {
                "leases": [lease for lease, _ in charges],
                "amounts": [amount for _, amount in charges],
                "lock_seconds": lock_seconds,
            },
            prepare=True,
        )
        number, version, at, took_now = await cursor.fetchone() or (None, None, None, ())
        # Charged once, however often an epoch is looked for.
        took, charges = took.union(took_now), ()
        if number is not None and version is not None and at is not None:
            return Entered(number, version, at, took)
        await asyncio.to_thread(_current_elsewhere)
    raise RuntimeError("No epoch stays open: something closes each as soon as it is opened.")


def open_next(number: int, *, at: datetime) -> Epoch:
    """Opens an epoch that lasts as long as the latest parameters say, inside a transaction only."""
    sources.receipts().prepare(number)
    epoch = Epoch.objects.create(
        number=number,
        state=Epoch.State.OPEN,
        opened_at=at,
        ends_at=at + timedelta(seconds=latest_parameters().epoch_seconds),
    )
    transaction.on_commit(
        lambda: signals.epoch_opened.send_robust(sender=Epoch, number=number), robust=True
    )
    return epoch


def database_time() -> datetime:
    """The time of the database, the only clock that epochs go by."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        at: datetime = cursor.fetchone()[0]
    return at


def latest_parameters() -> Parameters:
    """The version in force, the first one made where there is none."""
    latest = Parameters.objects.order_by("-version").first()
    if latest is not None:
        return latest
    Parameters.objects.bulk_create(
        [
            Parameters(
                version=1,
                node_basis_points=FIRST_NODE_BASIS_POINTS,
                owner_basis_points=FIRST_OWNER_BASIS_POINTS,
                epoch_seconds=FIRST_EPOCH_SECONDS,
                reason="As it began",
            )
        ],
        ignore_conflicts=True,
    )
    return Parameters.objects.order_by("-version")[0]


def let_nobody_in() -> None:
    """Waits until no transaction writes calls, and keeps new ones waiting until this one ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ENTERING_LOCK])


def alone() -> None:
    """Lets one transaction at a time open an epoch or change parameters, until it ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_OPENING_LOCK])


def _current_elsewhere() -> None:
    try:
        current()
    finally:
        connection.close()
