"""Books against chain against receipts: every difference with the row that has it.

The database is read as of one moment, the chain as of the block that was booked last then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import connection

from billing.epochs import reconciliation as epochs
from billing.epochs import sources
from billing.epochs.models import Epoch
from billing.ledger import codes
from billing.ledger import queries as ledger
from billing.ledger import reconciliation as books
from billing.ledger.reconciliation import Difference
from billing.payouts import booking, following, onchain
from billing.payouts.models import Cursor, Event
from inframind.chain import events
from inframind.chain.client import CallReverted, ChainUnavailable
from inframind.chain.contracts import Contracts, Totals

_OWED: Final = """
    WITH earned AS (
        SELECT 'owed:' || address || ':0x' || encode(stream_id, 'hex') AS code,
               cumulative_base_units AS amount
        FROM epochs_standing
    ), claimed AS (
        SELECT 'owed:' || account || ':0x' || encode(stream, 'hex') AS code,
               sum(amount_base_units) AS amount
        FROM payouts_event WHERE kind = 'claimed' GROUP BY account, stream
    ), expected AS (
        SELECT code, coalesce(earned.amount, 0) - coalesce(claimed.amount, 0) AS amount
        FROM earned FULL JOIN claimed USING (code)
    ), unsealed AS (
        SELECT 'owed:' || address || ':0x' || encode(stream_id, 'hex') AS code
        FROM epochs_line JOIN epochs_epoch epoch ON epoch.number = epoch_id
        WHERE epoch.state = 'closing'
    )
    SELECT code, coalesce(expected.amount, 0), coalesce(account.posted_base_units, 0)
    FROM expected
    FULL JOIN (SELECT * FROM ledger_account WHERE kind = 'owed') account USING (code)
    WHERE coalesce(expected.amount, 0) <> coalesce(account.posted_base_units, 0)
      AND code NOT IN (SELECT code FROM unsealed)
    ORDER BY code
"""
_WITHDRAWALS: Final = """
    SELECT withdrawal.id,
           CASE WHEN withdrawal.state = 'open' THEN withdrawal.amount_base_units ELSE 0 END,
           coalesce(hold.remaining_base_units, 0)
    FROM payouts_withdrawal withdrawal
    LEFT JOIN ledger_hold hold ON hold.id = withdrawal.hold_id
    WHERE coalesce(hold.remaining_base_units, 0)
        <> CASE WHEN withdrawal.state = 'open' THEN withdrawal.amount_base_units ELSE 0 END
    ORDER BY withdrawal.id
"""
_MOVED: Final = """
    SELECT moved.id, debit.code, credit.code, moved.amount_base_units, moved.subject
    FROM ledger_transfer moved
    JOIN ledger_account debit ON debit.id = moved.debit_id
    JOIN ledger_account credit ON credit.id = moved.credit_id
    WHERE 'chain' IN (debit.code, credit.code)
"""
_MONEY: Final = (Event.Kind.DEPOSITED, Event.Kind.CLAIMED, Event.Kind.WITHDRAWN)


class NotCompared(Exception):
    """The chain could not be asked, so that nothing is known to be right. Says why."""


@dataclass(frozen=True)
class _Books:
    """What the books say of the chain, as of one moment."""

    cursor: Cursor | None
    events: list[Event]
    roots: list[tuple[int, bytes, int]]  # epoch, root, total of those on chain
    chain: int  # what the chain's account owes, below zero


def differences() -> Iterator[Difference]:
    """Every difference. Raises ``NotCompared`` after those of the books, where a chain is
    configured and cannot be asked or was never read; a ``RuntimeError`` inside a transaction."""
    with books.snapshot():
        found = [
            *books.differences(sources.receipts().unposted()),
            *epochs.differences(),
            *_within_books(),
        ]
        told = _Books(
            Cursor.objects.filter(contract__iexact=settings.SETTLEMENT_ADDRESS).first(),
            list(Event.objects.order_by("block_number", "log_index")),
            [
                (number, bytes(root or b""), int(total))
                for number, root, total in Epoch.objects.filter(
                    state__in=[Epoch.State.PROPOSED, Epoch.State.CLAIMABLE]
                ).values_list("number", "root", "total_base_units")
            ],
            ledger.posted_of(codes.CHAIN),
        )
    yield from found
    if onchain.configured():
        if told.cursor is None:
            raise NotCompared(
                f"The chain could not be compared: no event of {settings.SETTLEMENT_ADDRESS} was "
                "ever read. The worker reads them; see that it runs and reaches ETH_RPC_URL."
            )
        try:
            yield from _against_chain(onchain.contracts(), told.cursor, told)
        except (ChainUnavailable, CallReverted) as error:
            raise NotCompared(f"The chain could not be compared: {error}.") from error


def _within_books() -> Iterator[Difference]:
    for code, expected, found in _rows(_OWED):
        yield Difference(code, "earned less claimed", int(expected), int(found))
    for withdrawal, expected, found in _rows(_WITHDRAWALS):
        yield Difference(f"withdrawal {withdrawal}", "its hold", int(expected), int(found))
    expected_transfers = {
        booking.posting_id(event): event
        for event in Event.objects.filter(kind__in=_MONEY, amount_base_units__gt=0)
    }
    undone: dict[str, int] = {}
    for pk, debit, credit, amount, subject in _rows(_MOVED):
        event = expected_transfers.pop(pk, None)
        if event is None:
            # A deposit that was undone after a reorganisation, and what undid it, come to nothing.
            key = subject.removeprefix("undone:")
            undone[key] = undone.get(key, 0) + int(amount) * (1 if debit == codes.CHAIN else -1)
            continue
        sides = _sides(event)
        if (debit, credit) != sides:
            yield Difference(f"transfer {pk}", f"from {sides[0]} to {sides[1]}", 1, 0)
        if amount != event.amount_base_units:
            yield Difference(
                f"transfer {pk}", "its event's amount", int(event.amount_base_units), int(amount)
            )
    for key, left in undone.items():
        if left:
            yield Difference(f"transfers of {key}", "without an event", 0, left)
    for pk, event in expected_transfers.items():
        yield Difference(
            f"event {event.pk} ({event.transaction_hash}, log {event.log_index})",
            f"its transfer {pk}",
            int(event.amount_base_units),
            0,
        )


def _sides(event: Event) -> tuple[str, str]:
    if event.kind == Event.Kind.DEPOSITED:
        return codes.CHAIN, codes.wallet_code(event.account)
    if event.kind == Event.Kind.CLAIMED:
        return codes.owed_code(event.account, bytes(event.stream or b"")), codes.CHAIN
    return codes.wallet_code(event.account), codes.CHAIN


def _against_chain(contracts: Contracts, cursor: Cursor, told: _Books) -> Iterator[Difference]:
    chain = contracts.chain
    chain.confirm_chain_id()
    block = chain.block(cursor.block_number)
    if block is None or block.hash != cursor.block_hash:
        yield Difference(f"cursor, block {cursor.block_number}", "the chain's block there", 1, 0)
        return
    if cursor.state == Cursor.State.HALTED:
        yield Difference("cursor", f"following ({cursor.reason})", 1, 0)
    first = max(1, settings.SETTLEMENT_BLOCK)
    logs = chain.logs(
        {contracts.ifm, contracts.settlement}, events.topics(), first, cursor.block_number
    )
    happened = following.read_all(contracts, logs)
    yield from _compare_events(happened, told.events)
    totals = contracts.totals(block)
    summed = _sums(told.events)
    for name in ("deposited", "claimed", "withdrawn"):
        expected, found = getattr(totals, name), getattr(summed, name)
        if expected != found:
            yield Difference(f"events {name}", "the contract's total", expected, found)
    held = totals.deposited - totals.claimed - totals.withdrawn
    if -told.chain != held:
        yield Difference("account chain", "what the contract holds", -held, told.chain)
    for number, root, total in told.roots:
        proposed = contracts.root_of(number, block)
        if proposed.root != root:
            yield Difference(f"epoch {number}", f"its root 0x{root.hex()} on chain", 1, 0)
        elif proposed.total != total:
            yield Difference(f"epoch {number}", "its total on chain", total, proposed.total)


def _compare_events(
    happened: Iterable[events.Happened], rows: Iterable[Event]
) -> Iterator[Difference]:
    kept = {(row.transaction_hash, row.log_index): row for row in rows}
    for each in happened:
        key = each.log.transaction_hash, each.log.index
        row = kept.pop(key, None)
        told = booking.event_of(each, booking.at(0))
        if row is None:
            yield Difference(
                f"event {each.name} ({key[0]}, log {key[1]})",
                "in the books",
                int(told.amount_base_units) or 1,
                0,
            )
            continue
        for field in _COMPARED:
            expected, found = _plain(getattr(told, field)), _plain(getattr(row, field))
            if expected == found:
                continue
            numbers = isinstance(expected, int) and isinstance(found, int)
            yield Difference(
                f"event {row.pk} ({key[0]}, log {key[1]})",
                field if numbers else f"{field} {expected}, not {found}",
                expected if numbers else 1,
                found if numbers else 0,
            )
    for key, row in kept.items():
        yield Difference(f"event {row.pk} ({key[0]}, log {key[1]})", "on chain", 1, 0)


_COMPARED: Final = (
    "kind",
    "account",
    "sender",
    "stream",
    "amount_base_units",
    "cumulative_base_units",
    "epoch_number",
    "root",
    "delegate",
    "block_number",
    "block_hash",
)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return "0x" + bytes(value).hex()
    return value if value is None or isinstance(value, str) else int(value)


def _sums(rows: Iterable[Event]) -> Totals:
    by_kind = dict.fromkeys(_MONEY, 0)
    for row in rows:
        kind = Event.Kind(row.kind)
        if kind in by_kind:
            by_kind[kind] += int(row.amount_base_units)
    return Totals(*by_kind.values())


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
