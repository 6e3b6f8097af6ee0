"""Leases: funds that a process spends in memory, and gives back if it lives to do so.

A lease counts whole against its account while it lives. A batch of calls adds its fees to the
lease in the transaction that writes the calls' rows. At the lease's end what it spent is
``charged`` and the rest is the account's again; nothing has to be alive for that, since whoever
takes the next lease of the account brings back the expired ones, and so does the sweep.

Locks are taken in one order everywhere: accounts by id, then leases by id. Accounts are locked by a
statement of its own, for a statement sees what was committed when it began, not when its lock was
given. What is dead is judged by the transaction's time and what is live by the clock once its lock
is given, so that no lease is both. All times are the database's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from psycopg import AsyncConnection

from billing.ledger import codes
from billing.ledger.refusals import OutOfFunds
from inframind.lib.ids import new_uuid7

__all__ = ["Lease", "OutOfFunds", "charge_on", "end_on", "size_base_units", "sweep", "take_on"]

# So many leases' worth have to be there for a process to be given a whole one.
NEAR_THE_FLOOR: Final = 4
SWEPT_AT_ONCE: Final = 500

_LOCK_ACCOUNT: Final = """
    SELECT id FROM ledger_account WHERE code = %(code)s FOR NO KEY UPDATE
"""
_GIVE_BACK: Final = """
    , back AS (
        SELECT account.id, sum(ended.amount_base_units) AS amount,
               sum(ended.spent_base_units) AS spent,
               coalesce(
                   sum(ended.amount_base_units - ended.spent_base_units)
                       FILTER (WHERE ended.day = account.day),
                   0
               ) AS unspent_today
        FROM ended JOIN ledger_account account ON account.id = ended.account_id
        GROUP BY account.id
    ), given_back AS (
        UPDATE ledger_account account
        SET leased_base_units = account.leased_base_units - back.amount,
            charged_base_units = account.charged_base_units + back.spent,
            day_used_base_units = account.day_used_base_units - back.unspent_today
        FROM back WHERE account.id = back.id
    )
    SELECT count(*) FROM ended
"""
# A dead lease that a batch is being charged to at this moment is left to who comes next: a process
# that hangs in its transaction must not keep the account's other calls waiting.
_END_DEAD: Final = """
    , ended AS (
        DELETE FROM ledger_lease lease USING dead WHERE lease.id = dead.id
        RETURNING lease.account_id, lease.amount_base_units, lease.spent_base_units, lease.day
    )
"""
_END_DEAD_OF_ACCOUNT: Final = f"""
    WITH dead AS MATERIALIZED (
        SELECT id FROM ledger_lease
        WHERE account_id = (SELECT id FROM ledger_account WHERE code = %(code)s)
          AND expires_at <= now()
        ORDER BY id FOR UPDATE SKIP LOCKED
    ) {_END_DEAD} {_GIVE_BACK}
"""  # noqa: S608 - of constants
_END_DEAD_ONES: Final = f"""
    WITH dead AS MATERIALIZED (
        SELECT id FROM ledger_lease WHERE id = ANY(%(ids)s) AND expires_at <= now()
        ORDER BY id FOR UPDATE SKIP LOCKED
    ) {_END_DEAD} {_GIVE_BACK}
"""  # noqa: S608 - of constants
# A day that has begun goes on when the clock is set back: its limit holds once.
_STATE: Final = """
    SELECT account.id,
           posted_base_units - charged_base_units - spent.amount AS balance,
           posted_base_units - held_base_units - leased_base_units - charged_base_units
               - coalesce(floor_base_units, 0) AS available,
           leased_base_units - spent.amount AS under_way,
           day_limit_base_units,
           greatest(day, today) AS day,
           CASE WHEN day >= today THEN day_used_base_units ELSE 0 END AS day_used
    FROM ledger_account account
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(spent_base_units), 0) AS amount FROM ledger_lease
        WHERE account_id = account.id
    ) spent
    CROSS JOIN LATERAL (SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date AS today) clock
    WHERE code = %(code)s
"""
_TAKE: Final = """
    WITH taken AS (
        INSERT INTO ledger_lease (
            id, account_id, process, amount_base_units, spent_base_units, day, expires_at
        ) VALUES (
            %(id)s, %(account)s, %(process)s, %(amount)s, 0, %(day)s,
            statement_timestamp() + make_interval(secs => %(ttl_seconds)s)
        )
    )
    UPDATE ledger_account
    SET leased_base_units = leased_base_units + %(amount)s, day = %(day)s,
        day_used_base_units = %(day_used)s + %(amount)s
    WHERE id = %(account)s
"""
# Locks the leases in the order of their ids and charges them in a statement of its own after that.
_CHARGE: Final = "SELECT ledger_charge(%(ids)s::uuid[], %(amounts)s::numeric[])"
_LOCK_ACCOUNTS_OF: Final = """
    SELECT id FROM ledger_account
    WHERE id IN (SELECT account_id FROM ledger_lease WHERE id = ANY(%(ids)s))
    ORDER BY id FOR NO KEY UPDATE
"""
_LOCK_TO_END: Final = """
    SELECT id FROM ledger_lease WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
"""
_END: Final = f"""
    WITH ended AS (
        DELETE FROM ledger_lease WHERE id = ANY(%(ids)s)
        RETURNING account_id, amount_base_units, spent_base_units, day
    ) {_GIVE_BACK}
"""  # noqa: S608 - of constants
_NOTHING: Final = (None, 0, 0, 0, None, None, 0)  # the state of a wallet without account
_DEAD: Final = """
    SELECT id FROM ledger_lease WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """Funds to charge calls to, for ``ttl_seconds`` from when they were taken."""

    id: UUID
    amount_base_units: int
    ttl_seconds: float


def size_base_units(
    *,
    fee_base_units: int,
    calls: int,
    waiting: int,
    available_base_units: int,
    day_left_base_units: int | None,
) -> int:
    """How much a lease is given, a multiple of the fee: for ``calls`` calls as a rule.

    Where less than four such leases are there, or left of the day's limit, it is given for the
    calls that wait, as far as it lasts: nothing lies idle that another process could spend. 0:
    there is not enough for one call. Raises ``ValueError`` for what asks for nothing.
    """
    if fee_base_units <= 0 or calls < 1 or waiting < 1:
        raise ValueError("A lease is for at least one call that costs something.")
    room = available_base_units
    if day_left_base_units is not None:
        room = min(room, day_left_base_units)
    there = max(room, 0) // fee_base_units
    granted = min(waiting, there) if there < NEAR_THE_FLOOR * calls else calls
    return granted * fee_base_units


async def take_on(
    database: AsyncConnection[Any],
    *,
    wallet: str,
    process: str,
    fee_base_units: int,
    calls: int,
    waiting: int,
    ttl_seconds: float,
) -> Lease:
    """Leases funds of a wallet (checksummed address) to a process, of the size of the rule above.

    ``waiting`` calls are waiting for it. In two round trips. Raises ``OutOfFunds`` when the
    balance or the day's limit has not enough for one call.
    """
    whose = {"code": codes.wallet_code(wallet)}
    refused: OutOfFunds | None = None
    async with database.pipeline(), database.transaction():
        await database.execute(_LOCK_ACCOUNT, whose)
        await database.execute(_END_DEAD_OF_ACCOUNT, whose)
        cursor = await database.execute(_STATE, whose)
        row = await cursor.fetchone()
        account, balance, available, under_way, limit, day, used = row or _NOTHING
        amount = size_base_units(
            fee_base_units=fee_base_units,
            calls=calls,
            waiting=waiting,
            available_base_units=int(available),
            day_left_base_units=None if limit is None else int(limit) - int(used),
        )
        lease = Lease(new_uuid7(), amount, ttl_seconds)
        if amount:
            await database.execute(
                _TAKE,
                {
                    "id": lease.id,
                    "account": account,
                    "process": process[:60],
                    "amount": amount,
                    "day": day,
                    "day_used": used,
                    "ttl_seconds": float(ttl_seconds),
                },
            )
        else:
            refused = OutOfFunds(
                fee_base_units=fee_base_units,
                balance_base_units=int(balance),
                available_base_units=int(available),
                under_way_base_units=int(under_way),
                day_limit_base_units=None if limit is None else int(limit),
                day_used_base_units=int(used),
            )
    if refused is not None:
        raise refused
    return lease


async def charge_on(
    database: AsyncConnection[Any], charges: Sequence[tuple[UUID, int]]
) -> set[UUID]:
    """Adds amounts (base units) to what leases have spent; those that took all of theirs.

    Has to run in the transaction that writes the calls' rows. A lease that is gone, expired or too
    small takes nothing. In one round trip.
    """
    if not charges:
        return set()
    cursor = await database.execute(
        _CHARGE,
        {
            "ids": [lease for lease, _ in charges],
            "amounts": [amount for _, amount in charges],
        },
    )
    [(took,)] = await cursor.fetchall()
    return set(took)


async def end_on(database: AsyncConnection[Any], leases: Iterable[UUID]) -> None:
    """Ends leases before their time: what they have not spent is their accounts' at once.

    Those that are gone already stay gone.
    """
    parameters = {"ids": list(leases)}
    if not parameters["ids"]:
        return
    async with database.pipeline(), database.transaction():
        for statement in (_LOCK_ACCOUNTS_OF, _LOCK_TO_END, _END):
            await database.execute(statement, parameters)


def sweep() -> int:
    """Brings back every expired lease, in transactions of some hundred; how many."""
    swept = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_DEAD, {"limit": SWEPT_AT_ONCE})
            parameters = {"ids": [lease for (lease,) in cursor.fetchall()]}
            if not parameters["ids"]:
                return swept
            cursor.execute(_LOCK_ACCOUNTS_OF, parameters)
            cursor.execute(_END_DEAD_ONES, parameters)
            ended = int(cursor.fetchone()[0])
            swept += ended
        if ended < len(parameters["ids"]):
            return swept
