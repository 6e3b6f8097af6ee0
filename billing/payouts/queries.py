"""What is asked of payouts: what came in, what went out, and how far the chain is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.core.cache import cache
from django.db.models import QuerySet, Sum
from psycopg import AsyncConnection

from billing.payouts import onchain
from billing.payouts.following import UNCONFIRMED
from billing.payouts.models import Cursor, Event, Transaction, Withdrawal
from inframind.chain.client import CallReverted, ChainUnavailable

_PROTOCOL: Final = "payouts:protocol"
_LATE_SECONDS: Final = 120


@dataclass(frozen=True)
class Deposit:
    """A deposit that was seen on chain. ``at`` is the time of its block, None before it is
    credited; ``confirmations`` counts its own block, up to ``needed``."""

    transaction: str
    amount_base_units: int
    sender: str
    is_credited: bool
    confirmations: int
    needed: int
    at: datetime | None


@dataclass(frozen=True)
class ChainStatus:
    """How far the chain is read. ``lag_blocks``: confirmed blocks that are not read yet.

    ``is_late``: the node has not answered for minutes. All zero where no chain is configured or
    none was read yet.
    """

    is_configured: bool
    block: int
    head: int
    lag_blocks: int
    is_halted: bool
    reason: str
    heard_at: datetime | None
    is_late: bool


@dataclass(frozen=True)
class Protocol:
    """What the contract and our key say of themselves; None where the chain was not asked yet or
    does not answer."""

    voucher_signer: str | None
    challenge_seconds: int | None


@dataclass(frozen=True)
class TransactionState:
    """``state``: pending, mined, reverted or unknown."""

    hash: str
    state: str
    block: int | None
    confirmations: int


def deposits_of(address: str, *, limit: int = 50) -> list[Deposit]:
    """The newest deposits for a wallet, those first that wait for confirmations."""
    needed = settings.CHAIN_CONFIRMATIONS
    cursor = _cursor()
    head = cursor.head_number if cursor else 0
    read = cursor.block_number if cursor else 0
    waiting = [
        Deposit(
            transaction=each["transaction"],
            amount_base_units=int(each["amount"]),
            sender=each["sender"],
            is_credited=False,
            confirmations=min(needed, max(1, head - each["block"] + 1)),
            needed=needed,
            at=None,
        )
        for each in cache.get(UNCONFIRMED) or []
        if each["account"] == address and each["block"] > read
    ]
    credited = Event.objects.filter(account=address, kind=Event.Kind.DEPOSITED).order_by(
        "-block_number", "-log_index"
    )
    return waiting[::-1] + [
        Deposit(
            transaction=event.transaction_hash,
            amount_base_units=int(event.amount_base_units),
            sender=event.sender,
            is_credited=True,
            confirmations=needed,
            needed=needed,
            at=event.mined_at,
        )
        for event in credited[:limit]
    ]


def withdrawals_of(address: str) -> QuerySet[Withdrawal]:
    """A wallet's withdrawals, the newest first, each with the event that paid it."""
    return Withdrawal.objects.filter(wallet_id=address).select_related("event")


def transactions_of(address: str) -> QuerySet[Transaction]:
    """What we send for a wallet, the newest first."""
    return Transaction.objects.filter(wallet_id=address).order_by("-created_at")


def claims_of(address: str) -> dict[str, int]:
    """What was paid for the earnings of an address, by stream (0x and 64 digits), in base units."""
    rows = (
        Event.objects.filter(account=address, kind=Event.Kind.CLAIMED)
        .order_by()
        .values_list("stream")
        .annotate(total=Sum("amount_base_units"))
    )
    return {"0x" + bytes(stream).hex(): int(total) for stream, total in rows}


async def delegations_on(
    database: AsyncConnection[Any], addresses: Collection[str]
) -> dict[str, str]:
    """To whom the votes of these addresses go on chain; who never delegated is left out."""
    cursor = await database.execute(
        "SELECT address, delegate FROM payouts_delegation WHERE address = ANY(%s)",
        [list(addresses)],
    )
    return dict(await cursor.fetchall())


def chain_status() -> ChainStatus:
    """How far the chain is read, from what the last round noted; asks no node."""
    cursor = _cursor()
    if cursor is None:
        return ChainStatus(onchain.configured(), 0, 0, 0, False, "", None, False)
    confirmed = cursor.head_number - settings.CHAIN_CONFIRMATIONS + 1
    heard = cursor.heard_at
    late = heard is None or (datetime.now(UTC) - heard).total_seconds() > _LATE_SECONDS
    return ChainStatus(
        is_configured=onchain.configured(),
        block=cursor.block_number,
        head=cursor.head_number,
        lag_blocks=max(0, confirmed - cursor.block_number),
        is_halted=cursor.state == Cursor.State.HALTED,
        reason=cursor.reason,
        heard_at=heard,
        is_late=late,
    )


def protocol() -> Protocol:
    """Asks the contract once in a process's and cache's life; never raises."""
    try:
        signer = onchain.operator() if settings.CHAIN_KEY else None
    except (ChainUnavailable, ValueError):
        signer = None
    name = f"{_PROTOCOL}:{settings.CHAIN_ID}:{settings.SETTLEMENT_ADDRESS}"
    seconds = cache.get(name)
    if seconds is None and onchain.configured():
        try:
            seconds = onchain.contracts().challenge_seconds()
            cache.set(name, seconds, None)
        except (ChainUnavailable, CallReverted):
            seconds = None
    return Protocol(signer, seconds)


def transaction_state(transaction_hash: str) -> TransactionState:
    """What the chain knows of anybody's transaction. Raises a 503 ``Problem`` without a chain."""
    with onchain.for_somebody() as contracts:
        chain = contracts.chain
        [receipt] = chain.receipts([transaction_hash.lower()])
        if receipt is None:
            known = chain.knows(transaction_hash.lower())
            return TransactionState(transaction_hash, "pending" if known else "unknown", None, 0)
        head = chain.head().number
        return TransactionState(
            transaction_hash,
            "mined" if receipt.succeeded else "reverted",
            receipt.block_number,
            max(0, head - receipt.block_number + 1),
        )


def _cursor() -> Cursor | None:
    return Cursor.objects.filter(contract__iexact=settings.SETTLEMENT_ADDRESS).first()
