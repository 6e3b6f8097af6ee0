"""Rows of calls that are committed together, and the signed tree over their receipts."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Self
from uuid import UUID

import orjson
from django.conf import settings

from inframind.lib import receipts, secp256k1
from inframind.lib.merkle import Tree

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSERT_BATCH: Final = """
    INSERT INTO gateway_batch (
        id, epoch, root, leaves, count, fees_base_units, time_us, signer, signature
    ) VALUES (
        %(id)s, %(epoch)s, %(root)s, %(leaves)s, %(count)s, %(fees)s, %(time_us)s, %(signer)s,
        %(signature)s
    )
"""
INSERT_CALLS: Final = """
    INSERT INTO gateway_call (
        id, version_id, wallet_id, token_id, node_id, node_name, outcome, problem_code, attempts,
        fee_base_units, latency_us, node_latency_us, input_digest, output_digest, payout_address,
        operator_address, linked, salt, batch_index, batch_id, epoch, parameters_version, created_at
    )
    SELECT given.*, %(id)s, %(epoch)s, %(parameters_version)s, %(at)s
    FROM json_to_recordset(%(rows)s::json) AS given (
        call_id uuid, version_id uuid, wallet text, token_id uuid, node_id uuid, node_name text,
        outcome text, problem_code text, attempts int, fee_base_units numeric, latency_us bigint,
        node_latency_us bigint, input_digest text, output_digest text, payout_address text,
        operator_address text, linked boolean, salt bytea, batch_index int
    )
"""
# In one statement: a batch without its rows, or rows without their batch, cannot be. The database
# raises ``psycopg.IntegrityError`` or ``DataError`` for what it refuses.
INSERT: Final = f"WITH batch AS ({_INSERT_BATCH}) {INSERT_CALLS}"
_COLUMNS: Final = (
    "call_id", "version_id", "wallet", "token_id", "node_id", "node_name", "outcome",
    "problem_code", "attempts", "latency_us", "node_latency_us", "input_digest", "output_digest",
    "payout_address", "operator_address", "linked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A ``gateway.models.Call`` to be, but for what its batch gives it; the fee in base units.

    ``model`` (``name@version``) and ``cid`` are the version's, for the receipt.
    """

    call_id: UUID
    version_id: UUID
    model: str
    cid: str
    wallet: str | None
    token_id: UUID | None
    node_id: UUID | None
    node_name: str
    outcome: str
    problem_code: str
    attempts: int
    fee_base_units: int
    latency_us: int
    node_latency_us: int
    input_digest: str
    output_digest: str
    payout_address: str
    operator_address: str
    linked: bool = False
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(receipts.SALT_BYTES))

    def refused(self, problem_code: str) -> Self:
        """The row of the same call once it turned out that it cannot be delivered."""
        return replace(
            self, outcome="refused", problem_code=problem_code, fee_base_units=0, output_digest=""
        )


def sealed(
    batch_id: UUID, rows: Sequence[Row], *, epoch: int, parameters_version: int, at: datetime
) -> dict[str, Any]:
    """The parameters of ``INSERT`` for a batch of rows, signed, all of the database's time ``at``.

    Raises ValueError for a row whose digests are none.
    """
    time_us = microseconds(at)
    leaves = receipts.leaves_of(rows, time_us=time_us, parameters_version=parameters_version)
    root = Tree.of(leaves).root
    fees = sum(row.fee_base_units for row in rows)
    key = signing_key()
    digest = receipts.batch_digest(
        root=root,
        epoch=epoch,
        count=len(rows),
        fees_base_units=fees,
        time_us=time_us,
        chain_id=settings.CHAIN_ID,
    )
    return {
        "rows": as_json(rows),
        "id": batch_id,
        "epoch": epoch,
        "parameters_version": parameters_version,
        "at": at,
        "time_us": time_us,
        "root": root,
        "leaves": b"".join(leaves),
        "count": len(rows),
        "fees": fees,
        "signer": signer(),
        "signature": secp256k1.sign(key, digest),
    }


def as_json(rows: Sequence[Row]) -> str:
    """The rows as ``INSERT_CALLS`` takes them: one document is written and read many times faster
    than a list per column. Raises TypeError for a number beyond 64 bits."""
    return orjson.dumps(
        [
            {name: getattr(row, name) for name in _COLUMNS}
            | {
                "fee_base_units": str(row.fee_base_units),
                "salt": f"\\x{row.salt.hex()}",
                "batch_index": index,
            }
            for index, row in enumerate(rows)
        ]
    ).decode()


def microseconds(at: datetime) -> int:
    """Unix microseconds of an aware time."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def signing_key() -> bytes:
    """The private key that signs receipts."""
    return _signing_key(settings.GATEWAY_KEY, settings.SECRET_KEY)


def signer() -> str:
    """The address whose signature receipts carry."""
    return _address_of(signing_key())


@lru_cache(maxsize=2)
def _address_of(key: bytes) -> str:
    return secp256k1.address_of_key(key)


@lru_cache(maxsize=2)
def _signing_key(configured: str, secret: str) -> bytes:
    return receipts.signing_key(configured, secret)
