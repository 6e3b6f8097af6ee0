"""What is published of an epoch, written piece by piece: its receipts, and its tree."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final
from uuid import UUID

from django.conf import settings

from billing.epochs.models import Parameters
from billing.epochs.sources import SignedBatch
from inframind.lib import receipts, secp256k1
from inframind.lib.merkle import Tree
from inframind.lib.problem import Problem
from inframind.storage import dumps

RECEIPTS_FORMAT: Final = "inframind-receipts-v1"
TREE_FORMAT: Final = "standard-v1"
LEAF_ENCODING: Final = ("address", "bytes32", "uint256")
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class KeptReceipts:
    """An epoch's receipts as they were published: how many, how much, and under which root."""

    batches: int
    count: int
    fees_base_units: int
    root: bytes
    cid: str


@dataclass(frozen=True)
class TreeLine:
    """A line as the tree's dump tells it."""

    account: str
    stream: bytes
    share: str
    parameters: int
    gross: int
    amount: int
    calls: int


def keep_receipts(epoch: int, batches: Iterable[SignedBatch]) -> KeptReceipts:
    """Checks an epoch's batches, publishes them as JSON Lines and says what they come to.

    Raises a 409 ``Problem`` for a batch that its receipts do not bear out, StoreUnavailable.
    """
    leaves: list[bytes] = []
    count = fees = 0
    signer = ""
    with tempfile.TemporaryFile() as body:
        for batch in batches:
            _check(epoch, batch)
            body.write(_batch_line(batch))
            leaves.append(receipts.epoch_leaf(batch.root, batch.count, batch.fees_base_units))
            count += batch.count
            fees += batch.fees_base_units
            signer = batch.signer
        root = Tree.of(leaves).root
        header = {
            "format": RECEIPTS_FORMAT,
            "epoch": epoch,
            "chain_id": settings.CHAIN_ID,
            "signer": signer or _signer(),
            "batches": len(leaves),
            "count": count,
            "fees": str(fees),
            "root": _hex(root),
        }
        with tempfile.TemporaryFile() as dump:
            dump.write(_json(header) + b"\n")
            body.seek(0)
            while piece := body.read(_COPY_BYTES):
                dump.write(piece)
            cid = dumps.add(dump, name=f"receipts-{epoch}.jsonl")
    return KeptReceipts(len(leaves), count, fees, root, cid)


def keep_tree(
    tree: Tree,
    values: Sequence[tuple[str, bytes, int]],
    lines: Iterable[TreeLine],
    parameters: Iterable[Parameters],
    facts: Mapping[str, Any],
) -> str:
    """Publishes a tree as OpenZeppelin's dump with ``facts`` beside it; returns its CID.

    ``values``: account, stream and cumulative amount, by the tree's positions. Raises
    StoreUnavailable.
    """
    with tempfile.TemporaryFile() as dump:
        dump.write(b'{"format":%b' % _json(TREE_FORMAT))
        dump.write(b',"leafEncoding":%b' % _json(list(LEAF_ENCODING)))
        for name, fact in facts.items():
            dump.write(b",%b:%b" % (_json(name), _json(fact)))
        used = [
            {
                "version": each.version,
                "node_bps": each.node_basis_points,
                "owner_bps": each.owner_basis_points,
            }
            for each in parameters
        ]
        dump.write(b',"parameters":%b' % _json(used))
        _write_list(dump, "tree", (f'"0x{node.hex()}"' for node in tree.heap))
        _write_list(
            dump,
            "values",
            (
                f'{{"value":["{account}","0x{stream.hex()}","{cumulative}"],"treeIndex":{index}}}'
                for (account, stream, cumulative), index in zip(values, tree.indexes, strict=True)
            ),
        )
        _write_list(dump, "lines", map(_line, lines))
        dump.write(b"}\n")
        return dumps.add(dump, name=f"tree-{facts['epoch']}.json")


def _check(epoch: int, batch: SignedBatch) -> None:
    fees = sum(fee for _, fee, _ in batch.leaves)
    tree = Tree.of([receipts.leaf(UUID(bytes=id), fee, each) for id, fee, each in batch.leaves])
    if (len(batch.leaves), fees, tree.root) != (batch.count, batch.fees_base_units, batch.root):
        raise Problem(
            "epoch-does-not-add-up",
            f"Batch {_uuid(batch.id)} of epoch {epoch} was signed for {batch.count} receipts of "
            f"{batch.fees_base_units} base units under {_hex(batch.root)}; there are "
            f"{len(batch.leaves)} of {fees} under {_hex(tree.root)}.",
            status=409,
            remedy="The epoch stays closing and nobody is paid. Run reconcile, put the receipts "
            "of this batch right from a backup, and close the epoch again.",
        )


def _batch_line(batch: SignedBatch) -> bytes:
    entries = ",".join(
        f'["{_uuid(id)}","{fee}","0x{committed.hex()}"]' for id, fee, committed in batch.leaves
    )
    return (
        f'{{"id":"{_uuid(batch.id)}","root":"{_hex(batch.root)}","count":{batch.count},'
        f'"fees":"{batch.fees_base_units}","time":{batch.time_us},'
        f'"signature":"{_hex(batch.signature)}","signer":"{batch.signer}",'
        f'"receipts":[{entries}]}}\n'
    ).encode()


def _line(line: TreeLine) -> str:
    return (
        f'{{"account":"{line.account}","stream":"{_hex(line.stream)}","share":"{line.share}",'
        f'"parameters":{line.parameters},"gross":"{line.gross}","amount":"{line.amount}",'
        f'"calls":{line.calls}}}'
    )


def _write_list(dump: IO[bytes], name: str, entries: Iterator[str]) -> None:
    dump.write(b",%b:[" % _json(name))
    separator = b"\n"
    for entry in entries:
        dump.write(separator + entry.encode())
        separator = b",\n"
    dump.write(b"\n]")


def _signer() -> str:
    key = receipts.signing_key(settings.GATEWAY_KEY, settings.SECRET_KEY)
    return secp256k1.address_of_key(key)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _hex(octets: bytes) -> str:
    return "0x" + octets.hex()


def _uuid(octets: bytes) -> str:
    digits = octets.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
