"""One transaction for the calls of a batch: their rows, their fees, their places, their keys.

The batch's id decides what is known. It is inserted with the rows, so a second try of a batch whose
commit got lost on the way either finds it there, or writes it for the first time.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import django.db
import psycopg
import structlog
from psycopg import errors
from psycopg_pool import PoolTimeout

from billing.epochs.services import open_epoch_on
from inframind.identity import meters
from inframind.lib import receipts
from inframind.lib.ids import new_uuid7
from marketplace.gateway import binary, keyed, lane
from marketplace.gateway.batches import Row, microseconds, parameters_of, sealed, write_on
from marketplace.gateway.lane import LOCK_SECONDS
from marketplace.mesh.asyncdb import connection

log = structlog.get_logger(__name__)

# So long a batch is tried again while the database does not answer.
RETRY_SECONDS: Final = 10.0
ALONE_AT_ONCE: Final = 3
_PAUSE_SECONDS: Final = 0.02
_PAUSE_MAX_SECONDS: Final = 0.5

_IS_THERE: Final = "SELECT EXISTS (SELECT FROM gateway_batch WHERE id = %s)"
_OUTCOMES: Final = "SELECT id, outcome FROM gateway_call WHERE id = ANY(%s) AND batch_id = %s"
_LOST: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    # What opens the first epoch goes by Django's connections.
    django.db.OperationalError,
    django.db.InterfaceError,
)
_PROBLEM_CODE: Final = "not-recorded"
_UNFIT: Final = (ValueError, TypeError, OverflowError)


class Fate(enum.Enum):
    """What became of a call that was to be written down."""

    WRITTEN = enum.auto()  # as it was handed in
    REFUSED = enum.auto()  # as refused and free, since its place or its key had ended
    LEASE_GONE = enum.auto()  # as refused and free, since its lease had
    FAILED = enum.auto()  # not at all: the database refuses it or does not answer
    UNKNOWN = enum.auto()  # the database stopped answering while it was committed


@dataclass(eq=False, slots=True)
class Entry:
    """A call with what hangs on its row: the lease it is charged to, the meters it is held
    against, the idempotency key it has."""

    row: Row
    lease_id: UUID | None = None
    meters: tuple[UUID, ...] = ()
    claim: keyed.Claim | None = None
    answer: bytes | None = field(default=None, repr=False)  # sealed, of a served call with a key
    head: bytes | None = field(default=None, repr=False)  # its receipt's, once it was prepared

    def prepare(self) -> None:
        """Does what needs no batch, so that it is done while another batch is under way."""
        # What no receipt can be made of is found again with its batch, and refused alone there.
        with suppress(*_UNFIT):
            self.head = receipts.head_of(self.row)

    @property
    def served(self) -> bool:
        return self.row.outcome == "served"


class _Gone(Exception):
    """What was held for some calls had ended: the batch is tried again with those refused."""

    def __init__(self, calls: Mapping[UUID, Fate]) -> None:
        super().__init__()
        self.calls = calls


@dataclass(eq=False, slots=True)
class _Batch:
    entries: Sequence[Entry]
    id: UUID = field(default_factory=new_uuid7)
    refused: dict[UUID, Fate] = field(default_factory=dict)
    sent: bool = False  # a commit of it may have arrived

    def written(self) -> list[Fate]:
        if not self.refused:
            return [Fate.WRITTEN] * len(self.entries)
        return [self.refused.get(each.row.call_id, Fate.WRITTEN) for each in self.entries]

    def lost(self) -> list[Fate]:
        """What is known when the database is given up on. A free call cannot have been charged."""
        return [
            Fate.UNKNOWN if self.sent and each.row.fee_base_units else Fate.FAILED
            for each in self.entries
        ]


async def commit(entries: Sequence[Entry]) -> list[Fate]:
    """Writes the calls in one transaction, or one by one where one of them cannot be written.

    Returns the fate of each, in their order. Durable once it returns.
    """
    batch = _Batch(entries)
    deadline = time.monotonic() + RETRY_SECONDS
    pause_seconds = _PAUSE_SECONDS
    while True:
        sent_before = batch.sent
        reason: Exception
        try:
            await _write(batch)
            return batch.written()
        except _Gone as gone:
            batch.refused |= gone.calls
            continue
        except _UNFIT as error:
            # No receipt can be made of one of the rows.
            return await _apart(batch, error)
        except psycopg.Error as error:
            if _rolled_back(error):
                batch.sent = sent_before
            if isinstance(error, errors.LockNotAvailable) and len(entries) > 1 and not batch.sent:
                # One call waits for somebody's lock, and the others need not.
                return await _apart(batch, error)
            if not isinstance(error, _LOST):
                fates = await _after_refusal(batch, error)
                if fates is not None:
                    return fates
            reason = error
        except _LOST as error:
            reason = error
        if time.monotonic() >= deadline:
            log.error(
                "calls not recorded", batch=str(batch.id), calls=len(entries), reason=repr(reason)
            )
            return batch.lost()
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(_PAUSE_MAX_SECONDS, pause_seconds * 2)


async def _write(batch: _Batch) -> None:
    here = lane.here()
    fees = _fees(batch.entries)
    if _is_plain(batch, fees) and not here.busy and here.guess() is not None:
        sent_before = batch.sent
        try:
            await _write_in_one_go(batch, here, fees)
            return
        except lane.Refused:
            batch.sent = sent_before
    await _write_in_steps(batch, here)


def _is_plain(batch: _Batch, fees: Mapping[UUID, int]) -> bool:
    """Whether nothing but leases hangs on the calls, and nothing is known against any of them."""
    return not (
        batch.refused
        or any(each.meters or each.claim is not None for each in batch.entries)
        or _without_lease(batch.entries, fees.keys())
    )


async def _write_in_one_go(batch: _Batch, here: lane.Lane, fees: Mapping[UUID, int]) -> None:
    """Has it written by one statement, for what is guessed to hold. Raises ``lane.Refused``."""
    await here.open()
    guess = here.guess()
    if guess is None:
        raise lane.Refused
    rows = [each.row for each in batch.entries]
    heads = [each.head for each in batch.entries if each.head is not None]
    made = sealed(
        batch.id,
        rows,
        epoch=guess.epoch,
        parameters_version=guess.parameters_version,
        time_us=guess.time_us,
        heads=heads if len(heads) == len(rows) else None,
    )
    leases = sorted(fees)
    parameters = [
        binary.uuids(leases),
        binary.numerics([fees[each] for each in leases]),
        *parameters_of(made, rows),
    ]
    # From here on its commit is on the way, whatever comes back.
    batch.sent = True
    await here.record(parameters)


async def _write_in_steps(batch: _Batch, here: lane.Lane) -> None:
    # A pipeline's transaction context waits for its own BEGIN and COMMIT; these two go with their
    # neighbours, and the pool rolls back what is not committed when it takes the connection back.
    async with connection() as database, database.pipeline():
        await database.execute("BEGIN", prepare=True)
        live = [each for each in batch.entries if each.row.call_id not in batch.refused]
        fees = _fees(live)
        epoch, parameters_version, at, took = await open_epoch_on(
            database, sorted(fees.items()), lock_seconds=LOCK_SECONDS
        )
        time_us = microseconds(at)
        here.learn(epoch, parameters_version, time_us)
        no_lease = _without_lease(live, took)
        no_place = await meters.settle_on(
            database,
            [
                meters.Settlement(
                    each.meters,
                    each.row.call_id,
                    each.served and each.row.call_id not in batch.refused,
                    each.row.fee_base_units,
                )
                for each in batch.entries
                if each.meters
            ],
        )
        no_key = await keyed.end_on(
            database,
            [
                keyed.Ending(each.claim, None if each.row.call_id in batch.refused else each.answer)
                for each in batch.entries
                if each.claim is not None
            ],
        )
        if no_lease or no_place or no_key:
            raise _Gone(
                dict.fromkeys(no_place | no_key, Fate.REFUSED)
                | dict.fromkeys(no_lease, Fate.LEASE_GONE)
            )
        rows = [
            each.row.refused(_PROBLEM_CODE) if each.row.call_id in batch.refused else each.row
            for each in batch.entries
        ]
        made = sealed(
            batch.id, rows, epoch=epoch, parameters_version=parameters_version, time_us=time_us
        )
        # From here on its commit is on the way, whatever comes back.
        batch.sent = True
        await write_on(database, made, rows)
        await database.execute("COMMIT", prepare=True)


def _fees(entries: Sequence[Entry]) -> dict[UUID, int]:
    """What is charged to each lease, in base units."""
    fees: defaultdict[UUID, int] = defaultdict(int)
    for each in entries:
        if each.lease_id is not None and each.row.fee_base_units:
            fees[each.lease_id] += each.row.fee_base_units
    return fees


def _without_lease(entries: Sequence[Entry], took: Collection[UUID]) -> frozenset[UUID]:
    """The calls that cost something and whose lease did not take it, or that have none."""
    return frozenset(
        each.row.call_id
        for each in entries
        if each.row.fee_base_units and each.lease_id not in took
    )


def _rolled_back(error: psycopg.Error) -> bool:
    """Whether it is known that the transaction failed, and did not get lost on the way."""
    if not isinstance(error, _LOST):
        return True
    state = error.sqlstate or ""
    return state != "" and not state.startswith(("08", "57P"))


async def _after_refusal(batch: _Batch, error: psycopg.Error) -> list[Fate] | None:
    """What to make of a batch that the database does not take; None: try it again."""
    try:
        async with connection() as database:
            cursor = await database.execute(_IS_THERE, (batch.id,))
            [(is_there,)] = await cursor.fetchall()
            if is_there:
                return await _as_written(database, batch)
    except _LOST:
        return None
    # A commit of it that may still arrive must not meet the same calls under other ids.
    return None if batch.sent else await _apart(batch, error)


async def _as_written(database: psycopg.AsyncConnection, batch: _Batch) -> list[Fate]:
    """The fates by the rows of a batch whose commit had arrived, though its answer had not."""
    ids = [each.row.call_id for each in batch.entries]
    cursor = await database.execute(_OUTCOMES, (ids, batch.id))
    outcomes: dict[UUID, str] = dict(await cursor.fetchall())
    return [
        Fate.WRITTEN if outcomes[each.row.call_id] == each.row.outcome else Fate.REFUSED
        for each in batch.entries
    ]


async def _apart(batch: _Batch, error: Exception) -> list[Fate]:
    """Each call on its own, since one of them cannot be written; that one fails alone."""
    if len(batch.entries) == 1:
        row = batch.entries[0].row
        log.error("call not recorded", call=str(row.call_id), reason=repr(error))
        return [Fate.FAILED]
    log.warning("calls recorded one by one", batch=str(batch.id), reason=repr(error))
    some = asyncio.Semaphore(ALONE_AT_ONCE)

    async def alone(entry: Entry) -> Fate:
        async with some:
            [fate] = await commit([entry])
            return fate

    return list(await asyncio.gather(*(alone(each) for each in batch.entries)))
