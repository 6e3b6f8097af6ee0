"""What an epoch is made of, as whoever keeps the receipts hands it over.

Billing knows wallets and opaque subjects, never a model: the app that has the calls registers a
``Receipts`` here when it is ready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Charge:
    """What one wallet owes for an epoch's calls."""

    wallet: str
    fees_base_units: int


@dataclass(frozen=True)
class Revenue:
    """Fees of which a payee gets a share, summed over an epoch's calls.

    ``subject`` is the stream's, ``hidden`` whether its name is nobody's business but the payee's,
    ``share`` a ``models.Line.Share``. Every fee comes up once per share.
    """

    address: str
    subject: str
    hidden: bool
    share: str
    parameters_version: int
    calls: int
    fees_base_units: int


@dataclass(frozen=True)
class SoFar:
    """Calls recorded in an epoch, of whatever outcome, and their fees; no wallet, no model."""

    calls: int
    fees_base_units: int


@dataclass(frozen=True)
class SignedBatch:
    """Receipts that were committed together, signed once.

    ``leaves``: id (16 bytes), fee and commitment (32 bytes) of each receipt, in the batch's order.
    """

    id: bytes
    root: bytes
    count: int
    fees_base_units: int
    time_us: int
    signer: str
    signature: bytes
    leaves: tuple[tuple[bytes, int, bytes], ...]


class Receipts(Protocol):
    """The keeper of receipts. Every method reads or writes on Django's connection."""

    def prepare(self, epoch: int) -> None:
        """Makes room for an epoch, inside the transaction that opens it. Twice is as once."""

    def charges(self, epoch: int) -> Iterator[Charge]:
        """What each wallet owes for an epoch that is closed, wallets with nothing left out."""

    def revenue(self, epoch: int) -> Iterator[Revenue]:
        """Whose share of what, for an epoch that is closed."""

    def batches(self, epoch: int) -> Iterator[SignedBatch]:
        """An epoch's batches, ordered by time and id."""

    def so_far(self, epoch: int) -> SoFar:
        """What was recorded in an epoch until now, one that is open included."""

    def unposted(self) -> dict[str, int]:
        """Fees per wallet of all epochs that were not posted yet, the open one included."""

    def secret(self, subjects: Collection[str]) -> set[str]:
        """Those of these subjects whose names are nobody's business now, though they may have been
        public when they earned."""

    def retire(self, epoch: int) -> None:
        """Lets an epoch's receipts leave the database; their dump stays."""


_source: Receipts | None = None


def register(source: Receipts) -> None:
    """Names the one keeper of receipts; the last one counts."""
    global _source
    _source = source


def receipts() -> Receipts:
    """The keeper. Raises ``RuntimeError`` where no app registered one."""
    if _source is None:
        raise RuntimeError("No app keeps receipts: billing.epochs.sources.register was not called.")
    return _source
