"""What epochs made, worked out again from what they were made of: every difference by its row.

Receipts give the revenue, revenue gives charges, lines and the treasury's rest, lines give what
everybody has earned, and that gives the trees. Each link of the chain is checked by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.db import connection
from django.db.models import QuerySet

from billing.epochs import sources
from billing.epochs.models import Epoch, Line, Tree
from billing.ledger import codes
from billing.ledger.models import Reason, Transfer
from billing.ledger.reconciliation import Difference
from inframind.lib import merkle, receipts

_UNSEALED: Final = (Epoch.State.OPEN, Epoch.State.CLOSING)
_SUMS: Final = """
    SELECT epoch.number, epoch.revenue_base_units, coalesce(drawn.amount, 0),
           coalesce(charged.amount, 0), coalesce(shared.amount, 0), coalesce(rest.amount, 0)
    FROM epochs_epoch epoch
    LEFT JOIN (
        SELECT epoch_id, sum(amount_base_units) AS amount FROM epochs_line GROUP BY epoch_id
    ) drawn ON drawn.epoch_id = epoch.number
    LEFT JOIN ledger_account account ON account.code = 'epoch:' || epoch.number
    LEFT JOIN LATERAL (
        SELECT sum(amount_base_units) AS amount FROM ledger_transfer
        WHERE credit_id = account.id AND reason = 'charge'
    ) charged ON true
    LEFT JOIN LATERAL (
        SELECT sum(amount_base_units) AS amount FROM ledger_transfer
        WHERE debit_id = account.id AND reason = 'share'
    ) shared ON true
    LEFT JOIN LATERAL (
        SELECT sum(amount_base_units) AS amount FROM ledger_transfer
        WHERE debit_id = account.id AND reason = 'rest'
    ) rest ON true
    WHERE epoch.state NOT IN ('open', 'closing')
    ORDER BY epoch.number
"""
_STANDINGS: Final = """
    WITH earned AS (
        SELECT address, stream_id, sum(amount_base_units) AS amount
        FROM epochs_line JOIN epochs_epoch epoch ON epoch.number = epoch_id
        WHERE state NOT IN ('open', 'closing')
        GROUP BY address, stream_id HAVING sum(amount_base_units) > 0
    ), standing AS (
        SELECT address, stream_id, cumulative_base_units - coalesce(unsealed.amount, 0) AS amount
        FROM epochs_standing
        LEFT JOIN (
            SELECT address, stream_id, epoch_id, sum(amount_base_units) AS amount
            FROM epochs_line JOIN epochs_epoch epoch ON epoch.number = epoch_id
            WHERE state = 'closing' GROUP BY address, stream_id, epoch_id
        ) unsealed USING (address, stream_id, epoch_id)
    ), paid AS (
        SELECT credit_id, sum(amount_base_units) AS amount FROM ledger_transfer
        WHERE reason = 'share'
          AND subject IN (
              SELECT 'epoch:' || number FROM epochs_epoch WHERE state NOT IN ('open', 'closing')
          )
        GROUP BY credit_id
    ), owed AS (
        SELECT split_part(code, ':', 2) AS address,
               decode(substr(split_part(code, ':', 3), 3), 'hex') AS stream_id, paid.amount
        FROM paid JOIN ledger_account account ON account.id = paid.credit_id
        WHERE account.kind = 'owed'
    )
    SELECT address, stream_id, coalesce(earned.amount, 0), coalesce(standing.amount, 0),
           coalesce(owed.amount, 0)
    FROM earned FULL JOIN standing USING (address, stream_id)
    FULL JOIN owed USING (address, stream_id)
    WHERE coalesce(earned.amount, 0) <> coalesce(standing.amount, 0)
       OR coalesce(earned.amount, 0) <> coalesce(owed.amount, 0)
    ORDER BY address, stream_id
"""


def differences() -> Iterator[Difference]:
    """Every row of sealed epochs that is not what the facts make it; amounts in base units.

    Reads on Django's connection; whoever wants one moment for all of it opens a snapshot first.
    """
    yield from _epochs()
    yield from _earned()
    yield from _trees()
    for epoch in sealed().filter(retired_at=None):
        yield from _receipts(epoch)


def sealed() -> QuerySet[Epoch]:
    """Every sealed epoch, the oldest first."""
    return Epoch.objects.exclude(state__in=_UNSEALED).order_by("number")


def _epochs() -> Iterator[Difference]:
    for number, *amounts in _rows(_SUMS):
        revenue, drawn, charged, shared, rest = map(int, amounts)
        row = f"epoch {number}"
        if charged != revenue:
            yield Difference(row, "charges posted", revenue, charged)
        if shared != drawn:
            yield Difference(row, "shares posted", drawn, shared)
        if drawn + rest != revenue:
            yield Difference(row, "lines and the treasury's rest", revenue, drawn + rest)


def _earned() -> Iterator[Difference]:
    for address, stream, *amounts in _rows(_STANDINGS):
        earned, standing, owed = map(int, amounts)
        row = f"{address} by 0x{bytes(stream).hex()}"
        if standing != earned:
            yield Difference(row, "standing", earned, standing)
        if owed != earned:
            yield Difference(row, "shares posted", earned, owed)


def _trees() -> Iterator[Difference]:
    """Builds every tree again from the lines up to its epoch, as a stranger would."""
    standing: dict[tuple[str, bytes], int] = {}
    for epoch in sealed():
        lines = Line.objects.filter(epoch=epoch).values_list(
            "address", "stream_id", "amount_base_units"
        )
        for address, stream, amount in lines.iterator(chunk_size=10_000):
            key = address, bytes(stream)
            standing[key] = standing.get(key, 0) + int(amount)
        values = [(*key, amount) for key, amount in standing.items() if amount]
        tree = merkle.Tree.of(merkle.leaves_of(values))
        row = f"epoch {epoch.number}"
        kept = Tree.objects.filter(epoch=epoch).values_list("nodes", flat=True).first()
        wrong = _differing(tree.nodes, bytes(kept or b""))
        if wrong:
            yield Difference(row, "nodes of the tree that are not as rebuilt", 0, wrong)
        if (bytes(epoch.root) if epoch.root else merkle.NO_ROOT) != tree.root:
            yield Difference(row, "roots that are not as rebuilt", 0, 1)
        if epoch.leaf_count != len(values):
            yield Difference(row, "leaves", len(values), epoch.leaf_count)
        total = sum(amount for *_, amount in values)
        if int(epoch.total_base_units) != total:
            yield Difference(row, "total of the leaves", total, int(epoch.total_base_units))


def _receipts(epoch: Epoch) -> Iterator[Difference]:
    """Holds receipts that are still here against the revenue and each wallet's charge."""
    row = f"epoch {epoch.number}"
    try:
        yield from _batches(epoch, row)
    except RuntimeError as error:
        # It names the call; the batches after it cannot be read.
        yield Difference(f"{row} ({error})", "receipts that are not as signed", 0, 1)
    yield from _charges(epoch, row)


def _batches(epoch: Epoch, row: str) -> Iterator[Difference]:
    batches = count = fees = 0
    leaves: list[bytes] = []
    for batch in sources.receipts().batches(epoch.number):
        found = sum(fee for _, fee, _ in batch.leaves)
        name = f"batch {batch.id.hex()}"
        if found != batch.fees_base_units:
            yield Difference(name, "fees of its receipts", batch.fees_base_units, found)
        if len(batch.leaves) != batch.count:
            yield Difference(name, "receipts", batch.count, len(batch.leaves))
        batches += 1
        count += batch.count
        fees += batch.fees_base_units
        leaves.append(receipts.epoch_leaf(batch.root, batch.count, batch.fees_base_units))
    if merkle.Tree.of(leaves).root != bytes(epoch.receipts_root or b""):
        yield Difference(row, "roots of its receipts that are not as published", 0, 1)
    for what, expected, found in (
        ("batches", epoch.batch_count, batches),
        ("receipts", epoch.receipt_count, count),
        ("fees of the batches", int(epoch.revenue_base_units), fees),
    ):
        if expected != found:
            yield Difference(row, what, expected, found)


def _charges(epoch: Epoch, row: str) -> Iterator[Difference]:
    owed = {
        charge.wallet: charge.fees_base_units for charge in sources.receipts().charges(epoch.number)
    }
    posted = {
        code.removeprefix("wallet:"): int(amount)
        for code, amount in Transfer.objects.filter(
            credit__code=codes.epoch_code(epoch.number), reason=Reason.CHARGE
        ).values_list("debit__code", "amount_base_units")
    }
    for wallet in sorted(owed.keys() | posted.keys()):
        if owed.get(wallet, 0) != posted.get(wallet, 0):
            yield Difference(
                f"wallet:{wallet}",
                f"charge of {row}",
                owed.get(wallet, 0),
                posted.get(wallet, 0),
            )


def _differing(one: bytes, other: bytes) -> int:
    """How many 32-byte nodes differ, those that only one side has included."""
    if one == other:
        return 0
    step = merkle.HASH_BYTES
    return sum(
        one[at : at + step] != other[at : at + step]
        for at in range(0, max(len(one), len(other)), step)
    )


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
