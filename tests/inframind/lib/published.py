"""An epoch as a gateway publishes it, made from nothing but the pure rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from inframind.lib import receipts, secp256k1
from inframind.lib.cid import FileBuilder
from inframind.lib.merkle import Tree

CHAIN_ID = 31_337
KEY = bytes([7]) * 32
SIGNER = secp256k1.address_of_key(KEY)
CALLER = "0xdB00079cad3e665853Bf766eFe26F4C38cdbdCDA"
TIME_US = 1_767_323_045_000_000
INPUT_DIGEST = "sha256:" + "1a" * 32
OUTPUT_DIGEST = "sha256:" + "2b" * 32

Document = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of an epoch; everything about it follows from its number."""

    number: int
    fee: int = 10**16
    input_digest: str = INPUT_DIGEST
    output_digest: str = OUTPUT_DIGEST

    @property
    def id(self) -> UUID:
        return UUID(int=(0x0198C0DE << 96) + self.number)

    @property
    def salt(self) -> bytes:
        return self.number.to_bytes(16, "big")

    def commitment(self, time_us: int) -> bytes:
        return receipts.commitment(self.salt, self.details(time_us).digest())

    def details(self, time_us: int) -> receipts.Details:
        return receipts.Details(
            model="summarizer-v1@1.0.0",
            cid="bafymodel",
            node="node-a",
            caller=CALLER,
            input_commitment=receipts.input_commitment(self.salt, self.input_digest),
            output_commitment=receipts.output_commitment(self.salt, self.output_digest),
            latency_us=1500,
            outcome="served",
            time_us=time_us,
            parameters_version=1,
        )

    def leaf(self, time_us: int) -> bytes:
        return receipts.leaf(self.id, self.fee, self.commitment(time_us))


@dataclass(frozen=True)
class Batch:
    """Calls that were committed together."""

    number: int
    calls: tuple[Call, ...]
    epoch: int
    key: bytes = KEY

    @property
    def id(self) -> UUID:
        return UUID(int=self.number + 1)

    @property
    def time_us(self) -> int:
        return TIME_US + self.number

    @property
    def fees(self) -> int:
        return sum(call.fee for call in self.calls)

    @property
    def tree(self) -> Tree:
        return Tree.of([call.leaf(self.time_us) for call in self.calls])

    def signature(self) -> bytes:
        digest = receipts.batch_digest(
            root=self.tree.root,
            epoch=self.epoch,
            count=len(self.calls),
            fees_base_units=self.fees,
            time_us=self.time_us,
            chain_id=CHAIN_ID,
        )
        return secp256k1.sign(self.key, digest)

    def line(self) -> Document:
        return {
            "id": str(self.id),
            "root": "0x" + self.tree.root.hex(),
            "count": len(self.calls),
            "fees": str(self.fees),
            "time": self.time_us,
            "signature": "0x" + self.signature().hex(),
            "signer": SIGNER,
            "receipts": [
                [str(call.id), str(call.fee), "0x" + call.commitment(self.time_us).hex()]
                for call in self.calls
            ],
        }

    def receipt(self, position: int, *, whole: bool = True, state: str = "sealed") -> Document:
        """What ``GET /api/v1/receipts/<id>`` answers."""
        call = self.calls[position]
        document: Document = {
            "id": str(call.id),
            "model": "summarizer-v1@1.0.0",
            "cid": "bafymodel",
            "node": "node-a",
            "outcome": "served",
            "problem": None,
            "attempts": 1,
            "fee": {"base_units": str(call.fee), "text": "0.01 IFM"},
            "latency_ms": 1.5,
            "node_latency_ms": 1.0,
            "created_at": datetime.fromtimestamp(TIME_US // 10**6, UTC)
            .replace(microsecond=self.time_us % 10**6)
            .isoformat(),
            "epoch": self.epoch,
            "epoch_state": state,
            "parameters_version": 1,
            "whole": whole,
            "commitment": "0x" + call.commitment(self.time_us).hex(),
            "input_commitment": "0x"
            + receipts.input_commitment(call.salt, call.input_digest).hex(),
            "output_commitment": "0x"
            + receipts.output_commitment(call.salt, call.output_digest).hex(),
            "leaf": "0x" + call.leaf(self.time_us).hex(),
            "proof": ["0x" + node.hex() for node in self.tree.proof(position)],
            "batch": {
                "id": str(self.id),
                "root": "0x" + self.tree.root.hex(),
                "count": len(self.calls),
                "fees": {"base_units": str(self.fees), "text": ""},
                "time": self.time_us,
                "signer": SIGNER,
                "signature": "0x" + self.signature().hex(),
            },
        }
        if whole:
            document |= {
                "caller": CALLER,
                "linked": False,
                "salt": "0x" + call.salt.hex(),
                "input_digest": call.input_digest,
                "output_digest": call.output_digest,
            }
        return document


@dataclass(frozen=True)
class Epoch:
    """A sealed epoch's receipts. ``lines`` may be spoilt before they are published."""

    number: int
    batches: tuple[Batch, ...]
    lines: list[Document] = field(default_factory=list)

    @classmethod
    def of(cls, calls: Sequence[Sequence[Call]], *, number: int = 1) -> Self:
        batches = tuple(Batch(at, tuple(each), number) for at, each in enumerate(calls))
        made = cls(number, batches)
        header = {
            "format": "inframind-receipts-v1",
            "epoch": number,
            "chain_id": CHAIN_ID,
            "signer": SIGNER,
            "batches": len(batches),
            "count": sum(len(each.calls) for each in batches),
            "fees": str(made.fees),
            "root": "0x" + made.root.hex(),
        }
        made.lines.extend([header, *(each.line() for each in batches)])
        return made

    @property
    def fees(self) -> int:
        return sum(each.fees for each in self.batches)

    @property
    def root(self) -> bytes:
        leaves = [
            receipts.epoch_leaf(each.tree.root, len(each.calls), each.fees) for each in self.batches
        ]
        return Tree.of(leaves).root

    def dump(self) -> bytes:
        return b"".join(json.dumps(line).encode() + b"\n" for line in self.lines)


def cid_of(octets: bytes) -> str:
    """The CID of a file."""
    builder = FileBuilder(lambda *_: None)
    builder.feed(octets)
    return str(builder.finish().cid)
