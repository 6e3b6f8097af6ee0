"""Reading the settlement's events into the books, and halting rather than believing.

Only what has ``CHAIN_CONFIRMATIONS`` blocks, its own included, is read; so nothing is stored that
a shorter reorganisation could take back. Rows of events, the transfers that they become and the
move of the cursor are one transaction. Whatever the node says about a block has to hang together:
each block is the child of the one before, from the block read last up to the confirming one; each
log is in the block of its number and in the receipt of its transaction; and the contract's own
totals and its newest root, as of the last block, are those of all events ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import QuerySet, Sum

from billing.payouts import booking, locks, onchain
from billing.payouts.booking import Impossible, Seen
from billing.payouts.models import Cursor, Event
from inframind.chain import events
from inframind.chain.client import Block, CallReverted, ChainLies, ChainUnavailable, Log
from inframind.chain.contracts import Contracts, Totals
from inframind.chain.events import Happened

log = structlog.get_logger(__name__)

# A week of blocks of twelve seconds; what is further behind takes several rounds.
BLOCKS_A_ROUND: Final = 50_000
UNCONFIRMED: Final = "payouts:unconfirmed"
_UNCONFIRMED_SECONDS: Final = 120


@dataclass(frozen=True)
class Followed:
    """What a round did: ``events`` were booked, the cursor is at ``block``, ``head`` is the chain's
    newest. ``reason`` says why it did nothing, or why the cursor is halted."""

    events: int = 0
    block: int = 0
    head: int = 0
    halted: bool = False
    reason: str = ""


def follow() -> Followed:
    """One round: books what was confirmed since the last one, all of it or nothing.

    Raises nothing for a node that is down, lags or lies: the cursor stays where it is.
    """
    with locks.alone(locks.FOLLOWING) as got:
        if not got:
            return Followed(reason="another worker is following")
        try:
            return _round(onchain.contracts())
        except (ChainUnavailable, CallReverted) as error:
            lies = isinstance(error, ChainLies)
            (log.error if lies else log.warning)("the chain was not followed", reason=str(error))
            return Followed(reason=str(error))


def start_of(contract: str) -> Cursor | None:
    """The cursor of a contract; None before the first round."""
    return Cursor.objects.filter(contract=contract).first()


def _round(contracts: Contracts) -> Followed:
    chain = contracts.chain
    chain.confirm_chain_id()
    cursor = start_of(contracts.settlement) or _begin(contracts)
    if cursor.chain_id != chain.chain_id:
        raise ChainUnavailable(
            f"events were read from chain {cursor.chain_id}, the settings name {chain.chain_id}"
        )
    if cursor.state == Cursor.State.HALTED:
        return Followed(0, cursor.block_number, cursor.head_number, True, cursor.reason)
    head = chain.head()
    if head.number < cursor.head_number:
        raise ChainLies(f"the head went back from {cursor.head_number} to {head.number}")
    needed = settings.CHAIN_CONFIRMATIONS - 1
    target = min(head.number - needed, cursor.block_number + BLOCKS_A_ROUND)
    parent = _where_we_were(contracts, cursor, head)
    if parent is None:
        reason = (
            f"Block {cursor.block_number} was {cursor.block_hash} when it was read, and is another "
            f"one now: a reorganisation went deeper than {settings.CHAIN_CONFIRMATIONS} "
            "confirmations, or the node is on another chain."
        )
        return _halt(cursor, head, reason)
    if target <= cursor.block_number:
        _hear(cursor, head)
        _remember_unconfirmed(contracts, cursor.block_number, head.number)
        return Followed(0, cursor.block_number, head.number)
    blocks = chain.headers(parent, target + needed)
    if target + needed == head.number and blocks[-1].hash != head.hash:
        raise ChainLies(f"the head is {head.hash} and block {head.number} is {blocks[-1].hash}")
    upto = blocks[target - cursor.block_number - 1]
    happened = confirmed(contracts, blocks, upto, Event.objects.all())
    try:
        written = _write(cursor, head, upto, blocks, happened)
    except Impossible as error:
        return _halt(cursor, head, str(error))
    _remember_unconfirmed(contracts, upto.number, head.number)
    return Followed(written, upto.number, head.number)


def confirmed(
    contracts: Contracts, blocks: Sequence[Block], upto: Block, before: QuerySet[Event]
) -> list[Happened]:
    """The events in these blocks up to one of them, checked against all else the node says.

    ``before``: all events before these blocks. Raises ``ChainLies``.
    """
    chain = contracts.chain
    by_number = {block.number: block for block in blocks}
    first = blocks[0].number
    logs = chain.logs({contracts.ifm, contracts.settlement}, events.topics(), first, upto.number)
    for each in logs:
        canonical = by_number[each.block_number]
        if each.block_hash != canonical.hash:
            raise ChainLies(
                f"a log is said to be in block {each.block_number} as {each.block_hash}, while "
                f"that block is {canonical.hash}"
            )
    _check_receipts(contracts, logs)
    happened = read_all(contracts, logs)
    _check_totals(contracts, sums(before), happened, upto)
    _check_root(contracts, before, happened, upto)
    return happened


def read_all(contracts: Contracts, logs: Sequence[Log]) -> list[Happened]:
    """The events that these logs are. Raises ``ChainLies``."""
    read = (events.read(each, ifm=contracts.ifm, settlement=contracts.settlement) for each in logs)
    return [each for each in read if each is not None]


def _begin(contracts: Contracts) -> Cursor:
    """The cursor before anything was read: at the block before the contract's first one."""
    chain = contracts.chain
    for address in (contracts.ifm, contracts.settlement):
        if not chain.code_at(address):
            raise ChainUnavailable(f"there is no contract at {address} on chain {chain.chain_id}")
    if contracts.token() != contracts.ifm:
        raise ChainUnavailable(
            f"the settlement at {contracts.settlement} works with {contracts.token()}, not with "
            f"{contracts.ifm}"
        )
    number = max(0, settings.SETTLEMENT_BLOCK - 1)
    block = chain.block(number)
    if block is None:
        raise ChainUnavailable(f"the node has no block {number} yet, where reading begins")
    cursor, _ = Cursor.objects.get_or_create(
        contract=contracts.settlement,
        defaults={
            "chain_id": chain.chain_id,
            "block_number": block.number,
            "block_hash": block.hash,
        },
    )
    return cursor


def _where_we_were(contracts: Contracts, cursor: Cursor, head: Block) -> Block | None:
    """The block at the cursor; None where the chain has another one there, and stands by it."""
    if cursor.block_number > head.number:
        raise ChainUnavailable(
            f"the node is at block {head.number} and lags behind {cursor.block_number}"
        )
    [block] = contracts.chain.blocks(cursor.block_number, cursor.block_number)
    assert block is not None
    if block.hash == cursor.block_hash:
        return block
    # A node behind a balancer may give one wrong answer; a chain that went another way gives
    # blocks that follow each other.
    last = min(head.number, block.number + settings.CHAIN_CONFIRMATIONS)
    contracts.chain.headers(block, last)
    again = contracts.chain.block(cursor.block_number)
    if again is None or again.hash != block.hash:
        raise ChainLies(f"block {cursor.block_number} is another one at each question")
    return None


def _check_receipts(contracts: Contracts, logs: Sequence[Log]) -> None:
    """Raises ``ChainLies`` where logs and receipts of the same transactions differ."""
    hashes = list(dict.fromkeys(each.transaction_hash for each in logs))
    addresses = {contracts.ifm, contracts.settlement}
    topics = set(events.topics())
    told: list[Log] = []
    for sought, receipt in zip(hashes, contracts.chain.receipts(hashes), strict=True):
        if receipt is None or not receipt.succeeded:
            raise ChainLies(f"there are logs of {sought}, which is in no block, or failed")
        told += [
            each
            for each in receipt.logs
            if each.address in addresses and each.topics and each.topics[0] in topics
        ]
    told.sort(key=lambda each: (each.block_number, each.index))
    if told != list(logs):
        raise ChainLies("logs and receipts of the same transactions differ")


def sums(booked: QuerySet[Event]) -> Totals:
    """All deposits, claims and withdrawals of these events."""
    rows = booked.values("kind").annotate(total=Sum("amount_base_units"))
    by_kind = {row["kind"]: int(row["total"] or 0) for row in rows.order_by()}
    return Totals(
        by_kind.get(Event.Kind.DEPOSITED, 0),
        by_kind.get(Event.Kind.CLAIMED, 0),
        by_kind.get(Event.Kind.WITHDRAWN, 0),
    )


def _check_totals(
    contracts: Contracts, before: Totals, happened: Sequence[Happened], upto: Block
) -> None:
    """Raises ``ChainLies`` where a log is missing, or says another amount than the contract."""

    def fresh(name: str) -> int:
        return sum(each.arguments["amount"] for each in happened if each.name == name)

    expected = Totals(
        before.deposited + fresh("Deposited"),
        before.claimed + fresh("Claimed"),
        before.withdrawn + fresh("Withdrawn"),
    )
    found = contracts.totals(upto)
    if found != expected:
        raise ChainLies(
            f"by its events the contract has {_shown(expected)} at block {upto.number}, by its own "
            f"word {_shown(found)}: the node leaves events out, or tells them wrong"
        )


def _check_root(
    contracts: Contracts, before: QuerySet[Event], happened: Sequence[Happened], upto: Block
) -> None:
    """Raises ``ChainLies`` where a proposal or a revocation is missing, or says another root."""
    rows = before.filter(kind__in=[Event.Kind.ROOT_PROPOSED, Event.Kind.ROOT_REVOKED])
    told = [
        (kind, number, bytes(root or b""), int(total))
        for kind, number, root, total in rows.order_by("block_number", "log_index").values_list(
            "kind", "epoch_number", "root", "amount_base_units"
        )
    ]
    for each in happened:
        said = each.arguments
        if each.name == "RootProposed":
            told.append((Event.Kind.ROOT_PROPOSED, said["epoch"], said["root"], said["total"]))
        elif each.name == "RootRevoked":
            told.append((Event.Kind.ROOT_REVOKED, said["epoch"], b"", 0))
    standing = [(0, bytes(32), 0)]
    for kind, number, root, total in told:
        if kind == Event.Kind.ROOT_PROPOSED:
            standing.append((number or 0, root, total))
        elif standing[-1][0] == number:
            standing.pop()
    newest = contracts.pending_epoch(upto) or contracts.root_epoch(upto)
    there = contracts.root_of(newest, upto)
    if (newest, there.root, there.total) != standing[-1]:
        raise ChainLies(
            f"by its events the newest root is that of epoch {standing[-1][0]} at block "
            f"{upto.number}, by the contract's own word that of epoch {newest}, or another one: "
            "the node leaves events out, or tells them wrong"
        )


def _shown(totals: Totals) -> str:
    return f"{totals.deposited} deposited, {totals.claimed} claimed, {totals.withdrawn} withdrawn"


def _write(
    cursor: Cursor,
    head: Block,
    upto: Block,
    blocks: Sequence[Block],
    happened: Sequence[Happened],
) -> int:
    with transaction.atomic():
        kept = Cursor.objects.select_for_update().get(pk=cursor.pk)
        if (kept.block_number, kept.block_hash, kept.state) != (
            cursor.block_number,
            cursor.block_hash,
            cursor.state,
        ):
            raise ChainUnavailable("another worker has moved the cursor")
        write(kept, head, upto, blocks, happened)
    return len(happened)


def write(
    cursor: Cursor,
    head: Block,
    upto: Block,
    blocks: Sequence[Block],
    happened: Sequence[Happened],
) -> None:
    """Rows, books and the cursor, which is locked, in the transaction at hand.

    Raises ``Impossible``; the transaction has to be rolled back then.
    """
    times = {block.number: booking.at(block.time) for block in blocks}
    rows = Event.objects.bulk_create(
        [booking.event_of(each, times[each.log.block_number]) for each in happened]
    )
    chain_time = booking.at(upto.time)
    seen = [Seen(each, row) for each, row in zip(happened, rows, strict=True)]
    booking.book(seen, chain_time=chain_time)
    booking.expire(chain_time=chain_time)
    booking.open_claims(chain_time=chain_time)
    cursor.block_number, cursor.block_hash = upto.number, upto.hash
    cursor.head_number = head.number
    cursor.heard_at = cursor.updated_at = datetime.now(UTC)
    cursor.save()


def _hear(cursor: Cursor, head: Block) -> None:
    Cursor.objects.filter(pk=cursor.pk, head_number__lte=head.number).update(
        head_number=head.number, heard_at=datetime.now(UTC)
    )


def _halt(cursor: Cursor, head: Block, reason: str) -> Followed:
    Cursor.objects.filter(pk=cursor.pk, state=Cursor.State.FOLLOWING).update(
        state=Cursor.State.HALTED, reason=reason, updated_at=datetime.now(UTC)
    )
    log.error("crediting is halted until a person runs resume_chain", reason=reason)
    return Followed(0, cursor.block_number, head.number, True, reason)


def _remember_unconfirmed(contracts: Contracts, after: int, head: int) -> None:
    """Keeps deposits that wait for confirmations where pages find them, for as long as it is news.

    Nothing is credited by it, so nothing is checked, and a failure is none of the round's.
    """
    waiting: list[dict[str, Any]] = []
    if head > after:
        topics = [events.topic_of("Deposited")]
        try:
            found = contracts.chain.logs({contracts.settlement}, topics, after + 1, head)
            happened = read_all(contracts, found)
        except (ChainUnavailable, CallReverted) as error:
            log.warning("waiting deposits were not read", reason=str(error))
            return
        waiting = [
            {
                "transaction": each.log.transaction_hash,
                "account": each.arguments["account"],
                "sender": each.arguments["from"],
                "amount": str(each.arguments["amount"]),
                "block": each.log.block_number,
            }
            for each in happened
        ]
    cache.set(UNCONFIRMED, waiting, _UNCONFIRMED_SECONDS)
