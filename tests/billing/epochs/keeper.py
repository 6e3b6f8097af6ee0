"""A keeper of receipts over one plain table: what an epoch is made of, without a gateway."""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection

from billing.epochs import opening
from billing.epochs.models import Epoch
from billing.epochs.sources import Charge, Revenue, SignedBatch, SoFar
from billing.ledger.models import Account, Reason, Transfer
from billing.ledger.services import Posting, post, transfer_id
from inframind.lib import receipts, secp256k1
from inframind.lib.addresses import checksum_address
from inframind.lib.merkle import Tree

IFM = 10**18
_TABLE = """
    CREATE TABLE IF NOT EXISTS kept_receipt (
        id uuid PRIMARY KEY, epoch bigint, batch uuid, position int, time_us bigint,
        wallet text, owner text, operator text, model text, hidden boolean, node text,
        fee numeric(78, 0), version int, commitment bytea, batch_time bigint
    )
"""
_POSTED = """
    SELECT wallet, sum(fee) FROM kept_receipt
    WHERE epoch IN (SELECT number FROM epochs_epoch WHERE state IN ('open', 'closing'))
    GROUP BY wallet HAVING sum(fee) > 0
"""


def address(number: int) -> str:
    """An address for a number, the same each time."""
    return checksum_address(f"0x{number:040x}")


@dataclass(frozen=True)
class Kept:
    """One call that was served: who paid whom how much."""

    wallet: str
    owner: str
    operator: str
    model: str
    node: str
    fee: int
    version: int = 1
    hidden: bool = False


class Keeper:
    """A ``billing.epochs.sources.Receipts``. ``prepared`` and ``retired`` tell what was asked."""

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.retired: list[int] = []
        self.secrets: set[str] = set()  # subjects that are private now
        with connection.cursor() as cursor:
            cursor.execute(_TABLE)

    def prepare(self, epoch: int) -> None:
        self.prepared.append(epoch)

    def charges(self, epoch: int) -> Iterator[Charge]:
        for wallet, fees in _rows(
            "SELECT wallet, sum(fee) FROM kept_receipt WHERE epoch = %s GROUP BY wallet"
            " HAVING sum(fee) > 0",
            epoch,
        ):
            yield Charge(wallet, int(fees))

    def revenue(self, epoch: int) -> Iterator[Revenue]:
        for share, payee, subject, hidden in (
            ("owner", "owner", "'model:' || model", "hidden"),
            ("node", "operator", "'node:' || node", "false"),
        ):
            for row in _rows(
                f"SELECT {payee}, {subject}, {hidden}, version, count(*), sum(fee)"
                " FROM kept_receipt WHERE epoch = %s AND fee > 0 GROUP BY 1, 2, 3, 4",
                epoch,
            ):
                paid, what, is_hidden, version, calls, fees = row
                yield Revenue(paid, what, is_hidden, share, version, calls, int(fees))

    def batches(self, epoch: int) -> Iterator[SignedBatch]:
        rows = _rows(
            "SELECT batch, batch_time, array_agg(id ORDER BY position),"
            " array_agg(fee ORDER BY position), array_agg(commitment ORDER BY position)"
            " FROM kept_receipt WHERE epoch = %s GROUP BY 1, 2 ORDER BY 2, 1",
            epoch,
        )
        for batch, time_us, ids, fees, commitments in rows:
            leaves = tuple(
                (id.bytes, int(fee), bytes(each))
                for id, fee, each in zip(ids, fees, commitments, strict=True)
            )
            yield signed(epoch, batch, time_us, leaves)

    def so_far(self, epoch: int) -> SoFar:
        [(calls, fees)] = _rows(
            "SELECT count(*), coalesce(sum(fee), 0) FROM kept_receipt WHERE epoch = %s", epoch
        )
        return SoFar(int(calls), int(fees))

    def unposted(self) -> dict[str, int]:
        return {wallet: int(fees) for wallet, fees in _rows(_POSTED)}

    def secret(self, subjects: Collection[str]) -> set[str]:
        return self.secrets & set(subjects)

    def retire(self, epoch: int) -> None:
        self.retired.append(epoch)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM kept_receipt WHERE epoch = %s", [epoch])


def signed(
    epoch: int, batch: uuid.UUID, time_us: int, leaves: tuple[tuple[bytes, int, bytes], ...]
) -> SignedBatch:
    """The batch of these leaves, signed as the gateway does."""
    key = receipts.signing_key(settings.GATEWAY_KEY, settings.SECRET_KEY)
    tree = Tree.of([receipts.leaf(uuid.UUID(bytes=id), fee, each) for id, fee, each in leaves])
    fees = sum(fee for _, fee, _ in leaves)
    digest = receipts.batch_digest(
        root=tree.root,
        epoch=epoch,
        count=len(leaves),
        fees_base_units=fees,
        time_us=time_us,
        chain_id=settings.CHAIN_ID,
    )
    return SignedBatch(
        id=batch.bytes,
        root=tree.root,
        count=len(leaves),
        fees_base_units=fees,
        time_us=time_us,
        signer=secp256k1.address_of_key(key),
        signature=secp256k1.sign(key, digest),
        leaves=leaves,
    )


def fund(wallet: str, amount: int) -> None:
    """Gives a wallet a balance, as a deposit does; once for each amount."""
    post(
        [
            Posting(
                transfer_id("fund", wallet, str(amount)),
                "chain",
                f"wallet:{wallet}",
                amount,
                Reason.DEPOSIT,
            )
        ]
    )


def record(calls: Sequence[Kept], *, per_batch: int = 7, seed: int = 1) -> int:
    """Writes calls into the open epoch, paid from leases that have ended; returns its number.

    The same calls in the same epoch have the same ids and commitments in every run.
    """
    epoch = opening.current().number
    chance = random.Random(f"{seed}:{epoch}")
    rows = []
    for position, call in enumerate(calls):
        if position % per_batch == 0:
            batch = uuid.UUID(bytes=chance.randbytes(16))
        rows.append(
            (
                uuid.UUID(bytes=chance.randbytes(16)),
                epoch,
                batch,
                position % per_batch,
                call.wallet,
                call.owner,
                call.operator,
                call.model,
                call.hidden,
                call.node,
                call.fee,
                call.version,
                chance.randbytes(32),
                1_700_000_000_000_000 + position // per_batch,
            )
        )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO kept_receipt (id, epoch, batch, position, wallet, owner, operator, model,"
            " hidden, node, fee, version, commitment, batch_time)"
            f" VALUES ({', '.join(['%s'] * 14)})",
            rows,
        )
    spent: dict[str, int] = {}
    for call in calls:
        spent[call.wallet] = spent.get(call.wallet, 0) + call.fee
    for wallet, fees in spent.items():
        if fees:
            fund(wallet, 10**6 * IFM)
            charged = Account.objects.get(code=f"wallet:{wallet}").charged_base_units
            Account.objects.filter(code=f"wallet:{wallet}").update(
                charged_base_units=int(charged) + fees
            )
    return epoch


def books() -> dict[str, int]:
    """What every account has, by its code."""
    return {
        code: int(posted)
        for code, posted in Account.objects.values_list("code", "posted_base_units")
    }


def facts(number: int) -> tuple[object, ...]:
    """Everything that closing an epoch makes, but for the times: what runs are compared by."""
    epoch = Epoch.objects.get(number=number)
    transfers = Transfer.objects.filter(subject=f"epoch:{number}").order_by("pk")
    lines = epoch.lines.order_by("address", "stream_id", "share", "parameters_id")
    return (
        epoch.state,
        epoch.batch_count,
        epoch.receipt_count,
        int(epoch.revenue_base_units),
        bytes(epoch.receipts_root or b""),
        epoch.receipts_cid,
        None if epoch.root is None else bytes(epoch.root),
        epoch.tree_cid,
        epoch.leaf_count,
        int(epoch.total_base_units),
        bytes(epoch.tree.nodes),
        list(transfers.values_list("pk", "debit__code", "credit__code", "amount_base_units")),
        [
            (each.address, bytes(each.stream_id), each.share, each.parameters_id, each.calls,
             int(each.gross_base_units), int(each.amount_base_units))
            for each in lines
        ],
        books(),
    )  # fmt: skip


def _rows(query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
