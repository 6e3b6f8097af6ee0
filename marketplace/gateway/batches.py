"""Rows of calls that are committed together, and the signed tree over their receipts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Self
from uuid import UUID

import psycopg
from django.conf import settings
from psycopg import AsyncConnection, pq
from psycopg.adapt import Dumper

from inframind.lib import receipts, secp256k1
from inframind.lib.merkle import Tree
from marketplace.gateway import binary

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final[tuple[tuple[str, Callable[[Sequence[Any]], bytes]], ...]] = (
    ("call_id", binary.uuids),
    ("version_id", binary.uuids),
    ("wallet", binary.texts),
    ("token_id", binary.uuids),
    ("node_id", binary.uuids),
    ("node_name", binary.texts),
    ("outcome", binary.texts),
    ("problem_code", binary.texts),
    ("attempts", binary.bigints),
    ("fee_base_units", binary.numerics),
    ("latency_us", binary.bigints),
    ("node_latency_us", binary.bigints),
    ("input_digest", binary.rare_texts),
    ("output_digest", binary.rare_texts),
    ("payout_address", binary.texts),
    ("operator_address", binary.texts),
    ("linked", binary.booleans),
    ("salt", binary.octets),
    ("missed_nodes", binary.uuid_lists),
)
_ENCODERS: Final = tuple(encoder for _, encoder in _COLUMNS)
_values_of: Final = attrgetter(*(name for name, _ in _COLUMNS))
PARAMETERS: Final = 10 + len(_COLUMNS)
# Takes ``parameters_of`` a batch. The database raises ``psycopg.IntegrityError`` or ``DataError``
# for what it refuses.
WRITE: Final = f"SELECT gateway_write({', '.join(['%s'] * PARAMETERS)})"


class Encoded(bytes):
    """A parameter that is in binary already, of the type that the statement says."""

    __slots__ = ()


class EncodedDumper(Dumper):
    """Hands it on as it is."""

    format = pq.Format.BINARY

    def dump(self, obj: Encoded) -> bytes:
        return obj


# For connections that are opened from here on.
psycopg.adapters.register_dumper(Encoded, EncodedDumper)


# Not frozen, which would make one take three times as long; nobody changes one all the same.
@dataclass(slots=True)
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
    missed_nodes: Sequence[UUID] = ()
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(receipts.SALT_BYTES))

    def refused(self, problem_code: str) -> Self:
        """The row of the same call once it turned out that it cannot be delivered."""
        return replace(
            self, outcome="refused", problem_code=problem_code, fee_base_units=0, output_digest=""
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """The row of a ``gateway.models.Batch`` to be; times are the database's, fees base units."""

    id: UUID
    epoch: int
    parameters_version: int
    time_us: int
    root: bytes
    leaves: bytes
    count: int
    fees_base_units: int
    signer: str
    signature: bytes


def sealed(
    batch_id: UUID,
    rows: Sequence[Row],
    *,
    epoch: int,
    parameters_version: int,
    time_us: int,
    heads: Sequence[bytes] | None = None,
) -> Sealed:
    """A batch of rows, signed, all of the database's time ``time_us``.

    ``heads``: their ``receipts.head_of``, where they are known. Raises ValueError for a row whose
    digests are none, OverflowError for a number that no receipt holds.
    """
    leaves = receipts.leaves_of(
        rows, time_us=time_us, parameters_version=parameters_version, heads=heads
    )
    root = Tree.of(leaves).root
    fees = sum([row.fee_base_units for row in rows])
    key = signing_key()
    digest = receipts.batch_digest(
        root=root,
        epoch=epoch,
        count=len(rows),
        fees_base_units=fees,
        time_us=time_us,
        chain_id=settings.CHAIN_ID,
    )
    return Sealed(
        id=batch_id,
        epoch=epoch,
        parameters_version=parameters_version,
        time_us=time_us,
        root=root,
        leaves=b"".join(leaves),
        count=len(rows),
        fees_base_units=fees,
        signer=_address_of(key),
        signature=secp256k1.sign(key, digest),
    )


def parameters_of(batch: Sealed, rows: Sequence[Row]) -> list[bytes]:
    """What the function ``gateway_write`` takes for a batch and its rows, in binary.

    Raises OverflowError for a number beyond 64 bits, ValueError for text that is none.
    """
    return [
        batch.id.bytes,
        binary.bigint(batch.epoch),
        binary.integer(batch.parameters_version),
        binary.timestamp(batch.time_us),
        binary.bigint(batch.time_us),
        batch.root,
        batch.leaves,
        binary.numeric(batch.fees_base_units),
        batch.signer.encode(),
        batch.signature,
        *(
            encode(column)
            for encode, column in zip(
                _ENCODERS, zip(*map(_values_of, rows), strict=True), strict=True
            )
        ),
    ]


async def write_on(database: AsyncConnection[Any], batch: Sealed, rows: Sequence[Row]) -> None:
    """Writes a batch and its rows, in the transaction that its caller has begun."""
    parameters = [Encoded(each) for each in parameters_of(batch, rows)]
    await database.execute(WRITE, parameters, prepare=True)


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
