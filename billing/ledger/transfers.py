"""Transfers: whole batches in one statement, each id once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import connection

from billing.ledger import accounts
from billing.ledger.models import Reason, Transfer
from billing.ledger.refusals import malformed, transfer_differs

_NAMES: Final = uuid5(NAMESPACE_URL, "inframind:ledger")
_POST: Final = """
    WITH fresh AS (
        INSERT INTO ledger_transfer (id, debit_id, credit_id, amount_base_units, reason, subject)
        SELECT * FROM unnest(
            %(ids)s::uuid[], %(debits)s::bigint[], %(credits)s::bigint[], %(amounts)s::numeric[],
            %(reasons)s::text[], %(subjects)s::text[]
        ) AS asked (id, debit_id, credit_id, amount_base_units, reason, subject)
        ORDER BY id
        ON CONFLICT (id) DO NOTHING
        RETURNING debit_id, amount_base_units
    ), charged AS (
        UPDATE ledger_account account
        SET charged_base_units = account.charged_base_units - fees.amount
        FROM (
            SELECT debit_id, sum(amount_base_units) AS amount FROM fresh GROUP BY debit_id
        ) fees
        WHERE account.id = fees.debit_id AND %(charged)s
    )
    SELECT count(*) FROM fresh
"""


@dataclass(frozen=True, slots=True)
class Posting:
    """A transfer to be: ``amount_base_units`` (1 to 2**256 - 1) out of ``debit`` into ``credit``.

    Accounts are named by their codes. The id is the caller's: the same one is the same transfer.
    """

    id: UUID
    debit: str
    credit: str
    amount_base_units: int
    reason: Reason
    subject: str = ""


def transfer_id(*parts: str) -> UUID:
    """The same id for the same parts: what is done again after a crash is then done once."""
    return uuid5(_NAMES, "\0".join(parts))


def post(postings: Sequence[Posting], *, charged: bool = False) -> int:
    """Writes transfers, and opens the accounts that they name; how many were new.

    ``charged``: the debits are wallets whose calls were charged already, so what is new lowers
    their ``charged`` by as much in the same statement. Raises ``Problem``: 402
    ``insufficient-funds`` (``InsufficientFunds``), 409 ``transfer-differs`` for an id that has
    another content, 400 for what is no transfer. Then nothing is written.
    """
    asked: dict[UUID, Posting] = {}
    for each in postings:
        accounts.check(each.amount_base_units, each.debit, each.credit, each.subject)
        if charged and not each.debit.startswith("wallet:"):
            raise malformed(f"Only wallets are charged for calls, and {each.debit} is none.")
        if asked.setdefault(each.id, each) != each:
            raise transfer_differs(each.id)
    if not asked:
        return 0
    with accounts.moving(code for each in postings for code in (each.debit, each.credit)) as ids:
        return write(list(asked.values()), ids, charged=charged)


def write(postings: Sequence[Posting], ids: Mapping[str, int], *, charged: bool = False) -> int:
    """Writes transfers between accounts that are locked (code to id); how many were new.

    Raises ``Problem`` 409 ``transfer-differs``.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _POST,
            {
                "ids": [each.id for each in postings],
                "debits": [ids[each.debit] for each in postings],
                "credits": [ids[each.credit] for each in postings],
                "amounts": [each.amount_base_units for each in postings],
                "reasons": [str(each.reason) for each in postings],
                "subjects": [each.subject for each in postings],
                "charged": charged,
            },
        )
        new = int(cursor.fetchone()[0])
    if new < len(postings):
        kept = stored([each.id for each in postings])
        for each in postings:
            if kept[each.id] != each:
                raise transfer_differs(each.id)
    return new


def stored(ids: Sequence[UUID]) -> dict[UUID, Posting]:
    """Those transfers of these ids that are in the books."""
    rows = Transfer.objects.in_bulk(ids)
    names = accounts.codes_of(rows.values())
    return {
        each.pk: Posting(
            each.pk,
            names[each.debit_id],
            names[each.credit_id],
            int(each.amount_base_units),
            Reason(each.reason),
            each.subject,
        )
        for each in rows.values()
    }
