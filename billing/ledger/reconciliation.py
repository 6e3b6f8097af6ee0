"""The sums that are kept, worked out again from the facts: every difference by name, and a repair.

The facts are transfers, holds and their endings, leases, and the fees of calls that no epoch has
posted yet, which whoever keeps the calls hands in by wallet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError, connection, transaction

from billing.ledger import codes
from billing.ledger.models import Account
from billing.ledger.refusals import FLOOR, breaks, short_account

_FACTS: Final = """
    WITH sides AS (
        SELECT account_id, sum(amount) AS posted
        FROM (
            SELECT debit_id AS account_id, -amount_base_units AS amount FROM ledger_transfer
            UNION ALL
            SELECT credit_id, amount_base_units FROM ledger_transfer
        ) side
        GROUP BY account_id
    ), ended AS (
        SELECT hold_id, sum(amount_base_units) AS amount FROM ledger_holdending GROUP BY hold_id
    ), held AS (
        SELECT debit_id AS account_id,
               sum(hold.amount_base_units - coalesce(ended.amount, 0)) AS held
        FROM ledger_hold hold LEFT JOIN ended ON ended.hold_id = hold.id
        GROUP BY debit_id
    ), leases AS (
        SELECT account_id, sum(amount_base_units) AS leased, sum(spent_base_units) AS spent
        FROM ledger_lease GROUP BY account_id
    ), unposted AS (
        SELECT * FROM unnest(%(codes)s::text[], %(fees)s::numeric[]) AS handed_in (code, fees)
    ), facts AS (
        SELECT account.id, coalesce(posted, 0) AS posted, coalesce(held, 0) AS held,
               coalesce(leased, 0) AS leased, coalesce(fees, 0) - coalesce(spent, 0) AS charged
        FROM ledger_account account
        LEFT JOIN sides ON sides.account_id = account.id
        LEFT JOIN held ON held.account_id = account.id
        LEFT JOIN leases ON leases.account_id = account.id
        LEFT JOIN unposted ON unposted.code = account.code
    )
"""
_ACCOUNTS: Final = (
    _FACTS  # noqa: S608 - of constants
    + """
    SELECT account.code,
           facts.posted, posted_base_units, facts.held, held_base_units,
           facts.leased, leased_base_units, facts.charged, charged_base_units
    FROM ledger_account account JOIN facts ON facts.id = account.id
    WHERE (facts.posted, facts.held, facts.leased, facts.charged)
        IS DISTINCT FROM
        (posted_base_units, held_base_units, leased_base_units, charged_base_units)
    ORDER BY account.id
"""
)
_REBUILD_ACCOUNTS: Final = (
    _FACTS  # noqa: S608 - of constants
    + """
    UPDATE ledger_account account
    SET posted_base_units = facts.posted, held_base_units = facts.held,
        leased_base_units = facts.leased, charged_base_units = facts.charged
    FROM facts
    WHERE facts.id = account.id
      AND (facts.posted, facts.held, facts.leased, facts.charged)
        IS DISTINCT FROM
        (posted_base_units, held_base_units, leased_base_units, charged_base_units)
"""
)
_HOLDS: Final = """
    SELECT hold.id, hold.amount_base_units - coalesce(ended.amount, 0), remaining_base_units
    FROM ledger_hold hold
    LEFT JOIN (
        SELECT hold_id, sum(amount_base_units) AS amount FROM ledger_holdending GROUP BY hold_id
    ) ended ON ended.hold_id = hold.id
    WHERE hold.amount_base_units - coalesce(ended.amount, 0) <> remaining_base_units
    ORDER BY hold.id
"""
_REBUILD_HOLDS: Final = """
    UPDATE ledger_hold hold
    SET remaining_base_units = rest.amount
    FROM (
        SELECT each.id, each.amount_base_units - coalesce(sum(ended.amount_base_units), 0) AS amount
        FROM ledger_hold each LEFT JOIN ledger_holdending ended ON ended.hold_id = each.id
        GROUP BY each.id
    ) rest
    WHERE rest.id = hold.id AND rest.amount <> hold.remaining_base_units
"""
# A part of a hold that was settled moves what it ends, between the accounts of the hold.
_SETTLED: Final = """
    SELECT ended.id, ended.amount_base_units,
           CASE WHEN (moved.debit_id, moved.credit_id) = (hold.debit_id, hold.credit_id)
                THEN moved.amount_base_units ELSE 0 END
    FROM ledger_holdending ended
    JOIN ledger_hold hold ON hold.id = ended.hold_id
    JOIN ledger_transfer moved ON moved.id = ended.transfer_id
    WHERE (moved.debit_id, moved.credit_id, moved.amount_base_units)
        <> (hold.debit_id, hold.credit_id, ended.amount_base_units)
    ORDER BY ended.id
"""
_SUM: Final = "SELECT coalesce(sum(posted_base_units), 0) FROM ledger_account"
_NAMES: Final = ("posted", "held", "leased", "charged")


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that does not say what the facts do: which, of what, in base units."""

    row: str
    what: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.row}: {self.what} is {self.found}, and should be {self.expected}"


@contextmanager
def snapshot() -> Iterator[None]:
    """A transaction that sees one moment, whatever happens meanwhile; it only reads.

    Unposted fees and ``differences`` have to be of the same moment. Raises ``RuntimeError`` in a
    transaction.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def differences(unposted: Mapping[str, int]) -> Iterator[Difference]:
    """Every row whose kept sum differs from the facts, as they are when it is asked for.

    ``unposted``: fees by wallet address.
    """
    handed_in = _by_code(unposted)
    for code, *pairs in _rows(_ACCOUNTS, handed_in):
        for name, expected, found in zip(_NAMES, pairs[::2], pairs[1::2], strict=True):
            if expected != found:
                yield Difference(code, name, int(expected), int(found))
    known = set(Account.objects.filter(code__in=handed_in["codes"]).values_list("code", flat=True))
    for code, fees in zip(handed_in["codes"], handed_in["fees"], strict=True):
        if code not in known and fees:
            yield Difference(code, "charged", fees, 0)
    for hold, expected, found in _rows(_HOLDS):
        yield Difference(f"hold {hold}", "remaining", int(expected), int(found))
    for ending, expected, found in _rows(_SETTLED):
        yield Difference(f"ending {ending}", "transfer", int(expected), int(found))
    [(total,)] = _rows(_SUM)
    if total:
        yield Difference("all accounts", "posted", 0, int(total))


def rebuild(unposted: Callable[[], Mapping[str, int]]) -> int:
    """Writes every kept sum anew from the facts; how many rows were wrong.

    Nothing moves meanwhile: ``unposted`` (fees by wallet address) is asked once the books are
    locked. Raises ``Problem`` 402 ``insufficient-funds`` for an account that the facts have below
    its floor; then nothing is changed.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Accounts first, as everybody; a batch of calls that has charged its leases ends first.
            cursor.execute("LOCK TABLE ledger_account, ledger_lease IN EXCLUSIVE MODE")
            cursor.execute(
                "LOCK TABLE ledger_transfer, ledger_hold, ledger_holdending"
                " IN SHARE ROW EXCLUSIVE MODE"
            )
            cursor.execute("SET LOCAL ledger.rebuilding TO 'on'")
            cursor.execute(_REBUILD_HOLDS)
            mended = int(cursor.rowcount)
            cursor.execute(_REBUILD_ACCOUNTS, _by_code(unposted()))
            mended += int(cursor.rowcount)
            cursor.execute("SET LOCAL ledger.rebuilding TO ''")
            return mended
    except IntegrityError as error:
        if breaks(error) != FLOOR:
            raise
        raise short_account(error, dict(Account.objects.values_list("pk", "code"))) from error


def _by_code(unposted: Mapping[str, int]) -> dict[str, list[Any]]:
    return {
        "codes": [codes.wallet_code(address) for address in unposted],
        "fees": list(unposted.values()),
    }


def _rows(statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
