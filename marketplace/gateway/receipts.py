"""The calls as what they are to the books: charges, revenue and signed receipts, per epoch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, groupby
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Sum

from billing.epochs.sources import Charge, Revenue, SignedBatch, SoFar
from inframind.lib import receipts
from inframind.lib.amounts import amount_document
from inframind.lib.merkle import Tree
from marketplace.catalog.models import Model
from marketplace.gateway import partitions
from marketplace.gateway.models import Batch, Call
from marketplace.gateway.queries import Receipt

_READ_AT_ONCE: Final = 2_000
_MODEL: Final = "model:"

_CHARGES: Final = """
    SELECT wallet_id, sum(fee_base_units) FROM gateway_call
    WHERE epoch = %s AND fee_base_units > 0
    GROUP BY wallet_id ORDER BY wallet_id
"""
# Every fee once per share. A node that is gone is still known by its name, which is never given
# to another while calls of it are here.
_REVENUE: Final = """
    WITH paid AS (
        SELECT version_id, payout_address, operator_address, node_id, node_name,
               parameters_version, count(*) AS calls, sum(fee_base_units) AS fees
        FROM gateway_call WHERE epoch = %(epoch)s AND fee_base_units > 0
        GROUP BY 1, 2, 3, 4, 5, 6
    )
    SELECT paid.payout_address, 'model:' || model.name, NOT model.public, 'owner',
           parameters_version, sum(calls), sum(fees)
    FROM paid
    JOIN catalog_version version ON version.id = paid.version_id
    JOIN catalog_model model ON model.name = version.model_id
    GROUP BY 1, 2, 3, 4, 5
    UNION ALL
    SELECT operator_address, 'node:' || coalesce(node_id::text, node_name), false, 'node',
           parameters_version, sum(calls), sum(fees)
    FROM paid GROUP BY 1, 2, 3, 4, 5
    ORDER BY 1, 2, 4, 5
"""
_BATCHES: Final = """
    SELECT batch.id, batch.root, batch.leaves, batch.count, batch.fees_base_units, batch.time_us,
           batch.signer, batch.signature, call.id, call.fee_base_units, call.salt,
           version.model_id || '@' || version.number, version.cid, call.node_name, call.wallet_id,
           call.input_digest, call.output_digest, call.latency_us, call.outcome,
           call.parameters_version
    FROM gateway_call call
    JOIN gateway_batch batch ON batch.id = call.batch_id
    JOIN catalog_version version ON version.id = call.version_id
    WHERE call.epoch = %s
    ORDER BY batch.time_us, batch.id, call.batch_index
"""
# What was posted already is told by the transfers themselves: an epoch is posted wallet by wallet.
_UNPOSTED: Final = """
    WITH owed AS (
        SELECT call.wallet_id AS wallet, call.epoch, sum(call.fee_base_units) AS fees
        FROM gateway_call call
        JOIN epochs_epoch epoch ON epoch.number = call.epoch AND epoch.state IN ('open', 'closing')
        WHERE call.fee_base_units > 0
        GROUP BY call.wallet_id, call.epoch
    )
    SELECT wallet, sum(fees) FROM owed
    WHERE NOT EXISTS (
        SELECT FROM ledger_transfer transfer
        JOIN ledger_account debit ON debit.id = transfer.debit_id
        JOIN ledger_account credit ON credit.id = transfer.credit_id
        WHERE debit.code = 'wallet:' || owed.wallet AND credit.code = 'epoch:' || owed.epoch
          AND transfer.reason = 'charge'
    )
    GROUP BY wallet ORDER BY wallet
"""


class CallReceipts:
    """The ``billing.epochs.sources.Receipts`` of the gateway."""

    def prepare(self, epoch: int) -> None:
        """Makes the partitions of an epoch and, ahead of time, of the one after it."""
        partitions.prepare(epoch)
        partitions.prepare(epoch + 1)

    def charges(self, epoch: int) -> Iterator[Charge]:
        """What each wallet owes, ordered by wallet."""
        for wallet, fees in _rows(_CHARGES, [epoch]):
            yield Charge(wallet, int(fees))

    def revenue(self, epoch: int) -> Iterator[Revenue]:
        """Fees by payee: each model's for its owner's share, each node's for its operator's."""
        for address, subject, hidden, share, version, calls, fees in _rows(
            _REVENUE, {"epoch": epoch}
        ):
            yield Revenue(
                address=address,
                subject=subject,
                hidden=hidden,
                share=share,
                parameters_version=version,
                calls=int(calls),
                fees_base_units=int(fees),
            )

    def batches(self, epoch: int) -> Iterator[SignedBatch]:
        """The batches by time and id, worked out of the calls' rows and held against what was
        signed. Raises ``RuntimeError`` with the call's id where a row is not what it was."""
        # Read through a cursor of the server: an epoch does not fit into memory.
        with transaction.atomic(), connection.chunked_cursor() as cursor:
            cursor.execute(_BATCHES, [epoch])
            read = iter(lambda: cursor.fetchmany(_READ_AT_ONCE), [])
            for _, rows in groupby(chain.from_iterable(read), key=lambda row: row[0]):
                yield _signed(list(rows))

    def so_far(self, epoch: int) -> SoFar:
        """Calls and fees as the signed batches have them."""
        sums = Batch.objects.filter(epoch=epoch).aggregate(
            calls=Sum("count", default=0), fees=Sum("fees_base_units", default=0)
        )
        return SoFar(int(sums["calls"]), int(sums["fees"]))

    def unposted(self) -> dict[str, int]:
        """Fees per wallet that no transfer has taken from its account yet."""
        return {wallet: int(fees) for wallet, fees in _rows(_UNPOSTED, [])}

    def secret(self, subjects: Collection[str]) -> set[str]:
        """The models among these that are not public now."""
        named = {each.removeprefix(_MODEL): each for each in subjects if each.startswith(_MODEL)}
        public = Model.objects.filter(name__in=list(named), public=True)
        return set(named.values()) - {named[name] for name in public.values_list("name", flat=True)}

    def retire(self, epoch: int) -> None:
        """Lets an epoch's calls and batches go. Twice is as once."""
        with transaction.atomic():
            partitions.drop(epoch)
            Batch.objects.filter(epoch=epoch).delete()


def as_document(receipt: Receipt) -> dict[str, Any]:
    """The receipt as the API shows it and ``inframind.lib.receipts.verify`` checks it.

    Who called, the salt and the digests are in a whole receipt only: to others the commitments say
    nothing that they could not guess.
    """
    call, batch = receipt.call, receipt.batch
    document: dict[str, Any] = {
        "id": str(call.pk),
        "model": str(call.version),
        "cid": call.version.cid,
        "node": call.node_name or None,
        "outcome": call.outcome,
        "problem": call.problem_code or None,
        "attempts": call.attempts,
        "fee": amount_document(int(call.fee_base_units)),
        "latency_ms": call.latency_us / 1000,
        "node_latency_ms": call.node_latency_us / 1000,
        "created_at": call.created_at,
        "epoch": call.epoch if batch else None,
        "epoch_state": receipt.epoch_state,
        "parameters_version": call.parameters_version if batch else None,
        "whole": receipt.whole,
        **_proof_of(call, batch),
    }
    if receipt.whole:
        document |= {
            "caller": call.wallet_id,
            "linked": call.linked,
            "salt": _hex(call.salt) if batch else None,
            "input_digest": call.input_digest,
            "output_digest": call.output_digest or None,
        }
    return document


def _proof_of(call: Call, batch: Batch | None) -> dict[str, Any]:
    if batch is None:
        nothing = ("commitment", "input_commitment", "output_commitment", "leaf", "batch")
        return {**dict.fromkeys(nothing), "proof": []}
    salt, leaves = bytes(call.salt), bytes(batch.leaves)
    tree = Tree.of([leaves[at : at + 32] for at in range(0, len(leaves), 32)])
    committed = commitment_of(call, time_us=batch.time_us)
    hidden_output = receipts.output_commitment(salt, call.output_digest)
    return {
        "commitment": _hex(committed),
        "input_commitment": _hex(receipts.input_commitment(salt, call.input_digest)),
        "output_commitment": _hex(hidden_output) if call.output_digest else None,
        "leaf": _hex(receipts.leaf(call.pk, int(call.fee_base_units), committed)),
        "proof": [_hex(each) for each in tree.proof(call.batch_index)],
        "batch": {
            "id": str(batch.pk),
            "root": _hex(batch.root),
            "count": batch.count,
            "fees": amount_document(int(batch.fees_base_units)),
            "time": batch.time_us,
            "signer": batch.signer,
            "signature": _hex(batch.signature),
        },
    }


def _hex(octets: bytes | memoryview) -> str:
    return "0x" + bytes(octets).hex()


def commitment_of(call: Call, *, time_us: int) -> bytes:
    """What the call's receipt commits to; ``call.version`` has to be at hand."""
    return _commitment(
        salt=bytes(call.salt),
        model=str(call.version),
        cid=call.version.cid,
        node=call.node_name,
        caller=call.wallet_id,
        input_digest=call.input_digest,
        output_digest=call.output_digest,
        latency_us=call.latency_us,
        outcome=call.outcome,
        time_us=time_us,
        parameters_version=call.parameters_version,
    )


def _signed(rows: list[Any]) -> SignedBatch:
    batch_id, root, leaves, count, fees, time_us, signer, signature = rows[0][:8]
    told = []
    for index, row in enumerate(rows):
        (call_id, fee, salt, model, cid, node, caller, input_digest, output_digest, latency_us,
         outcome, parameters_version) = row[8:]  # fmt: skip
        committed = _commitment(
            salt=bytes(salt),
            model=model,
            cid=cid,
            node=node,
            caller=caller,
            input_digest=input_digest,
            output_digest=output_digest,
            latency_us=latency_us,
            outcome=outcome,
            time_us=time_us,
            parameters_version=parameters_version,
        )
        signed_leaf = bytes(leaves[32 * index : 32 * (index + 1)])
        if receipts.leaf(call_id, int(fee), committed) != signed_leaf:
            raise RuntimeError(
                f"The row of call {call_id} is not the one whose receipt was signed."
            )
        told.append((call_id.bytes, int(fee), committed))
    if len(told) != count or sum(fee for _, fee, _ in told) != fees:
        raise RuntimeError(f"Batch {batch_id} has not the rows whose receipts were signed.")
    return SignedBatch(
        id=batch_id.bytes,
        root=bytes(root),
        count=count,
        fees_base_units=int(fees),
        time_us=time_us,
        signer=signer,
        signature=bytes(signature),
        leaves=tuple(told),
    )


def _commitment(
    *,
    salt: bytes,
    model: str,
    cid: str,
    node: str,
    caller: str | None,
    input_digest: str,
    output_digest: str,
    latency_us: int,
    outcome: str,
    time_us: int,
    parameters_version: int,
) -> bytes:
    details = receipts.Details(
        model=model,
        cid=cid,
        node=node,
        caller=caller,
        input_commitment=receipts.input_commitment(salt, input_digest),
        output_commitment=receipts.output_commitment(salt, output_digest),
        latency_us=latency_us,
        outcome=outcome,
        time_us=time_us,
        parameters_version=parameters_version,
    )
    return receipts.commitment(salt, details.digest())


def _rows(statement: str, parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[Any] = cursor.fetchall()
    return found
