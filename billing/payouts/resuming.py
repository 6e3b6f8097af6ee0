"""After a halt: what the chain took back is taken out of the books, and reading goes on.

Only a person starts this, with a reason. The last block whose events still stand is sought; the
events above it are booked as the chain has them now, and what they said before is undone, all in
one transaction. Money that came by a deposit the chain no longer has, and that was spent since,
keeps it from happening.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from billing.epochs.models import Epoch
from billing.ledger import codes
from billing.ledger import services as ledger
from billing.ledger.models import Reason
from billing.ledger.services import HoldRequest, InsufficientFunds, Posting, transfer_id
from billing.payouts import following, onchain
from billing.payouts.booking import Impossible
from billing.payouts.models import Cursor, Event, Withdrawal
from inframind.chain.client import Block
from inframind.chain.contracts import Contracts
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem

log = structlog.get_logger(__name__)

_UNDONE: Final = "undone"


@dataclass(frozen=True)
class Resumed:
    """``undone`` events were taken back, ``booked`` came instead; ``block``: the last read."""

    undone: int
    booked: int
    block: int


def resume(*, reason: str) -> Resumed:
    """Lets a halted cursor go on. Raises a ``Problem``: 409 where it is not halted, where a deposit
    that is gone was spent, or where the chain still says what cannot be; 503 without a chain."""
    if not reason.strip():
        raise Problem(
            "reason-missing",
            "Why crediting goes on is not said.",
            status=422,
            remedy="Say what was found and done, in a sentence.",
        )
    with onchain.for_somebody() as contracts, transaction.atomic():
        contracts.chain.confirm_chain_id()
        cursor = Cursor.objects.select_for_update().filter(pk=contracts.settlement).first()
        if cursor is None or cursor.state != Cursor.State.HALTED:
            raise Problem(
                "not-halted",
                "Crediting is not halted.",
                status=409,
                remedy="There is nothing to resume.",
            )
        before = cursor.reason
        resumed = _resume(contracts, cursor)
        cursor.state = Cursor.State.FOLLOWING
        cursor.reason = f"Resumed: {reason.strip()[:500]}"
        cursor.updated_at = datetime.now(UTC)
        cursor.save()
    log.warning(
        "crediting goes on",
        reason=reason,
        halted_by=before,
        undone=resumed.undone,
        booked=resumed.booked,
    )
    return resumed


def _resume(contracts: Contracts, cursor: Cursor) -> Resumed:
    chain = contracts.chain
    block = chain.block(cursor.block_number)
    if block is not None and block.hash == cursor.block_hash:
        return Resumed(0, 0, cursor.block_number)
    anchor = _last_standing(contracts)
    gone = list(
        Event.objects.filter(block_number__gt=anchor.number).order_by("block_number", "log_index")
    )
    head = chain.head()
    needed = settings.CHAIN_CONFIRMATIONS - 1
    target = max(anchor.number, head.number - needed)
    blocks = chain.headers(anchor, min(head.number, target + needed))
    upto = anchor if target == anchor.number else blocks[target - anchor.number - 1]
    kept = Event.objects.filter(block_number__lte=anchor.number)
    happened = (
        following.confirmed(contracts, blocks, upto, kept) if upto.number > anchor.number else []
    )
    names = {
        codes.CHAIN,
        *(codes.wallet_code(e.account) for e in gone if e.kind in _OF_WALLETS),
        *(codes.wallet_code(h.arguments["account"]) for h in happened if h.name in _BY_WALLET),
        *(codes.owed_code(e.account, bytes(e.stream or b"")) for e in gone if e.stream),
    }
    ledger.locked(names)
    _give_back(gone)
    deposits = [event for event in gone if event.kind == Event.Kind.DEPOSITED]
    Event.objects.filter(pk__in=[event.pk for event in gone]).delete()
    try:
        following.write(cursor, head, upto, blocks, happened)
    except Impossible as error:
        raise _still_impossible(str(error)) from error
    _take_back(deposits)
    return Resumed(len(gone), len(happened), upto.number)


_OF_WALLETS: Final = (Event.Kind.DEPOSITED, Event.Kind.WITHDRAWN)
_BY_WALLET: Final = ("Deposited", "Withdrawn")


def _last_standing(contracts: Contracts) -> Block:
    """The newest block with an event that the chain still has, or the one before all of them."""
    numbers = (
        Event.objects.order_by("-block_number").values_list("block_number", "block_hash").distinct()
    )
    for number, block_hash in numbers.iterator():
        block = contracts.chain.block(number)
        if block is not None and block.hash == block_hash:
            return block
    [block] = contracts.chain.blocks(*[max(0, settings.SETTLEMENT_BLOCK - 1)] * 2)
    assert block is not None
    return block


def _give_back(gone: Sequence[Event]) -> None:
    """Undoes what left the books: claims, withdrawals, and what was known of roots."""
    claims = [event for event in gone if event.kind == Event.Kind.CLAIMED]
    paid = {
        row.event_id: row
        for row in Withdrawal.objects.select_for_update().filter(event__in=[e.pk for e in gone])
    }
    withdrawn = [event for event in gone if event.pk in paid]
    ledger.post(
        [
            Posting(
                _undone(event),
                codes.CHAIN,
                codes.owed_code(event.account, bytes(event.stream or b"")),
                int(event.amount_base_units),
                Reason.CLAIM,
                f"{_UNDONE}:{event.transaction_hash}",
            )
            for event in claims
            if event.amount_base_units
        ]
        + [
            Posting(
                _undone(event),
                codes.CHAIN,
                codes.wallet_code(event.account),
                int(event.amount_base_units),
                Reason.WITHDRAWAL,
                f"{_UNDONE}:withdrawal:{paid[event.pk].pk}",
            )
            for event in withdrawn
        ]
    )
    for event in withdrawn:
        row = paid[event.pk]
        row.hold_id = new_uuid7()
        row.state, row.event, row.ended_at = Withdrawal.State.OPEN, None, None
        ledger.hold(
            [
                HoldRequest(
                    row.hold_id,
                    codes.wallet_code(row.wallet_id),
                    codes.CHAIN,
                    int(row.amount_base_units),
                    Reason.WITHDRAWAL,
                    f"withdrawal:{row.pk}",
                )
            ]
        )
        row.save()
    proposed = [e.epoch_number or 0 for e in gone if e.kind == Event.Kind.ROOT_PROPOSED]
    Epoch.objects.filter(
        pk__in=proposed, state__in=[Epoch.State.PROPOSED, Epoch.State.CLAIMABLE]
    ).update(state=Epoch.State.SEALED, proposed_at=None, claimable_at=None)


def _take_back(deposits: Sequence[Event]) -> None:
    for event in deposits:
        if not event.amount_base_units:
            continue
        try:
            ledger.post(
                [
                    Posting(
                        _undone(event),
                        codes.wallet_code(event.account),
                        codes.CHAIN,
                        int(event.amount_base_units),
                        Reason.DEPOSIT,
                        f"{_UNDONE}:{event.transaction_hash}",
                    )
                ]
            )
        except InsufficientFunds as error:
            raise Problem(
                "deposit-gone-and-spent",
                f"The chain no longer has the deposit of {int(event.amount_base_units)} base units "
                f"for {event.account} (transaction {event.transaction_hash}), and it was spent or "
                f"set aside since. {error.detail}",
                status=409,
                remedy="Have it deposited again, or cover it from the treasury, then resume.",
            ) from error


def _undone(event: Event) -> UUID:
    return transfer_id(_UNDONE, event.transaction_hash, event.block_hash, str(event.log_index))


def _still_impossible(what: str) -> Problem:
    return Problem(
        "chain-differs",
        f"The chain still says what the books cannot follow: {what}",
        status=409,
        remedy="Run reconcile, put the named rows right, then resume.",
    )
