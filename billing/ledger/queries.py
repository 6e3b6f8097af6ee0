"""Reading the books. Nothing here locks, so what it says may have moved on when it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection

from billing.ledger import codes
from billing.ledger.models import Account, Reason
from inframind.lib.problem import not_found

# Leases that have expired and were not brought back yet count as if they were.
_BALANCE: Final = """
    SELECT posted_base_units - charged_base_units - spent,
           posted_base_units - held_base_units - charged_base_units - spent - under_way
               - coalesce(floor_base_units, 0),
           held_base_units, under_way, charged_base_units + spent, day_limit_base_units,
           CASE WHEN day >= today THEN day_used_base_units - coalesce(day_back, 0) ELSE 0 END
    FROM ledger_account account
    CROSS JOIN LATERAL (SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date AS today) clock
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(lease.spent_base_units), 0) AS spent,
               coalesce(
                   sum(lease.amount_base_units - lease.spent_base_units)
                       FILTER (WHERE lease.expires_at > statement_timestamp()),
                   0
               ) AS under_way,
               sum(lease.amount_base_units - lease.spent_base_units)
                   FILTER (
                       WHERE lease.expires_at <= statement_timestamp() AND lease.day = account.day
                   ) AS day_back
        FROM ledger_lease lease WHERE lease.account_id = account.id
    ) leases
    WHERE code = %(code)s
"""
_ENTRIES: Final = """
    SELECT entry.id, entry.created_at, entry.amount, entry.reason, entry.subject, other.code
    FROM (
        (
            SELECT id, created_at, -amount_base_units AS amount, reason, subject,
                   credit_id AS other_id
            FROM ledger_transfer
            WHERE debit_id = %(account)s AND (created_at, id) < (%(at)s, %(id)s)
            ORDER BY created_at DESC, id DESC LIMIT %(limit)s
        ) UNION ALL (
            SELECT id, created_at, amount_base_units, reason, subject, debit_id
            FROM ledger_transfer
            WHERE credit_id = %(account)s AND (created_at, id) < (%(at)s, %(id)s)
            ORDER BY created_at DESC, id DESC LIMIT %(limit)s
        )
    ) entry
    JOIN ledger_account other ON other.id = entry.other_id
    ORDER BY entry.created_at DESC, entry.id DESC LIMIT %(limit)s
"""
_CURSOR: Final = """
    SELECT created_at FROM ledger_transfer
    WHERE id = %(id)s AND %(account)s IN (debit_id, credit_id)
"""
_END_OF_TIME: Final = {"at": "infinity", "id": UUID(int=2**128 - 1)}


@dataclass(frozen=True, slots=True)
class Balance:
    """A wallet's money, in base units.

    balance: what it has, less every call that was recorded. available: what of that is neither
    held nor leased. held: set aside for somebody. under_way: leased by processes for calls and not
    spent yet. charged_unposted: calls that no closed epoch has posted yet; they are off the balance
    already. day_used: what of the day's limit (None: there is none) is taken today (UTC).
    """

    balance_base_units: int = 0
    available_base_units: int = 0
    held_base_units: int = 0
    under_way_base_units: int = 0
    charged_unposted_base_units: int = 0
    day_limit_base_units: int | None = None
    day_used_base_units: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A transfer as one account sees it: ``amount_base_units`` is below zero for what left it.

    ``other`` is the code of the account at the other end.
    """

    id: UUID
    at: datetime
    amount_base_units: int
    reason: Reason
    subject: str
    other: str


def balance_of(address: str) -> Balance:
    """A wallet's money; zeros for one that never had any. Raises ``ValueError`` for no address."""
    rows = _rows(_BALANCE, {"code": codes.wallet_code(address)})
    if not rows:
        return Balance()
    balance, available, held, under_way, charged, limit, used = rows[0]
    return Balance(
        int(balance),
        int(available),
        int(held),
        int(under_way),
        int(charged),
        None if limit is None else int(limit),
        int(used),
    )


def entries_of(address: str, *, before: UUID | None = None, limit: int = 50) -> list[Entry]:
    """The transfers of a wallet's account, newest first; those before the one of id ``before``.

    Raises ``Problem`` 404 where ``before`` is no transfer of the wallet, ``ValueError`` for no
    address.
    """
    account = Account.objects.filter(code=codes.wallet_code(address)).values_list("pk").first()
    place: dict[str, Any] = dict(_END_OF_TIME)
    if before is not None:
        found = account and _rows(_CURSOR, {"id": before, "account": account[0]})
        if not found:
            raise not_found("such entry", "Begin at the newest again.")
        place = {"at": found[0][0], "id": before}
    if account is None:
        return []
    rows = _rows(_ENTRIES, {**place, "account": account[0], "limit": limit})
    return [
        Entry(pk, at, int(amount), Reason(reason), subject, other)
        for pk, at, amount, reason, subject, other in rows
    ]


def posted_of(code: str) -> int:
    """The sum of an account's transfers, in base units; 0 for one that does not exist."""
    posted = Account.objects.filter(code=code).values_list("posted_base_units", flat=True).first()
    return int(posted or 0)


def _rows(statement: str, parameters: dict[str, Any]) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        return rows
